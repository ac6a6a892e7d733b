"""A chunk to its end, against the strict server: for every fault that it can show, which rows, failures and POSTs come.

Each test is a whole run in this process, because what a chunk leaves behind is only whole once it is committed.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from aiohttp import web

from pipeline.errors import JobRefused, KeyRefused, PlatformDown, UsageError
from pipeline.rows import FAILURES, VIDEOS
from tests.runs import CLASSES, KEY, MANY_CLASSES, Desk, faults, library
from tests.servers.contract import (
    AlienVideo,
    ContractServer,
    Cut,
    DuplicateVideo,
    ExpireToken,
    Fault,
    JsonObject,
    MissingVideos,
    NotJson,
    RepeatToken,
    RequestSeen,
    Reset,
    Status,
    WrongShape,
)


@asynccontextmanager
async def platform(
    desk: Desk, videos: Mapping[str, float], *places: tuple[str, int, Fault], **settings: Any
) -> AsyncIterator[ContractServer]:
    """A server with these videos and faults, and a run of all of them made ready for it."""
    async with ContractServer(videos, key=KEY, faults=faults(*places)) as server:
        desk.write_ids(videos)
        desk.write_config(server.url, **settings)
        yield server


def everything(video_id: str, asked: JsonObject) -> JsonObject:
    """Every video matches every class."""
    return {"score": 60, "duration_ratio": 0.5, "clips": []}


def matching(server: ContractServer, video_ids: Iterable[str]) -> list[str]:
    return [one for one in video_ids if server.expected(one, CLASSES, include_clips=False, detailed=False)]


def posted(server: ContractServer) -> list[tuple[str, ...]]:
    return [post.video_ids for post in server.posts]


async def again_sends_nothing(desk: Desk, server: ContractServer, exit_code: int) -> None:
    sent = len(server.posts), len(server.pages)
    assert (await desk.run()).exit_code == exit_code
    assert (len(server.posts), len(server.pages)) == sent


# ----------------------------------------------------------------------------------------------------- whole answers


async def test_one_prompt_group_takes_one_post_and_its_pages(desk: Desk) -> None:
    videos = library(40)
    async with platform(desk, videos) as server:
        outcome = await desk.run()
        desk.check(server, videos)
    found = len(matching(server, videos))
    assert outcome.exit_code == 0
    assert found < 40, "some videos must match nothing"
    assert (len(server.posts), len(server.pages), server.reposts) == (1, -(-found // 10) - 1, 0)
    assert posted(server) == [tuple(videos)]


async def test_fourteen_prompt_groups_make_one_answer_with_its_classes_in_the_order_of_the_config(desk: Desk) -> None:
    videos = library(12)
    async with platform(desk, videos, job__classes=MANY_CLASSES) as server:
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos, MANY_CLASSES)
    assert (len(server.posts), server.reposts) == (14, 0)
    order = [one["name"] for one in MANY_CLASSES]
    scores = desk.rows("scores.ndjson")
    for video_id in {row["video_id"] for row in scores}:
        rows = [row for row in scores if row["video_id"] == video_id]
        places = [order.index(row["class_name"]) for row in rows]
        assert places == sorted(places)
        assert sum(row["normalized_score"] for row in rows) == pytest.approx(100)


async def test_no_match_in_one_group_does_not_hide_the_match_in_another(desk: Desk) -> None:
    def answer(video_id: str, asked: JsonObject) -> JsonObject | None:
        return everything(video_id, asked) if asked["name"] == "class 249" else None

    videos = library(3)
    async with ContractServer(videos, key=KEY, answer=answer) as server:
        desk.write_ids(videos)
        desk.write_config(server.url, MANY_CLASSES)
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos, MANY_CLASSES)
    assert [row["class_count"] for row in desk.rows(VIDEOS)] == [1, 1, 1]


# --------------------------------------------------------------------------------------------- answers that come late


async def test_a_429_with_an_order_is_waited_for_and_burns_nothing(desk: Desk) -> None:
    videos = library(5)
    refusal = Status(429, headers={"Retry-After": "0"})
    async with platform(desk, videos, *[("post", number, refusal) for number in range(1, 7)]) as server:
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos)
    assert len(server.posts) == 7
    assert desk.status().posts == {"intended": 0, "answered": 1, "refused": 6, "unknown": 0, "not_sent": 0}


async def test_a_bare_429_is_waited_for_too(desk: Desk) -> None:
    videos = library(5)
    async with platform(desk, videos, ("post", 1, Status(429))) as server:
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos)
    assert len(server.posts) == 2


async def test_an_overloaded_platform_is_asked_again_five_times(desk: Desk) -> None:
    videos = library(20)
    broken = [("post", number, Status(503)) for number in range(2, 6)]
    async with platform(desk, videos, *broken, limits__max_videos_per_post=10, limits__concurrency=1) as server:
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos)
    assert len(server.posts) == 6


@pytest.mark.parametrize(
    "fault", [Reset(), Reset(executed=True), Reset(after_headers=True), Cut(), NotJson(), Status(502)]
)
async def test_a_post_of_unknown_fate_is_sent_again_and_counted_so(desk: Desk, fault: Fault) -> None:
    videos = library(5)
    async with platform(desk, videos, ("post", 1, fault)) as server:
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos)
    assert len(server.posts) == 2
    status = desk.status()
    assert status.posts == {"intended": 0, "answered": 1, "refused": 0, "unknown": 1, "not_sent": 0}
    assert status.posts_by_reason == {"first": 1, "resend": 1}


@pytest.mark.parametrize("fault", [Reset(executed=True), NotJson(), Status(504)])
async def test_three_posts_of_unknown_fate_in_a_row_end_the_run_and_keep_it(desk: Desk, fault: Fault) -> None:
    videos = library(5)
    async with platform(desk, videos, *[("post", number, fault) for number in (1, 2, 3)]) as server:
        outcome = await desk.run()
        assert (outcome.exit_code, type(outcome.stopped)) == (69, PlatformDown)
        assert (len(server.posts), desk.status().open) == (3, 5)
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos)
    assert len(server.posts) == 4


@pytest.mark.parametrize("fault", [Reset(), Reset(executed=True), Cut(), NotJson(), Status(503), Status(502)])
async def test_a_page_that_does_not_come_is_asked_for_again_and_nothing_is_posted(desk: Desk, fault: Fault) -> None:
    videos = library(40)
    async with platform(desk, videos, ("page", 1, fault), ("page", 3, fault)) as server:
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos, answers_lost=True)
    assert (len(server.posts), server.reposts) == (1, 0)


# ------------------------------------------------------------------------------------------------- walks that break


async def test_after_a_dead_token_only_the_unseen_are_posted_again(desk: Desk) -> None:
    videos = library(40)
    async with platform(desk, videos, ("page", 2, ExpireToken())) as server:
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos)
    shown = {*server.posts[0].shown, *server.pages[0].shown}
    assert len(shown) == 20
    assert posted(server) == [tuple(videos), tuple(one for one in videos if one not in shown)]
    assert server.reposts == 0
    assert desk.status().posts_by_reason == {"first": 1, "expiry": 1}


async def test_a_walk_whose_tokens_always_die_begins_anew_three_times(desk: Desk) -> None:
    videos = library(60, 100)
    dead = [("post", number, ExpireToken()) for number in range(1, 9)]
    async with platform(desk, videos, *dead) as server:
        assert (await desk.run()).exit_code == 3
        await again_sends_nothing(desk, server, 3)
    assert len(server.posts) == 4
    answered = {one for post in server.posts for one in post.shown}
    assert len(answered) == 40
    assert desk.failures() == dict.fromkeys([one for one in videos if one not in answered], "page_token_expired")


async def test_videos_that_a_walk_owed_are_posted_again_alone(desk: Desk) -> None:
    videos = library(30)
    settings = {"limits__max_videos_per_post": 10, "limits__concurrency": 1}
    async with platform(desk, videos, ("post", 2, MissingVideos(2)), **settings) as server:
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos)
    second = server.posts[1]
    owed = tuple(one for one in second.video_ids if one not in second.shown)
    assert posted(server)[-1] == owed
    assert (len(server.posts), server.reposts) == (4, 0)
    assert desk.status().posts_by_reason == {"first": 3, "incomplete": 1}


async def test_answers_that_tell_nothing_of_any_video_end_a_run_before_all_of_it_is_spent(desk: Desk) -> None:
    """What was answered so is failed, and not paid for again; what was not asked stays open."""
    videos = library(20)
    empty = [("post", number, Status(200, b'{"data": []}')) for number in (1, 2, 4, 5, 6, 7)]
    settings = {"limits__max_videos_per_post": 2, "limits__concurrency": 1}
    async with platform(desk, videos, *empty, **settings) as server:
        ended = await desk.run()
        assert (ended.exit_code, len(server.posts)) == (69, 6)
        await desk.run()
        assert server.reposts == 0
    assert "3 POSTs in a row were answered, and told nothing of any video" in str(ended.stopped)
    assert set(desk.failures().values()) == {"unusable_answer"}


async def test_videos_that_are_announced_and_never_shown_fail_after_three_more_posts(desk: Desk) -> None:
    videos = library(20)

    def hide(seen: RequestSeen) -> Fault | None:
        return MissingVideos(1) if "video0013" in seen.video_ids or len(seen.video_ids) == 1 else None

    async with ContractServer(videos, key=KEY, answer=everything, faults=hide) as server:
        desk.write_ids(videos)
        desk.write_config(server.url, limits__max_videos_per_post=10, limits__concurrency=1)
        assert (await desk.run()).exit_code == 3
        await again_sends_nothing(desk, server, 3)
    owed = posted(server)[-1]
    assert posted(server)[2:] == [owed] * 3
    assert desk.failures() == {owed[0]: "incomplete_answer"}
    assert desk.status().posts_by_reason == {"first": 2, "incomplete": 3}


async def test_where_totals_never_agree_an_empty_token_decides_and_nothing_is_paid_again(desk: Desk) -> None:
    videos = library(40)
    always = [("post", number, MissingVideos(1)) for number in range(1, 9)]
    settings = {"limits__max_videos_per_post": 10, "limits__concurrency": 1}
    async with platform(desk, videos, *always, **settings) as server:
        assert (await desk.run()).exit_code == 0
    assert posted(server) == [tuple(videos)[first : first + 10] for first in (0, 10, 20, 30)]
    shown = {one for post in server.posts for one in post.shown}
    assert {row["video_id"]: row["status"] for row in desk.rows(VIDEOS)} == {
        one: "scored" if one in shown else "no_match" for one in videos
    }


async def test_a_circle_of_page_tokens_ends_the_walk_with_what_was_seen(desk: Desk) -> None:
    videos = library(40)
    circle = [("post", 1, RepeatToken()), *[("page", number, RepeatToken()) for number in range(1, 9)]]
    async with platform(desk, videos, *circle) as server:
        assert (await desk.run()).exit_code == 3
        await again_sends_nothing(desk, server, 3)
    assert (len(server.posts), len(server.pages)) == (1, 1)
    assert desk.status().scored == 10
    assert set(desk.failures().values()) == {"unusable_answer"}


async def test_a_video_that_nobody_asked_for_ends_the_walk_with_what_was_valid(desk: Desk) -> None:
    videos = library(40)
    async with platform(desk, videos, ("page", 1, AlienVideo())) as server:
        assert (await desk.run()).exit_code == 3
        await again_sends_nothing(desk, server, 3)
    shown = {*server.posts[0].shown, *server.pages[0].shown} & set(videos)
    assert (len(server.posts), len(server.pages), len(shown)) == (1, 1, 20)
    assert {row["video_id"] for row in desk.rows(VIDEOS)} == shown
    assert desk.failures() == dict.fromkeys([one for one in videos if one not in shown], "unusable_answer")


async def test_a_video_that_comes_twice_counts_once(desk: Desk) -> None:
    videos = library(40)
    async with platform(desk, videos, ("page", 1, DuplicateVideo()), ("page", 2, DuplicateVideo())) as server:
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos)
    assert len(server.posts) == 1


async def test_an_entry_that_cannot_be_read_costs_its_video_and_is_never_posted_again(desk: Desk) -> None:
    videos = library(40)
    async with platform(desk, videos, ("post", 1, WrongShape(2))) as server:
        assert (await desk.run()).exit_code == 3
        await again_sends_nothing(desk, server, 3)
        unreadable = server.posts[0].shown[:2]
        assert len(server.posts) == 1
        assert desk.failures() == dict.fromkeys(sorted(unreadable), "unusable_answer")
        assert desk.status().scored == len(matching(server, videos)) - 2


async def test_a_group_is_not_asked_about_videos_that_another_group_has_failed(desk: Desk) -> None:
    """POSTs are what is scarce, and no answer of the others can help a video that has failed."""
    videos = library(5)
    nothing = Status(200, b'{"data": {}}')
    async with platform(desk, videos, ("post", 1, nothing), job__classes=MANY_CLASSES, limits__concurrency=1) as server:
        assert (await desk.run()).exit_code == 3
    assert len(server.posts) == 1


# --------------------------------------------------------------------------------------- videos that are refused


async def test_videos_that_are_longer_than_was_said_are_posted_in_smaller_parts(desk: Desk) -> None:
    videos = library(40, 1500)  # 24 fit; the list says that they are 900 s long, so that 40 seem to.
    async with ContractServer(videos, key=KEY) as server:
        desk.write_ids(dict.fromkeys(videos, 900.0))
        desk.write_config(server.url)
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos)
    assert (server.refused, server.reposts) == (1, 0)
    assert sorted(map(len, posted(server))) == [20, 20, 40]
    assert desk.status().posts_by_reason == {"first": 1, "repack": 2}


async def test_a_video_that_is_too_long_by_itself_fails_alone(desk: Desk) -> None:
    videos = library(3) | {"endless": 40_000.0}
    async with ContractServer(videos, key=KEY) as server:
        desk.write_ids(dict.fromkeys(videos, 600.5))
        desk.write_config(server.url)
        assert (await desk.run()).exit_code == 3
    assert desk.failures() == {"endless": "parameter_invalid"}
    assert desk.status().scored + desk.status().no_match == 3


async def test_unknown_ids_are_searched_until_they_stand_alone(desk: Desk) -> None:
    known = library(30)
    strangers = ["stranger1", "stranger2"]
    asked = [*list(known)[:7], strangers[0], *list(known)[7:29], strangers[1], list(known)[29]]
    async with ContractServer(known, key=KEY) as server:
        desk.write_ids(dict.fromkeys(asked, 600.5))
        desk.write_config(server.url)
        assert (await desk.run()).exit_code == 3
        desk.check(server, known)
        await again_sends_nothing(desk, server, 3)
    assert desk.failures() == dict.fromkeys(strangers, "resource_not_exist")
    assert server.reposts == 0
    alone = [post.video_ids for post in server.posts if post.status == 404 and len(post.video_ids) == 1]
    assert sorted(alone) == [("stranger1",), ("stranger2",)]


async def test_the_search_for_refused_videos_has_a_budget(desk: Desk) -> None:
    strangers = [f"stranger{number}" for number in range(32)]
    async with ContractServer({}, key=KEY) as server:
        desk.write_ids(dict.fromkeys(strangers, 600.5))
        desk.write_config(server.url, limits__max_bisect_posts=5)
        assert (await desk.run()).exit_code == 3
    assert len(server.posts) <= 1 + 5 + 8  # With eight at once, as many may be under way when the budget is spent.
    assert desk.failures() == dict.fromkeys(strangers, "resource_not_exist")


async def test_a_video_that_one_of_several_groups_refuses_keeps_the_others_answers(desk: Desk) -> None:
    """The search goes on within the one group that was refused: the others are asked once."""
    videos = library(8)
    refusal = Status(400, b'{"code": "video_broken", "message": "A video is broken."}')
    async with platform(desk, videos, ("post", 2, refusal), job__classes=MANY_CLASSES, limits__concurrency=1) as server:
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos, MANY_CLASSES)
    assert server.reposts == 0
    assert len(server.posts) == 1 + 1 + 4 + 12  # Eight refused together, then 4, 2, 1 and 1 answered.


# ------------------------------------------------------------------------------- what holds while one POST goes alone


@asynccontextmanager
async def refusing_slowly(status: int, **headers: str) -> AsyncIterator[tuple[str, list[str]]]:
    """A platform that refuses every POST the same way, so late that all wait behind the first. URL, requests."""
    asked: list[str] = []

    async def refuse(request: web.Request) -> web.Response:
        asked.append(request.path)
        await anyio.sleep(0.3)
        return web.Response(status=status, headers={name.replace("_", "-"): text for name, text in headers.items()})

    application = web.Application()
    application.router.add_post("/v1.2/classify", refuse)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1.2", asked
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(("status", "exit_code"), [(401, 4), (403, 4), (410, 2), (302, 69)])
async def test_nothing_is_sent_after_the_answer_that_ends_the_run(desk: Desk, status: int, exit_code: int) -> None:
    async with refusing_slowly(status) as (url, asked):
        desk.write_ids(library(40))
        desk.write_config(url, limits__max_videos_per_post=5)
        assert (await desk.run()).exit_code == exit_code
    assert len(asked) == 1
    posts = desk.status().posts
    assert (posts["refused"], posts["intended"], posts["unknown"], desk.status().open) == (1, 0, 0, 40)


async def test_nothing_is_sent_while_the_pause_lasts_that_a_429_orders(desk: Desk) -> None:
    async with refusing_slowly(429, Retry_After="3600") as (url, asked):
        desk.write_ids(library(40))
        desk.write_config(url, limits__max_videos_per_post=5)
        async with anyio.create_task_group() as watching:
            watching.start_soon(terminate_after_the_first, asked)
            assert (await desk.run()).exit_code == 130
    assert len(asked) == 1


async def terminate_after_the_first(asked: list[str]) -> None:
    while not asked:  # noqa: ASYNC110 - a list tells nobody that it grew
        await anyio.sleep(0.01)
    await anyio.sleep(0.7)  # More than the answer takes: what does not keep the pause would be here by then.
    os.kill(os.getpid(), signal.SIGTERM)


# ---------------------------------------------------------------------------------------------- jobs that are refused


async def test_a_wrong_key_ends_the_run_after_one_post(desk: Desk) -> None:
    videos = library(40)
    async with ContractServer(videos, key="another") as server:
        desk.write_ids(videos)
        desk.write_config(server.url, limits__max_videos_per_post=5)
        outcome = await desk.run()
    assert (outcome.exit_code, type(outcome.stopped)) == (4, KeyRefused)
    assert (len(server.posts), desk.status().open) == (1, 40)
    assert desk.status().posts["refused"] == 1


@pytest.mark.parametrize(
    "fault",
    [Status(410), Status(404, b"not found"), Status(400, b'{"code": "api_upgrade_required", "message": "Go."}')],
)
async def test_an_endpoint_that_is_gone_ends_the_run_after_one_post(desk: Desk, fault: Fault) -> None:
    videos = library(40)
    async with platform(desk, videos, ("post", 1, fault), limits__max_videos_per_post=5) as server:
        outcome = await desk.run()
    assert outcome.exit_code == 2
    assert "local platform" in str(outcome.stopped)
    assert (len(server.posts), desk.status().open) == (1, 40)


@pytest.mark.parametrize("videos_per_post", [0, 5])
async def test_a_job_that_the_platform_refuses_ends_the_run_after_at_most_three_posts(
    desk: Desk, videos_per_post: int
) -> None:
    videos = library(40)
    refusal = Status(400, b'{"code": "parameter_invalid", "message": "The classes are not to our taste."}')
    refused: Callable[[RequestSeen], Fault | None] = lambda _: refusal  # noqa: E731
    async with ContractServer(videos, key=KEY, faults=refused) as server:
        desk.write_ids(videos)
        desk.write_config(server.url, limits__max_videos_per_post=videos_per_post)
        outcome = await desk.run()
    assert len(server.posts) <= 3
    assert (outcome.exit_code, type(outcome.stopped)) == (2, JobRefused)
    assert "The classes are not to our taste." in str(outcome.stopped)
    status = desk.status()
    assert (status.open, status.stop_code) == (40, "job_refused")
    assert status.next_command == f"bulk-classify run CONFIG --out {desk.out}"


async def test_a_job_that_was_refused_before_any_answer_may_be_corrected_and_given_again(desk: Desk) -> None:
    videos = library(40)
    new = {"name": "New", "prompts": ["x"]}
    refusal = Status(400, b'{"code": "parameter_invalid", "message": "The classes are not to our taste."}')
    async with platform(desk, videos, *[("post", number, refusal) for number in (1, 2, 3)]) as server:
        assert (await desk.run()).exit_code == 2
        desk.write_config(server.url, job__classes=[*CLASSES, new])
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos, [*CLASSES, new])
        status = desk.status()
    assert (status.scored + status.no_match, status.stop_code, status.next_command) == (40, None, None)


async def test_a_job_that_was_refused_after_an_answer_needs_another_directory(desk: Desk) -> None:
    videos = library(20)
    refusal = Status(410, b'{"code": "api_upgrade_required", "message": "Gone."}')
    async with platform(desk, videos, ("post", 2, refusal), limits__max_videos_per_post=10) as server:
        assert (await desk.run()).exit_code == 2
        assert desk.status().next_command == "bulk-classify run CONFIG --out ANOTHER"
        desk.write_config(server.url, job__include_clips=False)
        with pytest.raises(UsageError, match="use another --out"):
            await desk.run()


async def test_scores_of_another_source_never_mix_with_this_runs(desk: Desk) -> None:
    videos = library(20)
    body = b'{"data": [], "page_info": {"total_results": 0, "next_page_token": ""}}'
    other = Status(200, body, {"X-Score-Source": "local/space/1"})
    settings = {"limits__max_videos_per_post": 10, "limits__concurrency": 1}
    async with platform(desk, videos, ("post", 2, other), **settings) as server:
        outcome = await desk.run()
    assert (outcome.exit_code, len(server.posts), desk.status().open) == (2, 2, 10)
    assert "local/space/1" in str(outcome.stopped)
    assert "twelvelabs/v1.2" in str(outcome.stopped)


async def test_a_key_that_the_platform_repeats_gets_into_no_file(desk: Desk) -> None:
    videos = library(3)
    body = f'{{"code": "bad_{KEY}", "message": "A video of {KEY} is bad."}}'.encode()
    async with platform(desk, videos, *[("post", number, Status(400, body)) for number in range(1, 9)]):
        assert (await desk.run()).exit_code == 3
    assert desk.files_with(KEY) == []


async def test_an_id_that_breaks_the_platform_is_found_while_others_are_answered(desk: Desk) -> None:
    """500 wherever one video is posted: its chunk is halved until it stands alone, and fails with what was said."""
    videos = library(200)
    broken = Status(500, b'{"code": "internal_error", "message": "Oops."}')

    def fault(seen: RequestSeen) -> Fault | None:
        return broken if "video0007" in seen.video_ids else None

    async with ContractServer(videos, key=KEY, faults=fault) as server:
        desk.write_ids(videos)
        desk.write_config(server.url, limits__max_videos_per_post=5, limits__concurrency=2)
        outcome = await desk.run()
    assert outcome.exit_code == 3
    (row,) = desk.rows(FAILURES)
    assert (row["video_id"], row["code"], row["http_status"]) == ("video0007", "internal_error", 500)
    assert row["message"] == "HTTP 500 (internal_error: Oops.)"
    desk.check(server, [one for one in videos if one != "video0007"])


async def test_an_id_that_breaks_the_platform_is_found_in_the_last_chunk_too(desk: Desk) -> None:
    """Nothing else is left to be answered meanwhile; a 500 speaks of the request, and not of the platform's load."""
    videos = library(4)
    broken = Status(500, b'{"code": "internal_error", "message": "Oops."}')

    def fault(seen: RequestSeen) -> Fault | None:
        return broken if "video0003" in seen.video_ids else None

    async with ContractServer(videos, key=KEY, faults=fault) as server:
        desk.write_ids(videos)
        desk.write_config(server.url)
        assert (await desk.run()).exit_code == 3
    assert desk.failures() == {"video0003": "internal_error"}
    assert len(server.posts) == 6 + 3  # All four to the end, then 2, 1, and the one that is left.


@pytest.mark.parametrize(
    ("fault", "code"), [(Reset(executed=True), "connection_lost"), (NotJson(), "unreadable_answer")]
)
async def test_what_is_burnt_of_a_chunks_attempts_outlives_the_run(desk: Desk, fault: Fault, code: str) -> None:
    """Three POSTs in a row that may be billed stop the run; the next one makes one more, and then the videos fail."""
    videos = library(3)
    async with ContractServer(videos, key=KEY, faults=lambda _: fault) as server:
        desk.write_ids(videos)
        desk.write_config(server.url)
        assert [(await desk.run()).exit_code, len(server.posts)] == [69, 3]
        assert [(await desk.run()).exit_code, len(server.posts)] == [3, 4]
    assert set(desk.failures().values()) == {code}
