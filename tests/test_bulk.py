"""A whole index with one POST a prompt group: what is asked, what is kept, and what becomes of each video.

Each test is a whole run against the strict server, whose videos are the index. A page shows ten of them.

``python -m tests.test_bulk 10000`` kills runs over an index of that many videos.
"""

from __future__ import annotations

import io
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import pytest
from anyio.abc import Process
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.bulk import entries_of
from pipeline.chunks import Standing
from pipeline.console import Console
from pipeline.errors import EndpointGone, JobRefused, KeyRefused, PlatformDown, QuotaReached, StopRun, UsageError
from pipeline.models import Page, Unreadable
from pipeline.order import Retry
from pipeline.rehearsal import rehearsed
from pipeline.rows import SCORES, VIDEOS
from pipeline.run import run
from pipeline.verify import verify
from tests.builders import answer
from tests.runs import CLASSES, KEY, ROOT, Desk, MovedClock, expected_content, faults, library
from tests.servers.contract import (
    AlienVideo,
    ContractServer,
    Cut,
    Delay,
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

INDEX = "index1"
THREE_GROUPS: tuple[JsonObject, ...] = tuple(
    {"name": f"class {number}", "prompts": [f"prompt {number}.{one}" for one in range(60)]} for number in range(3)
)
"""Three classes that need a POST each."""
each_number_of_groups = pytest.mark.parametrize("classes", [CLASSES, THREE_GROUPS], ids=["one group", "three groups"])


@asynccontextmanager
async def platform(
    desk: Desk,
    videos: Mapping[str, float],
    *places: tuple[str, int, Fault],
    classes: Sequence[JsonObject] = CLASSES,
    server: Mapping[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[ContractServer]:
    """A server with an index of these videos and these faults, and a run of all of it made ready."""
    options: dict[str, Any] = {"faults": faults(*places), "index_id": INDEX} | dict(server or {})
    async with ContractServer(videos, key=KEY, **options) as one:
        configure(desk, one, classes, **settings)
        yield one


def configure(desk: Desk, server: ContractServer, classes: Sequence[JsonObject] = CLASSES, **settings: Any) -> None:
    index = {"input__ids": [], "input__index_id": INDEX, "input__mode": "index"}
    desk.write_config(server.url, classes, **(index | settings))


def everything(video_id: str, asked: JsonObject) -> JsonObject:
    """Every video matches every class."""
    return {"score": 60, "duration_ratio": 0.5, "clips": []}


def shown(server: ContractServer) -> set[str]:
    return {one for served in (*server.posts, *server.pages) for one in served.shown}


def no_video_is_named(server: ContractServer) -> bool:
    """What a POST is about is the whole index, and so says the server; a POST that names videos would be shorter."""
    return all(post.video_ids == tuple(server._videos) for post in server.posts)


# ----------------------------------------------------------------------------------------------------- whole answers


@each_number_of_groups
async def test_one_post_a_prompt_group_answers_the_whole_index(desk: Desk, classes: Sequence[JsonObject]) -> None:
    videos = library(40, 5_000)  # over fifty hours: in chunks they would take six POSTs a group
    async with platform(desk, videos, classes=classes) as server:
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos, classes)
    groups = len({post.class_names for post in server.posts})
    assert groups == (3 if classes is THREE_GROUPS else 1)
    assert (len(server.posts), server.reposts) == (groups, 0)
    status = desk.status()
    assert (status.posts_planned, status.posts_sent, status.posts_by_reason) == (groups, groups, {"first": groups})
    assert (status.videos, status.open, status.next_command) == (40, 0, None)
    assert status.no_match > 0


async def test_the_rows_are_those_of_videos_mode(tmp_path: Path) -> None:
    videos = library(60)
    by_index, by_videos = Desk(tmp_path / "index"), Desk(tmp_path / "videos")
    for desk in (by_index, by_videos):
        desk.folder.mkdir()
    async with platform(by_index, videos, classes=THREE_GROUPS) as server:
        configure(by_videos, server, THREE_GROUPS, input__mode="videos")
        assert [(await desk.run()).exit_code for desk in (by_index, by_videos)] == [0, 0]
    assert by_index.content() == by_videos.content()
    assert len(by_index.content()[VIDEOS]) == 60


@pytest.mark.parametrize("name", ["whole-index", "overnight", "quickstart"])
async def test_the_shipped_configurations_pass_their_check(desk: Desk, name: str) -> None:
    checked = await desk.command("config", "check", ROOT / "configs" / f"{name}.toml")
    assert (checked.exit_code, checked.stderr) == (0, "")
    assert ('input.mode = "index"' in checked.stdout) is (name == "whole-index")


def test_of_a_page_only_what_is_new_and_wanted_is_news() -> None:
    page = Page(
        videos=(answer("a"), answer("b", "CookTok"), answer("b"), answer("settled"), answer("seen")),
        unreadable=(
            Unreadable("c", "no score"),
            Unreadable("a", "again"),
            Unreadable("alien", ""),
            Unreadable(None, "?"),
        ),
    )
    found = entries_of(page, Standing(shown=frozenset({"seen"}), wanted=frozenset({"a", "b", "c", "d"})))
    assert found.shown == ["a", "b", "settled", "c", "alien"]
    assert found.repeated == ["b", "seen", "a"]
    assert found.answers == [answer("a"), answer("b", "CookTok")]
    assert [(one.video_id, one.code, one.retryable) for one in found.failures] == [("c", "unusable_answer", False)]
    assert found.flaw == "the answer has an entry that cannot be read: ?"


# -------------------------------------------------------------------------------------------------------- what fails


def again(what: str, *places: tuple[str, int, Fault], **reasons: int) -> Any:
    """A failure after which everything is answered, for these POSTs."""
    return pytest.param(places, {"first": 1} | reasons, id=what)


@pytest.mark.parametrize(
    ("places", "reasons"),
    [
        again("429", ("post", 1, Status(429, headers={"Retry-After": "0"})), resend=1),
        again("503", *[("post", number, Status(503)) for number in range(1, 5)], resend=4),
        again("500", ("post", 1, Status(500)), resend=1),
        again("reset", ("post", 1, Reset()), resend=1),
        again("lost", ("post", 1, Reset(executed=True)), resend=1),
        again("cut", ("post", 1, Cut()), ("post", 2, NotJson()), resend=2),
        again("502", ("post", 1, Status(502)), ("post", 2, Status(504)), resend=2),
        again("page 503", ("page", 1, Status(503)), ("page", 3, Status(429, headers={"Retry-After": "0"}))),
        again("page lost", ("page", 1, Reset(executed=True)), ("page", 3, NotJson()), ("page", 5, Cut())),
        again("token dead", ("page", 2, ExpireToken()), expiry=1),
        again("first token dead", ("post", 1, ExpireToken()), ("post", 2, ExpireToken()), expiry=2),
        again("walk short", ("page", 1, MissingVideos(2)), incomplete=1),
        again("video twice", ("page", 2, DuplicateVideo())),
    ],
)
async def test_what_passes_costs_no_more_than_the_whole_post_again(
    desk: Desk, places: Sequence[tuple[str, int, Fault]], reasons: Mapping[str, int]
) -> None:
    videos = library(40)
    async with platform(desk, videos, *places) as server:
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos, answers_lost=True)
        assert no_video_is_named(server)
    assert desk.status().posts_by_reason == reasons


async def test_of_several_groups_only_the_one_whose_token_died_is_posted_again(desk: Desk) -> None:
    videos = library(40)
    options = {"answer": everything, "faults": faults(("page", 5, ExpireToken()))}  # each walk has three pages
    async with platform(desk, videos, classes=THREE_GROUPS, server=options) as server:
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos, THREE_GROUPS)
    assert [post.class_names[0] for post in server.posts] == ["class 0", "class 1", "class 1", "class 2"]
    assert desk.status().posts_by_reason == {"first": 3, "expiry": 1}


def unseen(server: ContractServer, videos: Mapping[str, float]) -> set[str]:
    return set(videos) - shown(server)


@pytest.mark.parametrize(
    ("places", "posts", "code"),
    [
        pytest.param([("post", n, ExpireToken()) for n in range(1, 9)], 4, "page_token_expired", id="dead tokens"),
        pytest.param([("page", 2, RepeatToken())], 1, "unusable_answer", id="circle"),
        pytest.param([("page", 2, AlienVideo())], 1, "unusable_answer", id="more than announced"),
        pytest.param([("page", n, Status(503)) for n in range(1, 99)], 4, "platform_overloaded", id="no page"),
    ],
)
async def test_what_a_walk_cannot_tell_any_more_fails_and_what_was_valid_counts(
    desk: Desk, places: Sequence[tuple[str, int, Fault]], posts: int, code: str
) -> None:
    """A video that was not shown is never taken for one without a match, for its walk was not whole."""
    videos = library(60)
    async with platform(desk, videos, *places) as server:
        assert (await desk.run()).exit_code == 3
        failed = unseen(server, videos)
        assert desk.failures() == dict.fromkeys(failed, code)
        assert 0 < len(failed) < 60
        assert desk.content() == expected_content(server, set(videos) - failed, CLASSES)
        assert verify(desk.out).differences == []
        assert len(server.posts) == posts
        before = len(server.posts)
        assert (await desk.run()).exit_code == 3
        assert len(server.posts) == before, "what failed is not asked for again"


@pytest.mark.parametrize("fault", [Status(502), Reset(executed=True), NotJson()], ids=["502", "lost", "not JSON"])
async def test_a_post_that_brings_nothing_to_the_end_fails_the_whole_index_in_every_group(
    desk: Desk, fault: Fault
) -> None:
    videos = library(20)
    broken = [("post", number, fault) for number in range(1, 5)]
    async with platform(desk, videos, *broken, classes=THREE_GROUPS, limits__max_unknown_posts=100) as server:
        assert (await desk.run()).exit_code == 3
        assert len(server.posts) == (3 if isinstance(fault, NotJson) else 4)
        assert set(desk.failures()) == set(videos)
        assert desk.status().next_command == f"bulk-classify retry {desk.out}"
        server._faults = lambda _: None
        assert (await run(desk.order(read_input=False, retry=Retry()))).exit_code == 0
        desk.check(server, videos, THREE_GROUPS)
    assert desk.status().posts_by_reason["retry"] == 3


async def test_answers_of_a_wrong_shape_fail_their_videos_and_are_not_paid_for_again(desk: Desk) -> None:
    videos = library(40)
    async with platform(desk, videos, ("page", 1, WrongShape(2))) as server:
        assert (await desk.run()).exit_code == 3
        wrong = set(server.pages[0].shown[:2])
        assert desk.failures() == dict.fromkeys(wrong, "unusable_answer")
        assert desk.content() == expected_content(server, set(videos) - wrong, CLASSES)
        assert verify(desk.out).differences == []
        assert len(server.posts) == 1
    assert desk.status().next_command is None


async def test_a_walk_that_ends_short_four_times_leaves_no_match_to_nobody(desk: Desk) -> None:
    videos = library(40)

    def fault(seen: RequestSeen) -> Fault | None:
        return MissingVideos(1) if seen.kind == "post" and 2 <= seen.number <= 5 else None

    async with platform(desk, videos, classes=THREE_GROUPS, server={"faults": fault}) as server:
        assert (await desk.run()).exit_code == 3
        of_second = [one for one in (*server.posts, *server.pages) if one.class_names == ("class 1",)]
        failed = set(videos) - {one for served in of_second for one in served.shown}
        assert desk.failures() == dict.fromkeys(failed, "incomplete_answer")
        assert len(failed) > 1, "also those that matched nothing: who can tell?"
        assert desk.content() == expected_content(server, set(videos) - failed, THREE_GROUPS)
        assert verify(desk.out).differences == []
    assert desk.status().posts_by_reason == {"first": 3, "incomplete": 3}


async def test_where_totals_count_something_else_the_empty_token_decides(desk: Desk) -> None:
    videos = library(40)
    short = [("post", number, MissingVideos(1)) for number in (1, 2)]
    async with platform(desk, videos, *short, classes=THREE_GROUPS) as server:
        assert (await desk.run()).exit_code == 0
        assert verify(desk.out).differences == []
        assert len(server.posts) == 4
    assert desk.failures() == {}


# -------------------------------------------------------------------------------------------------- what ends a run


def refusal(status: int, code: str = "", message: str = "") -> Status:
    body = f'{{"code": "{code}", "message": "{message}"}}'.encode() if code else b""
    return Status(status, body)


@pytest.mark.parametrize(
    ("fault", "stop", "says"),
    [
        (refusal(400, "parameter_invalid", "No."), JobRefused, f"the index {INDEX!r} (input.index_id): HTTP 400"),
        (
            refusal(404, "resource_not_exist", "No index."),
            JobRefused,
            f"the index {INDEX!r} (input.index_id): HTTP 404",
        ),
        (refusal(400, "parameter_invalid", "total duration exceeds the limit"), JobRefused, f"{INDEX!r}"),
        (refusal(413), JobRefused, f"{INDEX!r} (input.index_id): HTTP 413"),
        (refusal(410), EndpointGone, "no longer has this endpoint"),
        (refusal(401), KeyRefused, "refuses the API key"),
    ],
    ids=["400", "404", "too long", "413", "410", "401"],
)
async def test_what_is_refused_is_the_index_and_ends_the_run_with_everything_open(
    desk: Desk, fault: Status, stop: type[StopRun], says: str
) -> None:
    videos = library(20)
    async with platform(desk, videos, ("post", 1, fault)) as server:
        outcome = await desk.run()
        assert type(outcome.stopped) is stop
        assert says in str(outcome.stopped)
        assert (outcome.exit_code, desk.status().open, len(server.posts)) == (stop.exit_code, 20, 1)
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos)


async def test_an_index_that_does_not_exist_is_named_before_anything_is_posted(desk: Desk) -> None:
    async with platform(desk, library(5), input__index_id="index2") as server:
        with pytest.raises(JobRefused, match="the index 'index2' cannot be listed"):
            await desk.run()
        assert server.posts == []


async def test_three_posts_of_unknown_fate_end_the_run_and_keep_it(desk: Desk) -> None:
    videos = library(20)
    async with platform(desk, videos, *[("post", number, Reset(executed=True)) for number in (1, 2, 3)]) as server:
        outcome = await desk.run()
        assert (type(outcome.stopped), desk.status().open, desk.status().posts["unknown"]) == (PlatformDown, 20, 3)
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos)
        assert len(server.posts) == 4


async def test_a_platform_that_fails_for_long_is_down_and_no_video_fails_for_it(desk: Desk) -> None:
    videos = library(20)
    clock = MovedClock()
    always = {"faults": lambda seen: Status(500) if seen.kind == "post" else None}
    async with platform(desk, videos, server=always, limits__give_up_after_seconds=100) as server:
        for _ in range(2):  # what was tried before makes no difference
            outcome = await run(desk.order(clock=clock, timer=clock.timer))
            assert (type(outcome.stopped), desk.status().open, desk.failures()) == (PlatformDown, 20, {})
        server._faults = lambda _: None
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos)


async def test_a_budget_ends_the_run_and_what_is_complete_is_not_posted_again(desk: Desk) -> None:
    """The plan says so: three POSTs, and then two. Videos longer than ten hours are nothing to warn of."""
    videos = library(40) | {"video0040": 40_000.0}
    async with platform(desk, videos, classes=THREE_GROUPS, limits__max_posts=1) as server:
        plan = await rehearsed(desk.order())
        assert (plan.posts, plan.posts_lower_bound, plan.posts_before_stop, len(plan.warnings)) == (3, 3, 1, 1)
        outcome = await desk.run()
        assert (type(outcome.stopped), desk.status().open) == (QuotaReached, 41)
        configure(desk, server, THREE_GROUPS)
        assert (await rehearsed(desk.order())).posts == 2
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos, THREE_GROUPS)
    assert [post.class_names[0] for post in server.posts] == ["class 0", "class 1", "class 2"]


@each_number_of_groups
async def test_a_signal_lets_the_page_come_and_the_walk_goes_on_from_its_token(
    desk: Desk, classes: Sequence[JsonObject]
) -> None:
    videos = library(60)

    def interrupt(seen: RequestSeen) -> Fault | None:
        if (seen.kind, seen.number) == ("page", 2):
            os.kill(os.getpid(), signal.SIGINT)
            return Delay(0.05)
        return None

    async with platform(desk, videos, classes=classes, server={"faults": interrupt}) as server:
        assert (await desk.run()).exit_code == 130
        assert verify(desk.out).differences == []
        assert len(shown(server)) == 30, "the page that was under way has come"
        assert desk.status().scored == (30 if classes is CLASSES else 0)
        plan = await rehearsed(desk.order())
        assert (plan.posts, plan.posts_on_tokens) == ((0, 1) if classes is CLASSES else (2, 1))
        assert (await run(desk.order(read_input=False))).exit_code == 0
        desk.check(server, videos, classes)
    assert len(server.posts) == (1 if classes is CLASSES else 3)


# ------------------------------------------------------------------------------------------------ an index that moves


@each_number_of_groups
async def test_what_is_new_in_the_index_costs_a_post_a_group_and_only_it_gets_rows(
    desk: Desk, classes: Sequence[JsonObject]
) -> None:
    videos = library(20)
    async with platform(desk, videos, classes=classes) as server:
        assert (await desk.run()).exit_code == 0
        posts, rows = len(server.posts), len(desk.rows(VIDEOS))
        assert (await desk.run()).exit_code == 0
        assert len(server.posts) == posts, "nothing new and nothing open"
        videos |= library(5, first=20)
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos, classes)
    assert len(server.posts) == 2 * posts
    assert (rows, len(desk.rows(VIDEOS))) == (20, 25)
    assert desk.status().posts_planned == 2 * posts


async def test_new_videos_join_what_is_open_and_silence_before_them_is_no_answer(desk: Desk) -> None:
    videos = library(20)
    options = {"answer": everything}
    async with platform(desk, videos, classes=THREE_GROUPS, server=options, limits__max_posts=1) as server:
        assert (await desk.run()).exit_code == 75
        videos |= library(5, first=20)
        configure(desk, server, THREE_GROUPS)
        assert (await rehearsed(desk.order())).posts == 3
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos, THREE_GROUPS)
    assert [post.class_names[0] for post in server.posts] == ["class 0", "class 0", "class 1", "class 2"]


@each_number_of_groups
async def test_a_video_that_comes_after_the_listing_is_told_and_is_the_next_runs(
    desk: Desk, classes: Sequence[JsonObject]
) -> None:
    videos, late = library(22), "video0003"
    told = io.StringIO()
    hidden = {late}
    options = {"answer": everything, "listed": lambda one: one not in hidden}
    async with platform(desk, videos, classes=classes, server=options) as server:
        assert (await run(desk.order(console=Console(told)))).exit_code == 0
        desk.check(server, videos.keys() - hidden, classes)
        assert "shown 1 video that came into the index after it was listed" in told.getvalue()
        hidden.clear()
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos, classes)


@each_number_of_groups
async def test_silence_about_a_video_that_left_the_index_is_no_answer(
    desk: Desk, classes: Sequence[JsonObject]
) -> None:
    videos = library(12)
    async with platform(desk, videos, ("post", 1, Status(401)), classes=classes) as server:
        assert (await desk.run()).exit_code == 4
        del videos["video0005"]
        assert (await desk.run()).exit_code == 3
        assert desk.failures() == {"video0005": "resource_not_exist"}
        assert desk.content() == expected_content(server, videos, classes)
        codes = frozenset({"resource_not_exist"})
        assert (await run(desk.order(read_input=False, retry=Retry(codes)))).exit_code == 3
        assert desk.failures() == {"video0005": "resource_not_exist"}
        assert verify(desk.out).differences == []


async def test_failed_videos_are_taken_again_while_others_are_open(desk: Desk) -> None:
    """They get POSTs of their own: the complete walks of the open ones have already failed to tell of them."""
    videos = library(40)
    places: list[tuple[str, int, Fault]] = [("post", 1, WrongShape(2)), ("post", 3, Status(401))]
    async with platform(desk, videos, *places, classes=THREE_GROUPS) as server:
        assert (await desk.run()).exit_code == 4
        failed = set(server.posts[0].shown[:2])
        assert desk.status().failed == 2
        assert (await run(desk.order(read_input=False, retry=Retry(every=True)))).exit_code == 0
        assert failed <= {row["video_id"] for row in desk.rows(SCORES)}
        desk.check(server, videos, THREE_GROUPS)
    assert desk.status().posts_by_reason == {"first": 4, "retry": 3}


@pytest.mark.parametrize(
    "change", [{"input__mode": "videos"}, {"input__index_id": "index2"}], ids=["to single videos", "to another index"]
)
async def test_a_directory_stays_with_its_index(desk: Desk, change: Mapping[str, Any]) -> None:
    async with platform(desk, library(5)) as server:
        assert (await desk.run()).exit_code == 0
        configure(desk, server, **change)
        with pytest.raises(UsageError, match=r"a run of the whole index 'index1', and now it is to be one of"):
            await desk.run()


# ------------------------------------------------------------------------------------------------------ whatever comes


_BEARABLE: Sequence[Fault] = (
    Status(500),
    Status(502),
    Status(503, headers={"Retry-After": "0"}),
    Status(429, headers={"Retry-After": "0"}),
    Reset(),
    Reset(executed=True),
    Cut(0.7),
    NotJson(),
    ExpireToken(),
    DuplicateVideo(),
)


@settings(max_examples=10)
@given(st.randoms(use_true_random=False), st.integers(1, 3), st.integers(1, 20))
def test_bearable_failures_in_any_order_lose_and_double_nothing(
    dice: random.Random, groups: int, page_limit: int
) -> None:
    """A run with faults, stopped now and then by a budget, has the rows of an undisturbed one in the end."""
    classes = THREE_GROUPS[:groups]
    in_a_row = 0

    def fault(seen: RequestSeen) -> Fault | None:
        nonlocal in_a_row
        chosen = dice.choice(_BEARABLE) if in_a_row < 2 and dice.random() < 0.2 else None
        in_a_row = in_a_row + 1 if chosen else 0
        return chosen

    async def night(folder: Path) -> None:
        desk, videos, clock = Desk(folder), library(30), MovedClock()
        async with platform(desk, videos, classes=classes, server={"faults": fault}, job__page_limit=page_limit) as one:
            budget = 0
            while True:
                budget += dice.randint(1, 4)
                limits = {"limits__max_posts": budget, "limits__max_unknown_posts": 100}
                configure(desk, one, classes, job__page_limit=page_limit, **limits)
                outcome = await run(desk.order(clock=clock, timer=clock.timer))
                if outcome.exit_code != 75:
                    break
            assert verify(desk.out).differences == []
            failed = desk.failures()
            assert set(failed.values()) <= {"incomplete_answer", "page_token_expired", "gateway_failed"}
            assert outcome.exit_code == (3 if failed else 0)
            answered = [one for one in videos if one not in failed]
            assert desk.content() == expected_content(one, answered, classes)

    with TemporaryDirectory() as folder:
        anyio.run(night, Path(folder))


# ------------------------------------------------------------------------------------------------------------- kills


def plain_answer(video_id: str, asked: JsonObject) -> JsonObject | None:
    """Two videos in nine match nothing; the others match with one clip, always the same for a pair."""
    number = int(video_id.removeprefix("video"))
    if number % 9 < 2:
        return None
    score = 1 + (number * 31 + len(asked["name"]) + len(asked["prompts"][0])) % 99
    clip = {"start": number, "end": number + 0.5, "score": score, "option": "visual", "prompt": asked["prompts"][0]}
    return {"score": score, "duration_ratio": 0.25, "clips": [clip]}


class Kills:
    """Tells when so many requests have arrived; the tokens of a walk that a kill has interrupted may then be dead."""

    def __init__(self) -> None:
        self.dead: set[str] = set()
        self.let_tokens_die = False
        self._to_come = 0
        self._arrived = anyio.Event()

    def __call__(self, seen: RequestSeen) -> Fault | None:
        self._to_come -= 1
        if self._to_come == 0:
            self._arrived.set()
        expires, self.let_tokens_die = self.let_tokens_die and seen.kind == "page", False
        return ExpireToken() if expires else None

    async def after(self, requests: int, process: Process) -> None:
        """Kill a process when so many requests of it have arrived."""
        self._to_come, self._arrived = requests, anyio.Event()
        async with anyio.create_task_group() as tasks:

            async def give_up() -> None:
                await process.wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(give_up)
            await self._arrived.wait()
            tasks.cancel_scope.cancel()
        process.kill()
        assert await process.wait() == -signal.SIGKILL


async def killed_five_times(desk: Desk, count: int, classes: Sequence[JsonObject], dice: random.Random) -> int:
    """The POSTs that a run over so many videos took, whose rows are just the right ones."""
    videos = {f"video{number:05}": 600.5 for number in range(count)}
    pages = -(-count * 7 // 9 // 50)
    groups = len(classes) if classes is THREE_GROUPS else 1
    kills, dead = Kills(), 0
    options = {"answer": plain_answer, "faults": kills}
    async with platform(desk, videos, classes=classes, server=options, job__page_limit=50) as server:
        for _ in range(5):
            process = await desk.start("run", desk.config)
            await kills.after(dice.randint(2, max(2, pages * groups // 6)), process)
            kills.let_tokens_die = dice.random() < 0.5
            dead += kills.let_tokens_die
        process = await desk.start("run", desk.config)
        assert await process.wait() == 0, desk.stderr
        desk.check(server, videos, classes, answers_lost=True)
    assert groups <= len(server.posts) <= groups + 5
    assert no_video_is_named(server)
    return len(server.posts)


@each_number_of_groups
async def test_killed_five_times_each_row_is_there_once(desk: Desk, classes: Sequence[JsonObject]) -> None:
    await killed_five_times(desk, 1_500, classes, random.Random(5))


if __name__ == "__main__":
    with TemporaryDirectory() as chosen:
        for place, some in enumerate((CLASSES, THREE_GROUPS)):
            folder = Path(chosen) / str(place)
            folder.mkdir()
            posts = anyio.run(killed_five_times, Desk(folder), int(sys.argv[1]), some, random.Random(5))
            sys.stdout.write(f"{3 if place else 1} prompt group(s), killed five times: each row once, {posts} POSTs\n")
