"""Scrapy with a JOBDIR, by which it goes on after a stop, and a feed of JSON lines; it tries again by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import scrapy
from job import CLASSES, HEADERS, OPTIONS, Job, read_job
from scrapy.crawler import CrawlerProcess
from scrapy.http import JsonRequest, Response, TextResponse


class Classify(scrapy.Spider):
    name = "classify"

    def __init__(self, job: Job, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job = job

    async def start(self) -> AsyncIterator[scrapy.Request]:
        for video_ids in self.job.chunks():
            asked = {"video_ids": video_ids, "classes": CLASSES, **OPTIONS}
            yield JsonRequest(self.job.classify_url, data=asked, headers=HEADERS)

    def parse(self, response: Response) -> Iterator[Any]:
        assert isinstance(response, TextResponse)
        page = response.json()
        yield from page["data"]
        if token := page["page_info"].get("next_page_token"):
            yield scrapy.Request(f"{self.job.classify_url}/{token}", headers=HEADERS)


def main(job: Job) -> None:
    process = CrawlerProcess(
        {
            "JOBDIR": str(job.folder / "crawl"),
            "FEEDS": {str(job.rows): {"format": "jsonlines"}},
            "CONCURRENT_REQUESTS_PER_DOMAIN": 8,
            "DOWNLOAD_DELAY": job.pause_seconds,
            "DOWNLOAD_TIMEOUT": 600,
            "RANDOMIZE_DOWNLOAD_DELAY": False,
            "COOKIES_ENABLED": False,
            "TELNETCONSOLE_ENABLED": False,
            "LOG_LEVEL": "ERROR",
        }
    )
    process.crawl(Classify, job=job)
    process.start()


if __name__ == "__main__":
    main(read_job())
