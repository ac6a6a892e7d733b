"""The vendor's SDK in sixteen threads, which share one client, one file and one limiter."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

from job import Job, read_job
from pyrate_limiter import Duration, Limiter, Rate
from twelvelabs import APIError, TwelveLabs
from vendor_sdk import ask


def main(job: Job) -> int:
    os.environ["TWELVELABS_BASE_URL"] = job.url
    client = TwelveLabs(api_key="key")
    limiter = Limiter(Rate(int(job.rate), Duration.SECOND)) if job.rate else None
    file = Lock()

    def answered(video_ids: list[str]) -> bool:
        if limiter:
            limiter.try_acquire("classify")
        try:
            lines = ask(client, video_ids)
        except APIError as error:
            print(f"{video_ids[0]} and {len(video_ids) - 1} more: {error!r}", file=sys.stderr)
            return False
        with file:
            job.append(lines)
        return True

    with ThreadPoolExecutor(16) as threads:
        return 0 if all(list(threads.map(answered, job.open_chunks()))) else 1


if __name__ == "__main__":
    sys.exit(main(read_job()))
