"""The platform is away for ten minutes in the middle of the night, and nobody has to get up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path

import pytest

from pipeline.run import run
from tests.runs import KEY, Desk, MovedClock, free_port, library
from tests.servers.contract import ContractServer, Fault, RequestSeen, Status

MINUTES = 60.0


class Night(MovedClock):
    """The moments at which POSTs arrived, and what is to happen at some moment."""

    def __init__(self) -> None:
        super().__init__()
        self.arrivals: list[float] = []
        self._appointments: list[tuple[float, Callable[[], Awaitable[object]]]] = []

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        while self._appointments and self._appointments[0][0] <= self.now:
            await self._appointments.pop(0)[1]()

    def at(self, moment: float, happens: Callable[[], Awaitable[object]]) -> None:
        self._appointments.append((moment, happens))

    def note(self, seen: RequestSeen) -> None:
        if seen.kind == "post":
            self.arrivals.append(self.now)


class Outage:
    """From the n-th POST on every request gets this answer, for so long."""

    def __init__(self, night: Night, *, from_post: int, fault: Fault, seconds: float = 10 * MINUTES) -> None:
        self._night = night
        self._from_post = from_post
        self._fault = fault
        self._seconds = seconds
        self.ends_at: float | None = None

    def __call__(self, seen: RequestSeen) -> Fault | None:
        self._night.note(seen)
        if self.ends_at is None and seen.kind == "post" and seen.number == self._from_post:
            self.ends_at = self._night.now + self._seconds
        return self._fault if self.ends_at is not None and self._night.now < self.ends_at else None

    def delay(self) -> float:
        """How long after its end the first POST arrived."""
        assert self.ends_at is not None
        return min(one for one in self._night.arrivals if one >= self.ends_at) - self.ends_at


@pytest.mark.parametrize("from_post", [1, 5, 12], ids=["from the first POST", "in the middle", "at the last chunk"])
@pytest.mark.parametrize("status", [503, 408])
async def test_nothing_fails_and_nothing_is_paid_twice_while_the_platform_is_overloaded(
    tmp_path: Path, status: int, from_post: int
) -> None:
    desk, videos, night = Desk(tmp_path), library(120), Night()
    outage = Outage(night, from_post=from_post, fault=Status(status))
    async with ContractServer(videos, key=KEY, faults=outage) as server:
        desk.write_ids(videos)
        desk.write_config(server.url, limits__max_videos_per_post=10)
        outcome = await run(desk.order(clock=night, timer=night.timer, jitter=lambda: 1.0))
        assert outcome.exit_code == 0
        desk.check(server, videos)
    assert (desk.status().posts["answered"], desk.status().posts["unknown"]) == (12, 0)
    assert outage.delay() <= 10


@pytest.mark.parametrize("from_post", [1, 5, 12], ids=["from the first POST", "in the middle", "at the last chunk"])
async def test_no_video_fails_where_an_outage_looks_like_broken_videos(tmp_path: Path, from_post: int) -> None:
    """A 500 may lie in the videos: a chunk may be searched for them, but none fails while nothing is answered."""
    desk, videos, night = Desk(tmp_path), library(120), Night()
    outage = Outage(night, from_post=from_post, fault=Status(500))
    async with ContractServer(videos, key=KEY, faults=outage) as server:
        desk.write_ids(videos)
        desk.write_config(server.url, limits__max_videos_per_post=10)
        outcome = await run(desk.order(clock=night, timer=night.timer, jitter=lambda: 1.0))
        assert outcome.exit_code == 0
        desk.check(server, videos)
    assert outage.delay() <= 10
    assert (desk.status().failed, desk.status().posts["unknown"]) == (0, 0)


async def test_once_the_platform_is_lost_probes_go_at_the_gates_pace_and_not_at_that_of_a_chunks_resends(
    tmp_path: Path,
) -> None:
    desk, videos, night = Desk(tmp_path), library(10), Night()
    outage = Outage(night, from_post=1, fault=Status(503), seconds=MINUTES)
    async with ContractServer(videos, key=KEY, faults=outage) as server:
        desk.write_ids(videos)
        desk.write_config(server.url)
        assert (await run(desk.order(clock=night, timer=night.timer, jitter=lambda: 1.0))).exit_code == 0
    gaps = [later - earlier for earlier, later in pairwise(night.arrivals)]
    assert gaps == [1, 2, 4, 8, 1, 2, 4, 8, 10, 10, 10]


async def test_a_platform_that_cannot_be_reached_costs_nothing_of_the_quota_or_the_budget(tmp_path: Path) -> None:
    desk, videos, night, port = Desk(tmp_path), library(120), Night(), free_port()
    comes_back = night.now + 10 * MINUTES
    server = ContractServer(videos, key=KEY, faults=night.note, clock=night, quota=12, port=port)
    desk.write_ids(videos)
    limits = {"limits__posts_per_window": 12, "limits__max_posts": 12, "limits__on_quota": "stop"}
    desk.write_config(f"http://127.0.0.1:{port}/v1.2", limits__max_videos_per_post=10, **limits)

    async with AsyncExitStack() as opened:
        night.at(comes_back, lambda: opened.enter_async_context(server))
        outcome = await run(desk.order(clock=night, timer=night.timer))
    assert outcome.exit_code == 0
    desk.check(server, videos)
    assert (server.quota_violations, desk.status().posts["answered"]) == (0, 12)
    assert sum(desk.status().posts_by_reason.values()) == 12
    assert night.arrivals[0] - comes_back <= 10


async def test_after_half_an_hour_without_an_answer_the_run_stops_and_nothing_has_failed(tmp_path: Path) -> None:
    desk, videos, night = Desk(tmp_path), library(120), Night()
    outage = Outage(night, from_post=5, fault=Status(503), seconds=60 * MINUTES)
    async with ContractServer(videos, key=KEY, faults=outage) as server:
        desk.write_ids(videos)
        desk.write_config(server.url, limits__max_videos_per_post=10)
        outcome = await run(desk.order(clock=night, timer=night.timer))
        assert (outcome.exit_code, desk.status().failed, desk.status().open) == (69, 0, 80)
        night.now += 60 * MINUTES
        assert (await desk.command("resume", desk.out)).exit_code == 0
        desk.check(server, videos)
