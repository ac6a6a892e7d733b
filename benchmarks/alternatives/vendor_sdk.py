"""The vendor's SDK as its documentation uses it: one call after the other, each page walked, errors caught and told."""

from __future__ import annotations

import os
import sys
import time

from job import CLASSES, OPTIONS, Job, read_job
from twelvelabs import APIError, TwelveLabs


def ask(client: TwelveLabs, video_ids: list[str]) -> list[bytes]:
    """A line for each video."""
    result = client.classify.videos(video_ids=video_ids, classes=CLASSES, **OPTIONS)
    videos = list(result.data)
    for page in result:
        videos += page
    return [video.model_dump_json().encode() for video in videos]


def main(job: Job) -> int:
    os.environ["TWELVELABS_BASE_URL"] = job.url
    client = TwelveLabs(api_key="key")
    failed = 0
    for video_ids in job.open_chunks():
        try:
            job.append(ask(client, video_ids))
        except APIError as error:
            print(f"{video_ids[0]} and {len(video_ids) - 1} more: {error!r}", file=sys.stderr)
            failed += 1
        time.sleep(job.pause_seconds)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(read_job()))
