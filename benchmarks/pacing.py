"""How much of the allowed rate is reached, and how often a strict server refuses; ``--quick`` for a smoke test.

A line has the rate, the jitter, what paced, the requests, how many of them were refused, in the second half too, and
the share of the allowed rate that passed in the second half.

The server is a process of its own: its requests arrive after real, random delays. What is measured is the gate on the
way of a run, from the reservation to the answer, driven by as many tasks as the rate needs; and beside it aiolimiter as
its documentation suggests it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
from aiolimiter import AsyncLimiter

from pipeline.client import Client
from pipeline.errors import RateLimited
from pipeline.models import JobClass
from pipeline.pacing import Gate, Pace
from pipeline.transport import Transport, open_transport
from pipeline.wire import ClassifyRequest

SERVER = Path(__file__).parents[1] / "tests/servers/strict.py"
REQUEST = ClassifyRequest(
    (JobClass("DanceTok", ("Dance group",)),), ("visual",), tuple(f"{n:024x}" for n in range(100))
)


@dataclass(frozen=True, slots=True)
class Case:
    """So many requests, at a rate, each up to ``jitter`` seconds on its way; by our gate or by a bare limiter."""

    rate: int
    jitter: float
    requests: int
    by_gate: bool


@contextmanager
def strict_server(case: Case) -> Iterator[str]:
    command = [sys.executable, str(SERVER), "--rate", str(case.rate), "--jitter", str(case.jitter)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}/v1.2"
    finally:
        server.terminate()
        server.wait()


class BareLimiter:
    """aiolimiter's obvious use, with the gate's doors."""

    def __init__(self, rate: int) -> None:
        self._limiter = AsyncLimiter(rate, 1)

    async def reserve(self) -> None:
        pass

    @asynccontextmanager
    async def post_turn(self) -> AsyncIterator[Callable[[], object] | None]:
        async with self._limiter:
            yield None

    def answered(self, _: object) -> None:
        pass


async def send_all(case: Case, transport: Transport) -> None:
    client = Client(transport, score_source="none", secret="key", clock=time.time)
    pace = Pace(requests_per_second=case.rate)
    gate = Gate(pace, window=None, posts_spent=0, clock=time.time) if case.by_gate else BareLimiter(case.rate)
    turns = iter(range(case.requests))

    async def send() -> None:
        for _ in turns:
            await gate.reserve()
            try:
                async with gate.post_turn() as sent:
                    await client.classify(REQUEST, sent)
                    gate.answered(None)
            except RateLimited:
                continue  # another one takes its place; here nobody asks for this one again

    in_flight = 8 + round(4 * case.rate * case.jitter)
    async with anyio.create_task_group() as tasks:
        for _ in range(in_flight):
            tasks.start_soon(send)


async def measured(case: Case, url: str) -> str:
    async with open_transport(url, {"x-api-key": "key"}, connections=200) as transport:
        await send_all(case, transport)
        counts = json.loads((await transport.exchange("GET", "/counts")).body)
    passed, refused = counts["passed"], counts["refused"]
    second_half = passed[len(passed) // 2 :]
    late = sum(moment > second_half[0] for moment in refused)
    share = (len(second_half) - 1) / (second_half[-1] - second_half[0]) / case.rate
    who = "the gate" if case.by_gate else f"`AsyncLimiter({case.rate}, 1)`"
    return (
        f"| {case.rate} | {case.jitter * 1000:.0f} ms | {who} | {case.requests:,} | {len(refused)} | {late} "
        f"| {share:.1%} |"
    )


def cases(rates: list[int], jitters: list[float], *, quick: bool) -> Iterator[Case]:
    for jitter in jitters:
        for rate in rates:
            requests = rate // 2 if quick else 100 if rate == 1 else max(1_000, 40 * rate)
            yield Case(rate, jitter, requests, by_gate=True)
            yield Case(rate, jitter, requests, by_gate=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rates", type=int, nargs="+", default=[1, 10, 50, 500])
    parser.add_argument("--jitters", type=float, nargs="+", default=[0.002, 0.05], help="seconds")
    given = parser.parse_args()
    rates, jitters = ([500], [0.002]) if given.quick else (given.rates, given.jitters)
    for case in cases(rates, jitters, quick=given.quick):
        with strict_server(case) as url:
            print(anyio.run(measured, case, url), flush=True)


if __name__ == "__main__":
    main()
