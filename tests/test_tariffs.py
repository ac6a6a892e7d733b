"""Whole runs against a platform that keeps its limits strictly: nothing refused, nothing of a quota left unused."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import groupby

import anyio
import pytest
from aiohttp import web
from aiolimiter import AsyncLimiter

from pipeline.rate import Timer
from pipeline.run import run
from tests.runs import CLASSES, KEY, Desk, MovedClock, faults, library
from tests.servers.contract import ContractServer, Delay, Fault, RequestSeen, Status

ONE_A_POST = {"limits__max_videos_per_post": 1}
HOUR = 3_600
LISTED_AT_ONCE = 50


def windows(server: ContractServer, seconds: float = HOUR) -> list[int]:
    """How many POSTs came in each window, where a window opens with the first POST after the last one's end."""
    opened: list[float] = []
    for one in server.posts:
        if not opened or one.arrived >= math.ceil(opened[-1] + seconds):
            opened.append(one.arrived)
        else:
            opened.append(opened[-1])
    return [len(list(some)) for _, some in groupby(opened)]


# -------------------------------------------------------------------------------------------------------------- quota


@pytest.mark.parametrize("tells_quota", [True, False], ids=["told", "not told"])
@pytest.mark.parametrize("ahead", [0, 400, -400], ids=["same clock", "its clock ahead", "its clock behind"])
async def test_of_200_posts_at_20_in_a_window_none_is_refused_and_every_window_is_used_whole(
    desk: Desk, tells_quota: bool, ahead: float
) -> None:
    """It begins late in the evening: midnight is nothing special."""
    videos, night = library(200), MovedClock()
    quota = {"quota": 20, "window_seconds": HOUR, "tells_quota": tells_quota}
    async with ContractServer(videos, key=KEY, clock=lambda: night() + ahead, **quota) as server:  # type: ignore[arg-type]
        desk.write_ids(videos)
        limits = {"limits__posts_per_window": 20, "limits__window_seconds": HOUR}
        desk.write_config(server.url, **limits, **ONE_A_POST)
        begun = night()
        outcome = await run(desk.order(clock=night, timer=night.timer))
        assert outcome.exit_code == 0
        desk.check(server, videos)
    assert (server.quota_violations, windows(server)) == (0, [20] * 10)
    assert night() - begun < 9 * (HOUR + 5)  # at each window's end, the grace and the roundings of two clocks


@pytest.mark.parametrize("tells_quota", [True, False], ids=["told", "not told"])
async def test_killed_in_mid_window_and_started_again_nothing_is_refused_and_no_more_unused_than_unknown(
    desk: Desk, tells_quota: bool
) -> None:
    videos = library(60)
    taken = anyio.Event()

    def hold_up(seen: RequestSeen) -> Fault | None:
        """Eight POSTs are executed, and their answers do not arrive while the first process lives."""
        if seen.number == 17:
            taken.set()
        return Delay(HOUR) if seen.kind == "post" and 10 <= seen.number < 18 else None

    async with ContractServer(videos, key=KEY, faults=hold_up, quota=40, tells_quota=tells_quota) as server:
        desk.write_ids(videos)
        desk.write_config(server.url, limits__posts_per_window=40, limits__on_quota="stop", **ONE_A_POST)
        process = await desk.start("run", desk.config)
        await taken.wait()
        process.kill()
        await process.wait()
        assert (await desk.run()).exit_code == 75
    unknown = desk.status().posts["unknown"]
    assert server.quota_violations == 0
    assert unknown == 8
    assert len(server.posts) >= 40 - unknown


class HeldClock(MovedClock):
    """Whoever sleeps, sleeps until the test moves the clock."""

    def __init__(self) -> None:
        super().__init__()
        self._moved = anyio.Event()

    async def sleep(self, seconds: float) -> None:
        due = self.now + seconds
        while self.now < due:
            await self._moved.wait()

    def move(self, seconds: float) -> None:
        self.now += seconds
        self._moved.set()
        self._moved = anyio.Event()


async def test_pages_of_open_walks_are_fetched_while_posts_wait_for_the_window(desk: Desk) -> None:
    videos, night = library(80), HeldClock()
    whole = {posted: anyio.Event() for posted in (3, 6, 8)}
    posted = due = fetched = 0

    def watch(seen: RequestSeen) -> Fault | None:
        nonlocal posted, due, fetched
        if seen.kind == "page":
            fetched += 1
        else:
            matched = sum(server.expected(one, CLASSES, True, True) is not None for one in seen.video_ids)
            posted, due = posted + 1, due + max(matched - 1, 0)
        if posted in whole and fetched == due:
            whole[posted].set()
        return None

    server = ContractServer(videos, key=KEY, faults=watch, quota=3, window_seconds=HOUR, clock=night)
    async with server, anyio.create_task_group() as running:
        desk.write_ids(videos)
        desk.write_config(server.url, job__page_limit=1, limits__max_videos_per_post=10, limits__posts_per_window=3)
        running.start_soon(run, desk.order(clock=night, timer=night.timer))
        for expected, all_pages in whole.items():
            await all_pages.wait()
            assert (posted, fetched, server.quota_violations) == (expected, due, 0)
            night.move(HOUR + 3)
    desk.check(server, videos)


async def test_a_laptop_that_slept_through_the_windows_end_goes_on_when_it_wakes(desk: Desk) -> None:
    """The steady clock of a machine does not count while it sleeps; so the wall clock is read every half minute."""
    videos, wall = library(40), MovedClock()
    awake = 0.0

    async def nap(seconds: float) -> None:
        nonlocal awake
        assert seconds <= 30
        await anyio.lowlevel.checkpoint()
        awake += seconds
        wall.now += seconds if awake < 300 else 8 * HOUR

    async with ContractServer(videos, key=KEY, quota=20, window_seconds=HOUR, clock=wall) as server:
        desk.write_ids(videos)
        desk.write_config(server.url, limits__concurrency=1, limits__posts_per_window=20, **ONE_A_POST)
        outcome = await run(desk.order(clock=wall, timer=Timer(lambda: awake, nap)))
        assert outcome.exit_code == 0
    assert (server.quota_violations, windows(server), awake) == (0, [20, 20], 300)


async def test_what_others_of_the_account_use_is_noticed_in_time(desk: Desk) -> None:
    videos, night = library(50), MovedClock()

    def others(seen: RequestSeen) -> Fault | None:
        if seen.kind == "post" and server._used == 3:
            server._used += 7
        return None

    async with ContractServer(videos, key=KEY, faults=others, quota=20, window_seconds=HOUR, clock=night) as server:
        desk.write_ids(videos)
        desk.write_config(server.url, limits__posts_per_window=20, limits__window_seconds=HOUR, **ONE_A_POST)
        outcome = await run(desk.order(clock=night, timer=night.timer))
        assert outcome.exit_code == 0
    assert (server.quota_violations, windows(server)) == (0, [13, 13, 13, 11])


async def test_a_429_for_the_pace_is_not_taken_for_the_end_of_the_quota(desk: Desk) -> None:
    """It tells a quota too, of which there is enough, and when that window ends: in a day."""
    videos, night = library(20), MovedClock()
    too_early: Callable[[RequestSeen], Fault | None] = lambda seen: (  # noqa: E731 - one line of fault
        Status(429) if seen.kind == "post" and seen.number == 5 else None
    )
    async with ContractServer(videos, key=KEY, faults=too_early, quota=1_200, clock=night) as server:
        desk.write_ids(videos)
        desk.write_config(server.url, limits__tariff="v1.2-developer", **ONE_A_POST)
        begun = night()
        outcome = await run(desk.order(clock=night, timer=night.timer))
        assert outcome.exit_code == 0
        desk.check(server, videos)
    assert night() - begun < 60


async def test_a_500_for_the_last_post_of_a_window_is_no_order_to_wait_for_the_next_one(desk: Desk) -> None:
    """It tells when the quota starts anew, as every answer does: ``stop`` still stops, and does not sleep for a day."""
    videos, night = library(30), MovedClock()
    told = {"X-Ratelimit-Limit": "20", "X-Ratelimit-Remaining": "0", "X-Ratelimit-Reset": str(int(night()) + 86_400)}
    failing = faults(("post", 20, Status(500, headers=told)))
    async with ContractServer(videos, key=KEY, faults=failing, quota=20, clock=night) as server:
        desk.write_ids(videos)
        desk.write_config(server.url, limits__posts_per_window=20, limits__on_quota="stop", **ONE_A_POST)
        begun = night()
        outcome = await run(desk.order(clock=night, timer=night.timer))
        assert (outcome.exit_code, server.quota_violations) == (75, 0)
    assert night() - begun < 60


async def test_a_429_for_a_page_when_the_quota_is_used_up_does_not_cost_the_walk_its_token(desk: Desk) -> None:
    videos, night = library(30), MovedClock()
    told = {"X-Ratelimit-Limit": "20", "X-Ratelimit-Remaining": "0", "X-Ratelimit-Reset": str(int(night()) + 86_400)}
    async with ContractServer(
        videos, key=KEY, faults=faults(("page", 1, Status(429, headers=told))), clock=night
    ) as server:
        desk.write_ids(videos)
        desk.write_config(server.url, job__page_limit=1)
        begun = night()
        outcome = await run(desk.order(clock=night, timer=night.timer))
        assert (outcome.exit_code, len(server.posts)) == (0, 1)
        desk.check(server, videos)
    assert night() - begun <= 60


async def test_a_page_that_is_asked_for_too_early_is_asked_for_later_and_later_whatever_spreads_resends(
    desk: Desk,
) -> None:
    videos, night = library(30), MovedClock()
    too_early = faults(*(("page", number, Status(429)) for number in (1, 2, 3)))
    async with ContractServer(videos, key=KEY, faults=too_early, clock=night) as server:
        desk.write_ids(videos)
        desk.write_config(server.url, job__page_limit=1)
        begun = night()
        outcome = await run(desk.order(clock=night, timer=night.timer, jitter=lambda: 0.0))
        assert outcome.exit_code == 0
        desk.check(server, videos)
    assert night() - begun == 1 + 2 + 4


# -------------------------------------------------------------------------------------------------------------- stops


async def test_cron_is_told_when_to_come_again(desk: Desk) -> None:
    """By the exit code, the last line, the status, and whoever is notified; until the run goes on."""
    videos = library(30)
    write = "import json, os; json.dump(dict(os.environ), open('told.json', 'w'))"
    async with ContractServer(videos, key=KEY, quota=20, window_seconds=HOUR) as server:
        desk.write_ids(videos)
        notified = {"notify__command": [sys.executable, "-c", write]}
        desk.write_config(server.url, limits__on_quota="stop", limits__posts_per_window=20, **ONE_A_POST, **notified)
        ended = await desk.command("run", desk.config)
        resets_at = server._resets_at + 2
        again = await desk.command("status", desk.out, "--json")
    after = f"{datetime.fromtimestamp(resets_at, UTC):%Y-%m-%dT%H:%M:%S}.000Z"
    reason = f"the quota of 20 POSTs is used up until {after}"
    assert (ended.exit_code, server.quota_violations, len(server.posts)) == (75, 0, 20)
    assert ended.stderr.splitlines()[-1] == f"next, after {after}: bulk-classify resume {desk.out}"
    status = json.loads(again.stdout)
    assert (status["stop_reason"], status["resume_after"]) == (reason, after)
    told = json.loads((desk.folder / "told.json").read_bytes())
    assert (told["NOTIFY_STOP_REASON"], told["NOTIFY_RESUME_AFTER"]) == (reason, after)

    async with ContractServer(videos, key=KEY) as server:
        desk.write_config(server.url, limits__on_quota="stop", limits__posts_per_window=20, **ONE_A_POST)
        assert (await run(desk.order(clock=lambda: resets_at))).exit_code == 0
    assert (desk.status().stop_reason, desk.status().resume_after) == (None, None)


async def test_a_budget_is_used_to_the_last_post_and_no_further_whatever_is_turned_away(desk: Desk) -> None:
    videos = library(60)
    busy = lambda seen: Status(503) if seen.kind == "post" and seen.number % 5 == 0 else None  # noqa: E731
    async with ContractServer(videos, key=KEY, faults=busy) as server:
        desk.write_ids(videos)
        desk.write_config(server.url, limits__max_posts=21, limits__concurrency=8, **ONE_A_POST)
        assert (await desk.run()).exit_code == 75
    assert [one.status for one in server.posts].count(200) == 21
    assert (desk.status().stop_reason, desk.status().resume_after) == (
        "the budget of limits.max_posts = 21 is spent; raise it to go on",
        None,
    )


# ------------------------------------------------------------------------------------------------------------ tariffs


class Delivering(MovedClock):
    """Time passes only when every request that has left has arrived: the network has no jitter."""

    def __init__(self) -> None:
        super().__init__()
        self._left = 0
        self.arrived: Callable[[], int] = lambda: self._left

    def limiter(self, capacity: float, period: float) -> AsyncLimiter:
        limiter, leave = super().limiter(capacity, period), AsyncLimiter.acquire

        class Counted(AsyncLimiter):
            async def acquire(_, amount: float = 1) -> None:  # noqa: N805 - the clock's is self
                await leave(limiter, amount)
                self._left += 1

        return Counted(capacity, period)

    def may_pass(self) -> bool:
        return self.arrived() >= self._left

    async def sleep(self, seconds: float) -> None:
        while self.arrived() < self._left - 1:  # the last one is still held back, by this very sleep
            await anyio.lowlevel.checkpoint()
        await super().sleep(seconds)


class ListedServer(ContractServer):
    """Its videos are an index, and asking for its listing counts like any page."""

    listings = 0

    async def _respond_elsewhere(self, request: web.Request) -> web.Response:
        self.listings += 1
        if self._requests_per_second and self._rate_pages:
            self._admit_by_rate(self._requests_per_second, self._clock())
        first = LISTED_AT_ONCE * (int(request.query["page"]) - 1)
        shown = list(self._videos.items())[first : first + LISTED_AT_ONCE]
        entries = [{"_id": one, "metadata": {"duration": seconds}} for one, seconds in shown]
        pages = math.ceil(len(self._videos) / LISTED_AT_ONCE)
        return web.json_response({"data": entries, "page_info": {"page": first, "total_page": pages}})

    _list = _respond_elsewhere


@pytest.mark.parametrize(
    ("tariff", "limits", "seconds"),
    [
        ("v1.1", {"requests_per_second": 1, "rate_pages": True}, 1.008 * 152),
        ("v1.2-free", {"quota": 20}, 1 * (86_400 + 2)),
        ("v1.2-developer", {"requests_per_second": 1, "quota": 1_200}, 1.008 * 29),
        ("none", {}, 0),
    ],
)
async def test_a_whole_run_keeps_its_tariff(
    desk: Desk, tariff: str, limits: dict[str, int | bool], seconds: float
) -> None:
    """From the listing of an index, of which v1.1 counts every page, to the last page: 3, 30 POSTs, 120 pages."""
    videos, night = library(150, 6_000), Delivering()
    server = ListedServer(
        videos,
        key=KEY,
        answer=lambda *_: {"score": 50, "duration_ratio": 0.5, "clips": []},
        clock=night,
        page_ttl_seconds=86_400,
        **limits,  # type: ignore[arg-type]
    )
    pages_count = limits.get("rate_pages", False)
    night.arrived = lambda: len(server.posts) + (len(server.pages) + server.listings if pages_count else 0)
    async with server:
        settings = {"job__page_limit": 1, "limits__max_videos_per_post": 5, "limits__tariff": tariff}
        desk.write_config(server.url, input__ids=[], input__index_id="index1", **settings)
        begun = night()
        outcome = await run(desk.order(clock=night, timer=night.timer))
        assert outcome.exit_code == 0
        desk.check(server, videos)
    assert (len(server.posts), len(server.pages)) == (30, 120)
    assert (server.rate_violations, server.quota_violations) == (0, 0)
    assert night() - begun == pytest.approx(seconds, abs=2)
