"""Runs of a directory, one after another: what goes on, what is new, what is refused, and what stops and resumes."""

from __future__ import annotations

import io
import json
import os
import signal

import anyio
import pytest

from pipeline.config import freeze, thaw
from pipeline.console import Console
from pipeline.errors import InputError, QuotaReached, RunHeld
from pipeline.export import export
from pipeline.export_tables import TABLES
from pipeline.manifest import read_manifest
from pipeline.order import Order, pace_of
from pipeline.report.facts import facts_of
from pipeline.rows import FAILURES, ROW_FILES, VIDEOS
from pipeline.run import Outcome, run
from pipeline.rundir import LEDGER, LOG, METRICS, RUN_JSON, held
from pipeline.status import finish
from pipeline.verify import Report, verify
from tests.runs import CLASSES, KEY, Desk, library
from tests.servers.contract import ContractServer, Status


def requests(server: ContractServer) -> tuple[int, int]:
    return len(server.posts), len(server.pages)


async def resume(desk: Desk, **limits: object) -> Outcome:
    """What ``resume DIR --set`` does."""
    flags = {name.replace("__", "."): value for name, value in limits.items()}
    config = thaw(freeze(read_manifest(desk.out).config), flags=flags)
    order = desk.order(read_input=False)
    return await run(Order(config, desk.out, order.key, order.console, order.stdin, order.cache, read_input=False))


async def test_every_video_of_many_chunks_ends_in_one_state_with_its_rows(desk: Desk) -> None:
    videos = library(60) | library(3, 20_000, first=100)
    async with ContractServer(videos, key=KEY) as server:
        desk.write_ids(videos)
        desk.write_config(server.url, limits__max_videos_per_post=7)
        outcome = await desk.run()
        desk.check(server, videos)
    assert (outcome.exit_code, outcome.stopped) == (0, None)
    assert [row["video_id"] for row in desk.rows(FAILURES)] == []
    assert sorted(row["video_id"] for row in desk.rows(VIDEOS)) == sorted(videos)
    assert (server.reposts, server.refused, len(server.posts)) == (
        0,
        0,
        len({r["chunk_id"] for r in desk.rows(VIDEOS)}),
    )


async def test_a_second_run_sends_nothing_and_changes_no_row(desk: Desk) -> None:
    videos = library(20)
    async with ContractServer(videos, key=KEY) as server:
        desk.write_ids(videos)
        desk.write_config(server.url)
        await desk.run()
        before = requests(server), desk.rows(VIDEOS)
        assert (await desk.run()).exit_code == 0
        assert (requests(server), desk.rows(VIDEOS)) == before


async def test_a_second_run_tells_that_failures_stand(desk: Desk) -> None:
    async with ContractServer(library(5), key=KEY) as server:
        desk.write_ids(library(5) | {"stranger": 60.0})
        desk.write_config(server.url)
        assert (await desk.run()).exit_code == 3
        before = requests(server), desk.rows(FAILURES)
        assert (await desk.run()).exit_code == 3
        assert (requests(server), desk.rows(FAILURES)) == before


async def test_of_a_longer_list_only_the_new_ids_are_posted(desk: Desk) -> None:
    videos = library(30)
    async with ContractServer(videos, key=KEY) as server:
        desk.write_ids(library(20))
        desk.write_config(server.url)
        await desk.run()
        desk.write_ids(videos)
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos)
    assert [post.video_ids for post in server.posts] == [tuple(library(20)), tuple(library(10, first=20))]


async def test_ids_that_are_gone_from_the_list_stay_and_are_told(desk: Desk) -> None:
    videos = library(20)
    async with ContractServer(videos, key=KEY) as server:
        desk.write_ids(videos)
        desk.write_config(server.url)
        await desk.run()
        desk.write_ids(library(5))
        said = io.StringIO()
        await run(desk.order(console=Console(said)))
        desk.check(server, videos)
    assert "; 15 ids of earlier inputs no longer named, and kept\n" in said.getvalue()
    assert len(server.posts) == 1


# ------------------------------------------------------------------------------------------------- stops and resumes


async def test_a_spent_budget_keeps_what_was_answered_and_a_resume_with_more_goes_on(desk: Desk) -> None:
    videos = library(40)
    async with ContractServer(videos, key=KEY) as server:
        desk.write_ids(videos)
        desk.write_config(server.url, limits__max_videos_per_post=10, limits__max_posts=2)
        outcome = await desk.run()
        assert (outcome.exit_code, type(outcome.stopped)) == (75, QuotaReached)
        assert (len(server.posts), desk.status().open) == (2, 20)
        assert (await resume(desk)).exit_code == 75
        assert len(server.posts) == 2
        assert (await resume(desk, limits__max_posts=0, limits__concurrency=1)).exit_code == 0
        desk.check(server, videos)
    assert (len(server.posts), server.reposts) == (4, 0)


async def test_a_used_up_quota_stops_the_run_before_the_post_that_would_be_refused(desk: Desk) -> None:
    videos = library(40)
    now = 1_700_000_000.0
    async with ContractServer(videos, key=KEY, quota=3, window_seconds=60, clock=lambda: now) as server:
        desk.write_ids(videos)
        settings = {"limits__posts_per_window": 3, "limits__on_quota": "stop"}
        desk.write_config(server.url, limits__max_videos_per_post=10, **settings)
        outcome = await run(desk.order(clock=lambda: now))
        assert (outcome.exit_code, len(server.posts), desk.status().open) == (75, 3, 10)
        # The platform's clock may be behind ours by two seconds.
        assert (await run(desk.order(clock=lambda: now + 61))).exit_code == 75
        assert len(server.posts) == 3
        now += 62
        assert (await run(desk.order(clock=lambda: now))).exit_code == 0
        desk.check(server, videos)
    assert server.quota_violations == 0


async def test_a_quota_that_is_lower_than_was_said_is_learnt_from_the_first_answer(desk: Desk) -> None:
    """Whatever waits behind the first POST has been reserved by then, and must not go over what is left."""
    videos = library(80)
    now = 1_700_000_000.0
    async with ContractServer(videos, key=KEY, quota=3, clock=lambda: now) as server:
        desk.write_ids(videos)
        settings = {"limits__posts_per_window": 1000, "limits__on_quota": "stop"}
        desk.write_config(server.url, limits__max_videos_per_post=10, **settings)
        outcome = await run(desk.order(clock=lambda: now))
    assert (outcome.exit_code, len(server.posts), server.quota_violations) == (75, 3, 0)


async def test_a_quota_that_others_have_used_up_stops_the_run_too(desk: Desk) -> None:
    """A 429 with nothing remaining is the quota's end, however little of it this run has used."""
    videos = library(40)
    now = 1_700_000_000.0
    spent = Status(429, headers={"X-Ratelimit-Remaining": "0"})
    async with ContractServer(videos, key=KEY, quota=20, clock=lambda: now, faults=lambda _: spent) as server:
        desk.write_ids(videos)
        desk.write_config(server.url, limits__on_quota="stop")
        async with anyio.create_task_group() as watching:
            watching.start_soon(terminate_after, 60)  # A run that waits for the next window would not end.
            outcome = await run(desk.order(clock=lambda: now))
            watching.cancel_scope.cancel()
    assert (outcome.exit_code, len(server.posts)) == (75, 1)


async def terminate_after(seconds: float) -> None:
    await anyio.sleep(seconds)
    os.kill(os.getpid(), signal.SIGTERM)


async def test_a_directory_that_another_holds_is_refused_and_left_as_it_is(desk: Desk) -> None:
    videos = library(5)
    async with ContractServer(videos, key=KEY) as server:
        desk.write_ids(videos)
        desk.write_config(server.url)
        desk.out.mkdir()
        with held(desk.out), pytest.raises(RunHeld):
            await desk.run()
    assert (server.posts, list(desk.out.iterdir())) == ([], [])


async def test_a_bad_list_sends_nothing_and_the_good_one_after_it_runs(desk: Desk) -> None:
    videos = library(5)
    async with ContractServer(videos, key=KEY) as server:
        desk.write_ids(videos | {"b@d": 1.0})
        desk.write_config(server.url)
        with pytest.raises(InputError):
            await desk.run()
        assert (requests(server), desk.status().videos, desk.status().chunks["pending"]) == ((0, 0), 0, 0)
        desk.write_ids(videos)
        desk.write_config(server.url, CLASSES[:2])
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos, CLASSES[:2])


@pytest.mark.parametrize("spoilt", ["a missing file", "a bad line"])
async def test_a_first_start_that_is_refused_leaves_a_directory_for_every_reader_and_for_the_next_start(
    desk: Desk, spoilt: str
) -> None:
    """It is an empty run, of which no file of rows was made yet, and which says how it ended."""
    videos = library(5)
    async with ContractServer(videos, key=KEY) as server:
        desk.write_config(server.url)
        if spoilt == "a bad line":
            desk.write_ids(videos | {"b@d": 1.0})
        with pytest.raises(InputError) as refusal:
            await desk.run()
        assert sorted(path.name for path in desk.out.iterdir()) == [LEDGER, RUN_JSON, LOG, METRICS]
        began, ended = (json.loads(line) for line in (desk.out / LOG).read_bytes().splitlines())
        assert (began["event"], began["run_id"]) == ("run_began", desk.status().run_id)
        facts = {"exit_code": 2, "code": "input_error", "reason": str(refusal.value)}
        assert ended == {"at": ended["at"], "level": "error", "event": "run_ended", **facts}
        told = (desk.out / METRICS).read_text()
        assert f'bulk_classify_exit_code{{directory="{desk.out}"}} 2\n' in told
        assert f'bulk_classify_stopped{{directory="{desk.out}",reason="input_error"}} 1\n' in told
        assert verify(desk.out) == Report()
        assert facts_of(desk.out).videos == []
        assert dict(export([desk.out], desk.folder / "x.duckdb", None).rows) == dict.fromkeys(TABLES, 0)
        status = desk.status()
        assert finish(desk.out, status, 1.0).rows == dict.fromkeys(ROW_FILES, 0)

        desk.write_ids(videos)
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos)
    assert desk.status().run_id == status.run_id
    assert export([desk.out], desk.folder / "x.duckdb", None).rows["videos"] == 5


async def test_a_later_start_that_is_refused_tells_so_and_changes_no_row(desk: Desk) -> None:
    videos = library(5)
    async with ContractServer(videos, key=KEY) as server:
        desk.write_ids(videos)
        desk.write_config(server.url)
        await run(desk.order(clock=lambda: 1_700_000_000.0))
        (desk.folder / "ids.csv").unlink()
        with pytest.raises(InputError):
            await desk.run()
        desk.check(server, videos)
    told = (desk.out / METRICS).read_text()
    of = f'{{directory="{desk.out}"'
    for sample in (
        f"exit_code{of}}} 2",
        f"last_success_timestamp_seconds{of}}} 1700000000",
        f'videos{of},state="scored"}} {desk.status().scored}',
        f'posts_total{of},outcome="answered"}} 1',
        f"posts_planned{of}}} 1",
    ):
        assert f"bulk_classify_{sample}\n" in told


async def test_videos_of_unknown_duration_are_warned_about_and_answered(desk: Desk) -> None:
    videos = library(45)
    async with ContractServer(videos, key=KEY) as server:
        desk.write_ids(dict.fromkeys(videos))
        desk.write_config(server.url)
        said = io.StringIO()
        assert (await run(desk.order(console=Console(said)))).exit_code == 0
        desk.check(server, videos)
    assert sorted(len(post.video_ids) for post in server.posts) == [20, 25]
    assert "45 videos have no known duration" in said.getvalue()


async def test_too_little_space_stops_the_run_with_its_rows_whole(desk: Desk) -> None:
    videos = library(40)
    async with ContractServer(videos, key=KEY) as server:
        desk.write_ids(videos)
        settings = {"limits__reserve_bytes": 1_125_899_906_842_624, "limits__concurrency": 1}
        desk.write_config(server.url, limits__max_videos_per_post=5, **settings)
        outcome = await desk.run()
        assert outcome.exit_code == 74
        assert "limits.reserve_bytes" in str(outcome.stopped)
        assert (await resume(desk, limits__reserve_bytes=0)).exit_code == 0
        desk.check(server, videos)
    assert server.reposts == 0


def test_the_limits_of_a_config_are_the_pace_of_its_gate(desk: Desk) -> None:
    desk.write_config("http://127.0.0.1:1/v1.2", limits__tariff="v1.1", limits__on_quota="stop", limits__max_posts=9)
    pace = pace_of(desk.order().config)
    assert (pace.requests_per_second, pace.pages_paced, pace.posts_per_window) == (1.0, True, 0)
    assert (pace.wait_for_quota, pace.max_posts, pace.max_unknown_posts) == (False, 9, 3)
