"""httpx in careful hands: one client, a semaphore, aiolimiter for the rate, stamina for what may be tried again."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from typing import Any

import httpx
import orjson
import stamina
from aiolimiter import AsyncLimiter
from job import CLASSES, HEADERS, OPTIONS, Job, read_job


def may_succeed_later(error: Exception) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code == 429 or error.response.status_code >= 500
    return isinstance(error, httpx.TransportError)


async def main(job: Job) -> int:
    limiter = AsyncLimiter(job.rate, 1) if job.rate else None
    in_flight = asyncio.Semaphore(8)
    failed = 0

    @stamina.retry(on=may_succeed_later, attempts=5)
    async def fetch(method: str, url: str, body: object = None) -> Any:
        async with AsyncExitStack() as turn:
            if limiter:
                await turn.enter_async_context(limiter)
            response = await client.request(method, url, json=body)
        response.raise_for_status()
        return orjson.loads(response.content)

    async def ask(video_ids: list[str]) -> None:
        nonlocal failed
        async with in_flight:
            try:
                page = await fetch("POST", job.classify_url, {"video_ids": video_ids, "classes": CLASSES, **OPTIONS})
                videos = page["data"]
                while token := page["page_info"].get("next_page_token"):
                    page = await fetch("GET", f"{job.classify_url}/{token}")
                    videos += page["data"]
            except httpx.HTTPError as error:
                print(f"{video_ids[0]} and {len(video_ids) - 1} more: {error!r}", file=sys.stderr)
                failed += 1
            else:
                job.append(map(orjson.dumps, videos))

    async with httpx.AsyncClient(headers=HEADERS, timeout=600) as client, asyncio.TaskGroup() as tasks:
        for video_ids in job.open_chunks():
            tasks.create_task(ask(video_ids))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(read_job())))
