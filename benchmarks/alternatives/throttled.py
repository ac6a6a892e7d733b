"""The script that everybody has written: requests, a pause after each call, rows appended to a file, errors printed."""

from __future__ import annotations

import time

import orjson
import requests
from job import CLASSES, HEADERS, OPTIONS, Job, read_job


def main(job: Job) -> None:
    session = requests.Session()
    session.headers.update(HEADERS)
    for video_ids in job.open_chunks():
        try:
            response = session.post(
                job.classify_url, json={"video_ids": video_ids, "classes": CLASSES, **OPTIONS}, timeout=600
            )
            response.raise_for_status()
            page = orjson.loads(response.content)
            videos = page["data"]
            while token := page["page_info"].get("next_page_token"):
                response = session.get(f"{job.classify_url}/{token}", timeout=600)
                response.raise_for_status()
                page = orjson.loads(response.content)
                videos += page["data"]
            job.append(map(orjson.dumps, videos))
        except requests.RequestException as error:
            print(f"{video_ids[0]}: {error}")
        time.sleep(job.pause_seconds)


if __name__ == "__main__":
    main(read_job())
