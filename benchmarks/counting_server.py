"""The fast server, which also counts, and misbehaves as it is told: a process of its own; prints its port.

``PUT /plan`` says what is to happen (the fields of ``Plan``, as JSON) and begins to count anew; ``GET /counts`` tells
what it counted since. A POST counts when it arrives, up to ``jitter_seconds`` after it was received. It is *paid* when
it was executed, whether its answer arrived or was cut off, and *paid again* when one of its videos was paid for before.
What a strict sliding window would refuse is counted and not refused, so that each client meets the same server.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
from aiohttp import web
from fast_server import body_for

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.servers.strict import SlidingWindow


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to POSTs: the process ``kill`` gets SIGKILL when POST number ``kill_at`` arrives.

    ``fault_share`` of them end in a 500, an empty 429 or a reset after the answer was paid for, in turn. Without a
    ``new_account``, what was paid for under the last plan stays paid.
    """

    latency_seconds: float = 0.0
    jitter_seconds: float = 0.0
    fault_share: float = 0.0
    rate: float = 0.0
    kill: int = 0
    kill_at: int = 0
    seed: int = 1
    new_account: bool = True


@dataclass(slots=True)
class Counts:
    posts: int = 0
    paid: int = 0
    paid_again: int = 0
    faults: int = 0
    refused: int = 0
    first: float = 0.0
    last: float = 0.0


class Platform:
    """What is planned, what was counted since, and which videos were ever paid for."""

    def __init__(self) -> None:
        self.paid: set[str] = set()
        self.begin(Plan())

    def begin(self, plan: Plan) -> None:
        self.plan = plan
        self.counts = Counts()
        self._dice = random.Random(plan.seed)
        self._window = SlidingWindow(plan.rate or 1.0)
        if plan.new_account:
            self.paid.clear()
        with contextlib.suppress(OSError, AttributeError):  # what measures should not be late; only root may, on Linux
            policy, priority = (os.SCHED_FIFO, 1) if plan.rate else (os.SCHED_OTHER, 0)
            os.sched_setscheduler(0, policy, os.sched_param(priority))

    async def arrive(self) -> str:
        """Count a POST, and say what becomes of it: ``""`` or the name of a fault."""
        if self.plan.jitter_seconds:
            await asyncio.sleep(self._dice.uniform(0, self.plan.jitter_seconds))
        counts, moment = self.counts, time.monotonic()
        counts.posts += 1
        counts.first, counts.last = counts.first or moment, moment
        if self.plan.rate and not self._window.admits(moment):
            counts.refused += 1
        if self.plan.kill_at == counts.posts:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.plan.kill, signal.SIGKILL)
        if self.plan.fault_share and self._dice.random() < self.plan.fault_share:
            counts.faults += 1
            return ("429", "reset", "500")[counts.faults % 3]
        return ""

    def execute(self, video_ids: list[str]) -> None:
        self.counts.paid += 1
        self.counts.paid_again += not self.paid.isdisjoint(video_ids)
        self.paid.update(video_ids)

    async def put_plan(self, request: web.Request) -> web.Response:
        self.begin(msgspec.json.decode(await request.read(), type=Plan))
        return web.Response()

    async def get_counts(self, _: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(self.counts), content_type="application/json")

    async def classify(self, request: web.Request) -> web.Response:
        try:
            asked = msgspec.json.decode(await request.read())
        except ConnectionResetError:  # whoever asked was killed before all was said
            return web.Response(status=400)
        fault = await self.arrive()
        if fault in {"500", "429"}:
            return web.Response(status=int(fault))
        self.execute(asked["video_ids"])
        if self.plan.latency_seconds:
            await asyncio.sleep(self.plan.latency_seconds)
        if fault == "reset":
            assert request.transport is not None
            request.transport.abort()
        return web.Response(body=body_for(asked), content_type="application/json")


async def serve() -> None:
    app = web.Application(client_max_size=2**24)
    platform = Platform()
    app.router.add_post("/v1.2/classify", platform.classify)
    app.router.add_put("/plan", platform.put_plan)
    app.router.add_get("/counts", platform.get_counts)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    parent = os.getppid()
    while os.getppid() == parent:  # noqa: ASYNC110 - no event tells of a parent's end
        await asyncio.sleep(0.5)


if __name__ == "__main__":
    asyncio.run(serve())
