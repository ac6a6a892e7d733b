"""A run that is looked at: what it is said to do, how fast, and what its metrics tell of its end."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import anyio
import pytest
from anyio.lowlevel import checkpoint
from prometheus_client.parser import text_string_to_metric_families

from pipeline.chunks import ChunkState, Counts, PostState, VideoState
from pipeline.config import load
from pipeline.console import Console, Look
from pipeline.errors import InputError, Interrupted
from pipeline.log import Log
from pipeline.metrics import Histogram
from pipeline.pacing import Gate, Pace
from pipeline.posting import Requests
from pipeline.progress import Activity, Allowance
from pipeline.run import run
from pipeline.rundir import RowFiles
from pipeline.stopping import Stop
from pipeline.watch import Place, Speed, Watch, Watched
from tests.runs import KEY, Desk, MovedClock, library
from tests.servers.contract import ContractServer

NO_PACE = Pace()
COUNTS = Counts(
    videos={VideoState.OPEN: 90, VideoState.SCORED: 6, VideoState.NO_MATCH: 3, VideoState.FAILED: 1},
    chunks=dict.fromkeys(ChunkState, 0),
    packed_chunks=10,
    posts={("first", PostState.ANSWERED): 4, ("first", PostState.NOT_SENT): 9, ("resend", PostState.UNKNOWN): 1},
    failures={"timed_out": 1},
    retryable=1,
    seconds=0.0,
    unknown_durations=0,
)


@dataclass
class Asked:
    """As much of ``Requests`` as is looked at."""

    ended: Counter[PostState] = field(default_factory=Counter)
    durations: dict[str, Histogram] = field(default_factory=dict)


@dataclass
class Stage:
    """A watch over a gate on a moved clock."""

    clock: MovedClock
    gate: Gate
    stop: Stop
    watch: Watch
    asked: Asked


def stage(desk: Desk, pace: Pace = NO_PACE, *, console: Console | None = None, **settings: object) -> Stage:
    """A run that has 100 videos, of which ten are settled, and 10 POSTs to make, of which 4 are made."""
    desk.write_config("http://127.0.0.1:1/v1.2", **settings)
    desk.out.mkdir()
    config = load(desk.config, flags={"--out": str(desk.out)}, environment={}).config
    clock, asked = MovedClock(), Asked()
    gate = Gate(pace, window=None, posts_spent=4, clock=clock, timer=clock.timer)
    console = console or Console(io.StringIO())
    stop = Stop(gate, console)
    log = Log(desk.out / "run.log", level="info", clock=clock)
    watched = Watched(COUNTS, gate, cast("Requests", asked), stop, RowFiles(desk.out, [0, 0, 0]))
    watch = Watch(watched, Place(config, desk.out, "r1", console, log, clock))
    watch.posts_planned = 10
    return Stage(clock, gate, stop, watch, asked)


def samples(path: Path) -> dict[str, float]:
    """What a metrics file tells, by name and labels."""
    return {
        " ".join(
            [one.name.removeprefix("bulk_classify_"), *(v for k, v in one.labels.items() if k != "directory")]
        ): one.value
        for family in text_string_to_metric_families(path.read_text())
        for one in family.samples
    }


# --------------------------------------------------------------------------------------------------------- activities


async def test_a_run_whose_posts_are_under_way_is_answering(desk: Desk) -> None:
    one = stage(desk)
    assert one.watch.facts().activity == Activity("answering")
    await one.gate.reserve()
    assert one.watch.facts().activity.detail == "1 POST under way or next"
    await one.gate.reserve()
    assert one.watch.facts().activity.detail == "2 POSTs under way or next"


async def test_a_run_that_has_used_its_quota_waits_until_the_window_ends(desk: Desk) -> None:
    one = stage(desk, Pace(posts_per_window=1, window_seconds=600), limits__window_seconds=600)
    start = one.clock.now
    assert one.watch.facts().allowance == Allowance(1, 0, start + 600, 600)
    await one.gate.reserve()
    one.gate.answered(None)
    facts = one.watch.facts()
    assert facts.activity == Activity("waiting_for_quota", start + 600)
    assert (facts.allowance, facts.posts) == (Allowance(1, 1, start + 600, 600), 5)
    one.clock.now += 601
    assert one.watch.facts().allowance == Allowance(1, 0, one.clock.now + 600, 600)


async def test_a_platform_that_is_away_is_probed_until_the_run_gives_up(desk: Desk) -> None:
    one = stage(desk, limits__give_up_after_seconds=1_800)
    for _ in range(5):
        await one.gate.reserve()
        one.gate.failed()
        one.clock.now += 10
    now = one.clock.now
    assert one.watch.facts().activity == Activity("probing", None, "50 s", now + 1_750)
    await one.gate.reserve()
    one.gate.failed()
    assert one.watch.facts().activity.until == now + 2
    assert one.watch.facts().seconds_left is None


async def test_a_run_that_was_told_to_wait_is_held_back(desk: Desk) -> None:
    one = stage(desk)
    await one.gate.reserve()
    one.gate.refused_for_rate(30.0)
    assert one.watch.facts().activity == Activity("held_back", one.clock.now + 30)


async def test_a_run_that_stops_is_draining_whatever_else_it_does(desk: Desk) -> None:
    one = stage(desk)
    one.stop.because(Interrupted("stopped by SIGINT"))
    assert one.watch.facts().activity == Activity("draining", detail="stopped by SIGINT")


# ------------------------------------------------------------------------------------------------------------- counts


async def test_what_the_chunks_have_come_to_is_added_to_what_was_there(desk: Desk) -> None:
    one = stage(desk)
    one.watch.count(5, 2, {"timed_out": 1, "resource_not_exist": 3})
    facts = one.watch.facts()
    assert (facts.videos, facts.scored, facts.no_match, facts.settled) == (100, 11, 5, 21)
    assert facts.failures == {"timed_out": 2, "resource_not_exist": 3}


async def test_a_run_that_is_to_stop_at_its_quota_promises_no_end(desk: Desk) -> None:
    pace = Pace(posts_per_window=1, window_seconds=600)
    one = stage(desk, pace, limits__on_quota="stop", limits__posts_per_window=1)
    one.watch.count(5, 0, {})
    assert one.watch.facts().seconds_left is None


def test_the_pace_is_that_of_the_last_minute_and_waiting_is_no_work() -> None:
    speed = Speed(100.0)
    assert speed.pace(100.5, 1, is_waiting=False) is None  # too early to say
    assert speed.pace(110.0, 10, is_waiting=False) == 1.0
    assert speed.pace(120.0, 10, is_waiting=True) == 0.5
    assert speed.pace(180.0, 70, is_waiting=False) == 1.0  # since 120: that is the last minute
    assert speed.pace(400.0, 70, is_waiting=True) == 0.0
    assert speed.busy_seconds == 70.0


# ------------------------------------------------------------------------------------------------------------ metrics


async def test_a_run_leaves_metrics_that_tell_how_it_ended(desk: Desk) -> None:
    videos = library(30)
    async with ContractServer(videos, key=KEY) as server:
        desk.write_ids(videos | {"stranger": 60.0})
        desk.write_config(server.url, limits__max_videos_per_post=10, output__metrics_file="for-all.prom")
        assert (await desk.run()).exit_code == 3
    told = samples(desk.out / "run.prom")
    status = desk.status()
    assert [told[f"videos {state}"] for state in ("open", "scored", "no_match", "failed")] == [
        0,
        status.scored,
        status.no_match,
        1,
    ]
    assert (told["running"], told["exit_code"], told["failed_videos resource_not_exist"]) == (0, 3, 1)
    assert told["posts_total answered"] + told["posts_total refused"] == status.posts_sent == len(server.posts)
    assert told["request_duration_seconds_count POST"] == status.posts_sent
    assert told["committed_bytes videos.ndjson"] == status.committed_bytes["videos.ndjson"]
    assert "last_success_timestamp_seconds" not in told
    assert (desk.folder / "for-all.prom").read_bytes() == (desk.out / "run.prom").read_bytes()


async def test_the_last_success_is_kept_when_a_later_run_stops(desk: Desk) -> None:
    videos = library(30)
    async with ContractServer(videos, key=KEY) as server:
        desk.write_ids(library(10))
        desk.write_config(server.url, limits__max_videos_per_post=10, limits__max_posts=2)
        assert (await run(desk.order(clock=lambda: 1_700_000_000.0))).exit_code == 0
        desk.write_ids(videos)
        assert (await desk.run()).exit_code == 75
    told = samples(desk.out / "run.prom")
    assert (told["last_success_timestamp_seconds"], told["stopped quota_reached"]) == (
        1_700_000_000,
        1,
    )
    assert told["posts_total answered"] == 2


async def test_metrics_that_cannot_be_written_are_an_event_and_cost_the_run_nothing(desk: Desk) -> None:
    async with ContractServer(library(3), key=KEY) as server:
        desk.write_ids(library(3))
        desk.write_config(server.url, output__metrics_file="nowhere/run.prom")
        assert (await desk.run()).exit_code == 0
    events = [one for one in events_of(desk) if one["event"] == "metrics_not_written"]
    assert [(one["level"], one["file"], one["reason"]) for one in events] == [
        ("warning", str(desk.folder / "nowhere/run.prom"), "No such file or directory")
    ]
    assert samples(desk.out / "run.prom")["exit_code"] == 0


def events_of(desk: Desk) -> Iterator[dict[str, str]]:
    return (json.loads(line) for line in (desk.out / "run.log").read_bytes().splitlines())


async def test_a_verbose_run_tells_its_events(desk: Desk) -> None:
    said = io.StringIO()
    async with ContractServer(library(3), key=KEY) as server:
        desk.write_ids(library(3))
        desk.write_config(server.url)
        order = desk.order(console=Console(said, verbose=True))
        assert (await run(order)).exit_code == 0
    lines = said.getvalue().splitlines()
    assert "info: input_read ids=3 duplicates=0 added=3 gone=0" in lines
    assert lines[-1] == "info: run_ended exit_code=0"


# -------------------------------------------------------------------------------------------------------------- views


async def test_the_view_is_drawn_at_once_and_metrics_are_written_at_once(desk: Desk) -> None:
    said = io.StringIO()
    one = stage(desk, console=Console(said, look=Look(is_live=True)))
    with anyio.fail_after(60):
        async with anyio.create_task_group() as watching:
            watching.start_soon(one.watch.show)
            watching.start_soon(one.watch.publish)
            while not (said.getvalue() and (desk.out / "run.prom").exists()):
                await checkpoint()
            watching.cancel_scope.cancel()
    assert "10 of 100 (10 %)" in said.getvalue()
    assert samples(desk.out / "run.prom")["running"] == 1


async def test_a_heartbeat_comes_again_and_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.console._HEARTBEAT_SECONDS", 0.0)
    said = io.StringIO()
    one = stage(desk, console=Console(said))
    with anyio.fail_after(60):
        async with anyio.create_task_group() as watching:
            watching.start_soon(one.watch.show)
            while said.getvalue().count("\n") < 2:
                await checkpoint()
            watching.cancel_scope.cancel()
    assert all("10 of 100 videos (10 %)" in line for line in said.getvalue().splitlines())


async def test_a_start_that_is_refused_says_why_wherever_somebody_looks(desk: Desk) -> None:
    """And no longer why an earlier process stopped; nor after the next start why this one was refused."""
    async with ContractServer(library(30), key=KEY) as server:
        desk.write_ids(library(30))
        desk.write_config(server.url, limits__max_videos_per_post=10, limits__max_posts=1)
        assert (await desk.run()).exit_code == 75
        (desk.folder / "ids.csv").write_text("video_id\nno id!\n")
        with pytest.raises(InputError) as refusal:
            await desk.run()
        status = desk.status()
        ended = list(events_of(desk))[-1]
        assert (ended["event"], ended["level"], ended["code"]) == ("run_ended", "error", "input_error")
        assert (status.stop_reason, status.resume_after) == (str(refusal.value), None) == (ended["reason"], None)
        assert samples(desk.out / "run.prom")["posts_planned"] == 3
