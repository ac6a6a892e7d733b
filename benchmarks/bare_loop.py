"""The floor: tasks that post and decode, and keep nothing.

Arguments: port, videos, videos in a chunk, and how many tasks if not eight.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import aiohttp
import anyio
import orjson

CLASSES = [{"name": name, "prompts": [name]} for name in ("DanceTok", "CookTok", "PetTok", "MakerTok")]


async def work(session: aiohttp.ClientSession, url: str, chunks: Iterator[list[str]]) -> None:
    options = {"options": ["visual"], "include_clips": True, "show_detailed_score": True, "page_limit": 50}
    for video_ids in chunks:
        body = orjson.dumps({"video_ids": video_ids, "classes": CLASSES, **options})
        async with session.post(url, data=body, headers={"x-api-key": "key"}) as response:
            assert len(orjson.loads(await response.read())["data"]) == len(video_ids)


async def main(port: int, videos: int, chunk: int, at_once: int) -> None:
    ids = [f"{number:024x}" for number in range(videos)]
    chunks = (ids[start : start + chunk] for start in range(0, videos, chunk))
    connector = aiohttp.TCPConnector(limit=at_once)
    async with aiohttp.ClientSession(connector=connector) as session, anyio.create_task_group() as tasks:
        for _ in range(at_once):
            tasks.start_soon(work, session, f"http://127.0.0.1:{port}/v1.2/classify", chunks)


if __name__ == "__main__":
    port, videos, chunk, *at_once = map(int, sys.argv[1:])
    anyio.run(main, port, videos, chunk, at_once[0] if at_once else 8)
