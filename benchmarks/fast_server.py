"""A platform that answers at once, or ``--latency`` seconds after a POST came: every video matches every class.

Prints its port. With ``include_clips`` each class has two clips. ``GET /told`` says what came since that was last
asked: ``posts``, how many were under way ``at_once``, when the ``first`` came and when the ``last`` was answered, by
the system's steady clock (``time.monotonic`` of any process on the machine).
"""

from __future__ import annotations

import argparse
import asyncio
import selectors
import sys
import time
from functools import lru_cache
from math import inf
from typing import Any

import orjson
from aiohttp import web

CLIPS = [(224.5, 226.125, 64.59), (300.5, 306.0625, 54.59)]
INFO = b'"limit_per_page":50,"page_expired_at":"2100-01-01T00:00:00Z","next_page_token":""'


@lru_cache
def classes_of(names: tuple[str, ...], *, with_clips: bool) -> bytes:
    """The classes of any video, as JSON: encoded once, because the two cores are for those who ask."""
    detailed = {"max_score": 64.59, "avg_score": 59.59, "normalized_score": 100 / len(names)}
    clips = [
        {
            "start": start,
            "end": end,
            "score": score,
            "option": "visual",
            "prompt": "a prompt",
            "thumbnail_url": "https://example.com/1.jpeg?x=1",
        }
        for start, end, score in CLIPS
    ]
    scored = {"score": 37.83, "duration_ratio": 0.33, "detailed_scores": detailed}
    return orjson.dumps([{"name": name, **scored, **({"clips": clips} if with_clips else {})} for name in names])


def body_for(asked: dict[str, Any]) -> bytes:
    """The whole answer to a request, on one page."""
    names = tuple(one["name"] for one in asked["classes"])
    classes = classes_of(names, with_clips=asked.get("include_clips", False))
    found = b",".join(b'{"video_id":"%s","classes":%s}' % (one.encode(), classes) for one in asked["video_ids"])
    return b'{"data":[%s],"page_info":{"total_results":%d,%s}}' % (found, len(asked["video_ids"]), INFO)


class Told:
    """What came."""

    def __init__(self) -> None:
        self.posts = self.under_way = self.at_once = 0
        self.first, self.last = inf, 0.0

    def came(self, now: float) -> None:
        self.posts += 1
        self.under_way += 1
        self.at_once = max(self.at_once, self.under_way)
        self.first = min(self.first, now)

    def answered(self, now: float) -> None:
        self.under_way -= 1
        self.last = now


class Platform:
    """Answers, and counts."""

    def __init__(self, latency: float) -> None:
        self._latency = latency
        self._told = Told()

    async def classify(self, request: web.Request) -> web.Response:
        came_at = time.monotonic()
        told = self._told
        told.came(came_at)
        body = body_for(orjson.loads(await request.read()))
        if (rest := came_at + self._latency - time.monotonic()) > 0:
            await asyncio.sleep(rest)
        told.answered(time.monotonic())
        return web.Response(body=body, content_type="application/json")

    async def tell(self, _: web.Request) -> web.Response:
        told, self._told = self._told, Told()
        facts = {name: getattr(told, name) for name in ("posts", "at_once", "first", "last")}
        return web.Response(body=orjson.dumps(facts), content_type="application/json")


async def serve(latency: float) -> None:
    platform = Platform(latency)
    app = web.Application(client_max_size=2**24)
    app.router.add_post("/v1.2/classify", platform.classify)
    app.router.add_get("/told", platform.tell)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.sleep(3600)  # it stops by itself, should nobody stop it


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--latency", type=float, default=0.0, help="seconds")
    # Not epoll, whose timeouts are rounded up to whole milliseconds: one of a hundred is what is measured here.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        runner.run(serve(arguments.parse_args().latency))
