"""dlt: a resource with incremental state, a transformer that asks in eight threads, JSONL files as the destination.

Its own ``requests`` tries again what may succeed later. dlt has no limit of its own, so the resource pauses between two
chunks. A load is all or nothing; so that a kill costs no more than one, the input is loaded in slices.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import dlt
from dlt.sources.helpers import requests
from job import CLASSES, HEADERS, OPTIONS, Job, read_job

POSTS_PER_LOAD = 50


@dlt.resource(selected=False)
def chunks(job: Job, position: Any = dlt.sources.incremental("position", initial_value=-1)) -> Iterator[dict[str, Any]]:  # noqa: B008 - as dlt has it
    begin = position.last_value + 1
    for number, video_ids in enumerate(job.chunks()[begin : begin + POSTS_PER_LOAD], begin):
        yield {"position": number, "video_ids": video_ids}
        time.sleep(job.pause_seconds)


@dlt.transformer(name="videos", write_disposition="append", parallelized=True, max_table_nesting=0)
def videos(chunk: dict[str, Any], job: Job) -> Iterator[list[dict[str, Any]]]:
    asked = {"video_ids": chunk["video_ids"], "classes": CLASSES, **OPTIONS}
    response = requests.post(job.classify_url, json=asked, headers=HEADERS)
    page = response.json()
    yield page["data"]
    while token := page["page_info"].get("next_page_token"):
        page = requests.get(f"{job.classify_url}/{token}", headers=HEADERS).json()
        yield page["data"]


def main(job: Job) -> None:
    os.environ.update(
        EXTRACT__WORKERS="8",
        RUNTIME__DLTHUB_TELEMETRY="false",
        RUNTIME__LOG_LEVEL="ERROR",
        NORMALIZE__DATA_WRITER__DISABLE_COMPRESSION="true",
    )
    pipeline = dlt.pipeline(
        "classify",
        pipelines_dir=str(job.folder / "state"),
        destination=dlt.destinations.filesystem(f"file://{job.folder}"),
        dataset_name="rows",
    )
    while True:
        loaded = pipeline.run(chunks(job) | videos(job), loader_file_format="jsonl")
        if not loaded.loads_ids:
            break


if __name__ == "__main__":
    main(read_job())
