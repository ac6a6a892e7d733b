"""The table of failures, row by row: what a whole run makes of a fault plan as a user writes it.

Every case is the same night: forty videos in four chunks of ten, one POST under way at a time, four videos a page. So
the second POST and the second and third page are those of videos 10 to 19. One thing goes wrong. Whatever that is, each
video is in one state, ``verify`` agrees, and the rows are those of the undisturbed night, but for the videos that have
failed or are still open; and what is open is answered by the same command when the trouble is over.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from pipeline.platform.faults import read_plan
from pipeline.platform.server import Settings, create_app
from pipeline.platform.store import Store
from pipeline.rows import FAILURES, SCORES, VIDEOS
from pipeline.run import Outcome, run
from pipeline.verify import verify
from tests.platform.made_up import CURVE, SPACE, AxisEmbedder, track, video
from tests.runs import Desk, MovedClock
from tests.servers.contract import JsonObject

ALPHA: JsonObject = {"name": "A", "prompts": ["alpha"]}
IDS = tuple(f"video{number:02}" for number in range(40))
CHUNK = tuple(range(10, 20))
"""The videos of the second POST. All match but 14: its pages show 10 to 13, 15 to 18, and 19."""
Counts = Mapping[str, int]
Rows = Mapping[str, Sequence[JsonObject]]
FIRST_ONLY: Counts = {"first": 4}


def post(numbers: str, fault: str) -> str:
    """A rule for the POSTs of these numbers."""
    return f'{{kind = "post", at = [{numbers}], {fault}}}'


def page(numbers: str, fault: str) -> str:
    """A rule for the GETs of these numbers."""
    return f'{{kind = "page", at = [{numbers}], {fault}}}'


def every_post_of(video_id: str, fault: str) -> str:
    """A rule for the POSTs that name a video."""
    return f'{{kind = "post", videos = ["{video_id}"], {fault}}}'


def status(number: int, body: str | None = None) -> str:
    """A fault that answers so."""
    return f'fault = "status", status = {number}' + ("" if body is None else f", body = '{body}'")


def refusal(number: int, code: str, message: str) -> str:
    """A fault that answers with an error of the contract."""
    return status(number, json.dumps({"code": code, "message": message}))


@dataclass(frozen=True, slots=True)
class Row:
    """What goes wrong, as rules of a plan, and what comes of it.

    ``posts`` counts the POSTs that left by why they did, ``unknown`` and ``refused`` by what became of them. The videos
    with the numbers ``failed`` fail with ``code``, and ``left_open`` is how many are not settled. What the run says of
    its stop, or else of each failure, holds ``says``.
    """

    what: str
    rules: str
    posts: Counts = field(default_factory=lambda: FIRST_ONLY)
    exit_code: int = 0
    unknown: int = 0
    refused: int = 0
    failed: Sequence[int] = ()
    code: str = ""
    left_open: int = 0
    says: str = ""
    settings: Mapping[str, object] = field(default_factory=dict)


def resent(what: str, rules: str, **more: Any) -> Row:
    """A POST is made once more, and nothing is lost."""
    return Row(what, rules, {"first": 4, "resend": 1}, **more)


def failing(what: str, rules: str, failed: Sequence[int], code: str, posts: Counts = FIRST_ONLY, **more: Any) -> Row:
    """Some videos cannot be answered, and all others are."""
    return Row(what, rules, posts, 3, failed=failed, code=code, **more)


def stopping(what: str, rules: str, exit_code: int, posts: Counts, left_open: int, **more: Any) -> Row:
    """The run ends before its time, and keeps what it has."""
    return Row(what, rules, posts, exit_code, left_open=left_open, **more)


def poisoned(what: str, fault: str, code: str, says: str, **reaction: Any) -> Row:
    """A video that is refused wherever it is named fails alone, with what the platform says of it."""
    usual: dict[str, Any] = {"posts": {"first": 4, "bisect": 3, "resend": 1}, "refused": 3}
    return failing(what, every_post_of("video13", fault), (13,), code, says=says, **usual | reaction)


SHORT_TIMEOUT = {"api__request_timeout_seconds": 2}
MANY_UNKNOWN = {"limits__max_unknown_posts": 100}
RESET, RESET_LATE = 'fault = "reset", executed = true', 'fault = "reset", after_headers = true'
TOO_LONG = "parameter_invalid", "The total duration(seconds) 37600 of videos exceeds the limit."
BROKEN = "video_broken", "One of the videos cannot be classified."
ODD = "odd", "The moon is not right."
MISSING = "resource_not_exist", "One of the videos does not exist."
UPGRADE = "api_upgrade_required", "This version is no longer offered."

TABLE: tuple[Row, ...] = (
    # ---- Reset or timeout after sending, 502, 504: it may have been billed. At most 3 resends, and 3 unknown in a row.
    resent("a POST is reset", post("2", 'fault = "reset"'), unknown=1),
    resent("a POST is reset after it was executed", post("2", RESET), unknown=1),
    resent("a POST is reset after the headers", post("2", RESET_LATE), unknown=1),
    resent("a POST hangs", post("2", 'fault = "hang"'), unknown=1, settings=SHORT_TIMEOUT),
    resent(
        "a POST's answer drips", post("2", 'fault = "slow", bytes_per_second = 20'), unknown=1, settings=SHORT_TIMEOUT
    ),
    resent("a gateway loses a POST: 502", post("2", status(502, "<html>") + ", executed = true"), unknown=1),
    resent("a gateway loses a POST: 504", post("2", status(504)), unknown=1),
    Row("a page is reset", page("2, 3", 'fault = "reset"')),  # a reset GET is sent again by the HTTP client, once
    Row("a page is reset after the headers", page("2, 3", RESET_LATE)),
    Row("a page hangs", page("2", 'fault = "hang"'), settings=SHORT_TIMEOUT),
    Row("a page is lost by a gateway", page("2, 4", status(502))),
    failing(
        "a POST is reset four times",
        every_post_of("video13", RESET),
        CHUNK,
        "connection_lost",
        {"first": 4, "resend": 3},
        unknown=4,
        settings=MANY_UNKNOWN,
    ),
    stopping(
        "three POSTs in a row may have been billed and brought nothing",
        post("2, 3, 4", RESET),
        69,
        {"first": 2, "resend": 2},
        30,
        unknown=3,
        says="limits.max_unknown_posts",
    ),
    # ---- 408, 425, 500, 503: at most 5 resends.
    *(resent(f"a POST is turned away: {one}", post("2", status(one)), refused=1) for one in (408, 425, 500, 503)),
    Row("a POST is turned away five times", post("2, 3, 4, 5, 6", status(503)), {"first": 4, "resend": 5}, refused=5),
    Row("pages are turned away", page("2, 4, 5", status(503))),
    # ---- 2xx cut short or not JSON: a page is asked for again, a POST at most twice.
    resent("a POST's answer is cut", post("2", 'fault = "cut"'), unknown=1),
    resent("a POST's answer is cut after a byte", post("2", 'fault = "cut", fraction = 0'), unknown=1),
    resent("a POST's answer is not JSON", post("2", status(200, "<html>")), unknown=1),
    resent("a POST's answer is empty", post("2", status(200)), unknown=1),
    failing(
        "a POST's answer is cut three times",
        every_post_of("video13", 'fault = "cut"'),
        CHUNK,
        "unreadable_answer",
        {"first": 4, "resend": 2},
        unknown=3,
        settings=MANY_UNKNOWN,
    ),
    Row("a page is cut", page("2, 5", 'fault = "cut"')),
    Row("a page is not JSON", page("2, 5", status(200, "<html>"))),
    Row("a page is empty", page("2, 5", status(200))),
    failing(
        "a POST's answer is empty three times",
        every_post_of("video13", status(200)),
        CHUNK,
        "unreadable_answer",
        {"first": 4, "resend": 2},
        unknown=3,
        settings=MANY_UNKNOWN,
    ),
    # ---- 2xx whole, but of a wrong shape: billed, and never posted again for that.
    failing("scores are texts", post("2", 'fault = "wrong_types", count = 2'), (10, 11), "unusable_answer"),
    failing("a score is missing", page("2", 'fault = "wrong_types", form = "missing"'), (15,), "unusable_answer"),
    failing(
        "a POST's answer is endless", post("2", 'fault = "huge", bytes = 1_000_000_000'), CHUNK, "answer_too_large"
    ),
    failing("a POST's answer is a bomb", post("2", 'fault = "bomb", bytes = 1_000_000_000'), CHUNK, "answer_too_large"),
    failing("a page is endless", page("2", 'fault = "huge", bytes = 1_000_000_000'), CHUNK[4:], "answer_too_large"),
    failing("a page is a bomb", page("2", 'fault = "bomb", bytes = 1_000_000_000'), CHUNK[4:], "answer_too_large"),
    # ---- 429: no failure of the chunk's.
    Row(
        "a POST is too early six times",
        post("2, 3, 4, 5, 6, 7", status(429, "") + ', headers = {Retry-After = "0"}'),
        {"first": 4, "resend": 6},
        refused=6,
    ),
    resent("a POST is too early, and no time is told", post("2", status(429)), refused=1),
    Row("a page is too early", page("2", status(429, ""))),
    Row("a page is too early seven times", page("2, 3, 4, 5, 6, 7, 8", status(429, ""))),
    # ---- A dead token: the walk starts anew with what it has not shown, at most 3 times.
    Row("tokens die in mid-walk", page("3", 'fault = "token_expired"'), {"first": 4, "expiry": 1}),
    Row("tokens die at once", post("2", 'fault = "token_expired"'), {"first": 4, "expiry": 1}),
    Row("a token is not found", page("2", refusal(404, *MISSING)), {"first": 4, "expiry": 1}),
    failing(
        "tokens die four times",
        every_post_of("video14", 'fault = "token_expired"'),
        (14, 19),  # seen two by two: 10 and 11, 12 and 13, 15 and 16, 17 and 18
        "page_token_expired",
        {"first": 4, "expiry": 3},
        says="it expired",
        settings={"job__page_limit": 2},
    ),
    # ---- Fewer videos than announced: the unseen are posted again, at most 3 times.
    Row("a page lacks a video", page("2", 'fault = "missing_videos"'), {"first": 4, "incomplete": 1}),
    failing(
        "videos are announced and never shown",
        '{videos = ["video13"], fault = "missing_videos", count = 10}',
        CHUNK,
        "incomplete_answer",
        {"first": 4, "incomplete": 3},
    ),
    # ---- An answer that contradicts itself: what was valid counts, the rest fails. Never an endless walk.
    failing("a page leads to itself", page("2", 'fault = "token_cycle"'), (14, 19), "unusable_answer", says="circle"),
    failing(
        "all pages lead to themselves",
        '{videos = ["video13"], fault = "token_cycle"}',
        CHUNK[4:],
        "unusable_answer",
        says="circle",
    ),
    failing("a stranger is shown", page("2", 'fault = "alien_video"'), (14, 19), "unusable_answer", says="ffffffff"),
    # ---- The same video on two pages: the first counts.
    Row("a video is shown twice", page("2", 'fault = "duplicate_video"')),
    Row("videos are shown on every page", '{fault = "duplicate_video"}'),
    # ---- 400 duration limit, 413: fewer at once.
    Row("a chunk is too long: 400", post("2", refusal(400, *TOO_LONG)), {"first": 4, "repack": 2}, refused=1),
    Row("a chunk is too long: 413", post("2", status(413, "")), {"first": 4, "repack": 2}, refused=1),
    poisoned(
        "a video is too long even alone",
        refusal(400, *TOO_LONG),
        "parameter_invalid",
        "exceeds the limit.",
        posts={"first": 4, "repack": 8},
        refused=5,
    ),
    # ---- 400 or 404 about the videos, and a 5xx that follows them everywhere: searched for until it stands alone.
    # 10 to 14 are refused, 10 to 12 are not, 13 is; what is left goes together.
    poisoned("a video is refused: 400", refusal(400, *BROKEN), "video_broken", "HTTP 400 (video_broken: One of the"),
    poisoned("a video is refused: 404", refusal(404, *MISSING), "resource_not_exist", "HTTP 404 (resource_not_exist:"),
    poisoned(
        "a video breaks the platform: 500",
        refusal(500, *BROKEN),
        "video_broken",
        "HTTP 500 (video_broken: One of the videos cannot be classified.)",
        posts={"first": 4, "resend": 6, "bisect": 4},  # 15 to 19 go early, to tell an outage from broken videos
        refused=8,
    ),
    poisoned(
        "a gateway loses the POSTs of a video: 502",
        status(502, "<html>"),
        "gateway_failed",
        "HTTP 502",
        posts={"first": 4, "resend": 4, "bisect": 4},
        unknown=6,
        refused=0,
        settings=MANY_UNKNOWN,
    ),
    failing(
        "the budget for searching is spent",
        every_post_of("video13", refusal(400, *BROKEN)),
        (13, 14),
        "video_broken",
        {"first": 4, "bisect": 2, "resend": 1},
        refused=2,
        settings={"limits__max_bisect_posts": 2},
    ),
    # ---- A 400 that says nothing known: the videos, or before any success the job.
    poisoned("something odd is said of one video", refusal(400, *ODD), "odd", "The moon is not right."),
    stopping(
        "something odd is said of all videos",
        post("1, 2, 3, 4", refusal(400, *ODD)),
        2,
        {"first": 1, "bisect": 2},
        40,
        refused=3,
        says="The moon is not right.",
    ),
    # ---- The endpoint is gone: the run ends, and says what takes its place.
    *(
        stopping(
            f"the endpoint is gone: {what}", post("3, 4", fault), 2, {"first": 3}, 20, refused=1, says="local platform"
        )
        for what, fault in (
            ("410", status(410)),
            ("api_upgrade_required", refusal(400, *UPGRADE)),
            ("404", status(404, "404 page not found")),
        )
    ),
    stopping("the endpoint is gone for a page", page("2", status(410)), 2, {"first": 2}, 30, says="local platform"),
    stopping("the endpoint was gone before", post("1, 2", status(410)), 2, {"first": 1}, 40, refused=1),
    # ---- 401, 403: nothing more is sent.
    stopping("the key is refused: 401", post("3, 4", status(401)), 4, {"first": 3}, 20, refused=1, says="HTTP 401"),
    stopping("the key is refused: 403", post("3, 4", status(403)), 4, {"first": 3}, 20, refused=1, says="HTTP 403"),
    stopping("the key was wrong from the beginning", post("1, 2", status(401)), 4, {"first": 1}, 40, refused=1),
    stopping("the key is refused for a page", page("2, 3", status(401)), 4, {"first": 2}, 30),
)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.what)
async def test_a_failure_has_the_reaction_of_its_row(row: Row, night: Night, undisturbed: Rows) -> None:
    outcome = await night.spend(row.rules, **row.settings)
    assert outcome.exit_code == row.exit_code
    failed = [IDS[number] for number in row.failed]
    night.check(undisturbed, failed=dict.fromkeys(failed, row.code), left_open=row.left_open)
    status = night.desk.status()
    assert status.posts_by_reason == row.posts
    assert (status.posts["unknown"], status.posts["refused"]) == (row.unknown, row.refused)
    assert night.pages <= 16
    said = [str(outcome.stopped)] if outcome.stopped else [one["message"] for one in night.desk.rows(FAILURES)]
    assert [one for one in said if row.says not in one] == []
    if row.left_open:
        assert (await night.spend()).exit_code == 0
        night.check(undisturbed)


# ------------------------------------------------------------------- rows of the table that need more than a fault plan


async def test_an_outage_of_ten_minutes_burns_nothing(night: Night, undisturbed: Rows) -> None:
    """Six failures, more than a chunk has attempts, by a platform's clock that goes on by 100 seconds at every look."""
    clock = count(0.0, 100.0).__next__
    async with night.platform(f"{{between_seconds = [0, 650], {status(503)}}}", clock=clock) as url:
        assert (await night.run(url)).exit_code == 0
    assert night.desk.status().posts_by_reason == {"first": 4, "resend": 6}
    night.check(undisturbed)


async def test_an_outage_without_end_ends_the_run_and_keeps_it(night: Night, undisturbed: Rows) -> None:
    outcome = await night.spend(f'{{kind = "post", {status(503)}}}', limits__give_up_after_seconds=1)
    assert outcome.exit_code == 69
    assert "the platform has answered nothing" in str(outcome.stopped)
    night.check(undisturbed, left_open=40)
    assert (await night.spend()).exit_code == 0
    night.check(undisturbed)


async def test_a_platform_that_cannot_be_reached_is_waited_for_and_nothing_is_billed(
    night: Night, undisturbed: Rows
) -> None:
    with closing(socket.socket()) as silent:
        silent.bind(("127.0.0.1", 0))  # and nobody listens
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1.2"
        outcome = await night.run(url, limits__give_up_after_seconds=1)
    assert outcome.exit_code == 69
    assert "the platform has answered nothing" in str(outcome.stopped)
    assert night.desk.status().posts_by_reason == {}
    night.check(undisturbed, left_open=40)
    assert (await night.spend()).exit_code == 0
    assert night.desk.status().posts_by_reason == FIRST_ONLY
    night.check(undisturbed)


@pytest.mark.parametrize("rule", [post, page])
async def test_a_redirect_to_another_origin_ends_the_run_and_is_not_followed(
    rule: Callable[[str, str], str], night: Night, undisturbed: Rows
) -> None:
    visits = 0

    def visited(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal visits
        visits += 1
        writer.close()

    elsewhere = await asyncio.start_server(visited, "127.0.0.1", 0)
    async with elsewhere:
        port = elsewhere.sockets[0].getsockname()[1]
        headers = f'headers = {{Location = "http://127.0.0.1:{port}/v1.2/classify"}}'
        outcome = await night.spend(rule("2", f"{status(307)}, {headers}"))
    assert (outcome.exit_code, visits) == (69, 0)
    assert "redirects" in str(outcome.stopped)
    night.check(undisturbed, left_open=30)
    assert (await night.spend()).exit_code == 0
    night.check(undisturbed)


async def test_where_the_first_two_walks_owe_videos_the_empty_token_decides_and_nothing_is_paid_again(
    night: Night, undisturbed: Rows
) -> None:
    outcome = await night.spend('{fault = "missing_videos"}')
    assert (outcome.exit_code, night.posts) == (0, 4)
    assert verify(night.desk.out).differences == []
    last_of_each_page = {IDS[number] for number in (4, 9, 13, 18, 19, 24, 29, 33, 38, 39)}
    assert scored(night.desk.content()) == scored(undisturbed) - last_of_each_page
    assert [row["event"] for row in night.desk.rows("run.log")].count("totals_not_trusted") == 1


async def test_a_class_that_was_not_asked_for_is_kept_and_logged(night: Night, undisturbed: Rows) -> None:
    outcome = await night.spend(page("2", 'fault = "alien_video", video_id = "video14"'))
    assert (outcome.exit_code, night.posts) == (0, 4)
    assert verify(night.desk.out).differences == []
    rows = night.desk.content()
    strange = [row for row in rows[SCORES] if row["class_name"] == "alien"]
    assert [(row["video_id"], row["score"]) for row in strange] == [("video14", 50.0)]
    assert [row for row in rows[SCORES] if row["class_name"] != "alien"] == undisturbed[SCORES]
    assert "classes_not_asked_for" in [row["event"] for row in night.desk.rows("run.log")]


@pytest.mark.parametrize(
    ("info", "exit_code", "answered"),
    [
        ({"total_results": 2, "next_page_token": "", "something": {"new": []}}, 0, 10),
        ({"total_results": 2}, 0, 10),
        ({"total_results": 1, "next_page_token": ""}, 3, 2),
        ({"total_results": "2", "next_page_token": ""}, 3, 2),
        ({"next_page_token": ""}, 3, 2),
    ],
    ids=["with unknown fields", "without an end token", "more than announced", "a total of text", "without a total"],
)
async def test_an_answer_is_read_as_far_as_it_is_of_the_contract(
    info: JsonObject, exit_code: int, answered: int, night: Night
) -> None:
    """Executed and billed: it is never asked for again."""
    classes = [{"name": "A", "score": 60, "duration_ratio": 1}]
    shown = [{"video_id": one, "classes": classes, "mood": "blue"} for one in IDS[10:12]]
    outcome = await night.spend(post("2", status(200, json.dumps({"data": shown, "page_info": info}))))
    assert (outcome.exit_code, night.posts) == (exit_code, 4)
    assert verify(night.desk.out).differences == []
    states = {row["video_id"]: row["status"] for row in night.desk.rows(VIDEOS)}
    assert len([one for one in IDS[10:20] if one in states]) == answered
    assert [states[one] for one in IDS[10:12]] == ["scored", "scored"]
    assert set(night.desk.failures().values()) <= {"unusable_answer"}


# ------------------------------------------------------------------------------------------------------ the same night


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Forty videos of ten minutes; each seventh matches nothing."""
    videos = [
        video(video_id, 600, track("visual", (0, 600, [0 if at % 7 == 0 else 60 - at])))
        for at, video_id in enumerate(IDS)
    ]
    path = tmp_path_factory.mktemp("index") / "index.sqlite"
    with Store.create(path, "64428d88456b2dab381e7000", "Test") as store:
        store.calibrate({"visual": CURVE})
        store.add_videos(videos, SPACE)
        yield store


@pytest.fixture(scope="module")
def undisturbed(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """The rows of a night in which nothing goes wrong."""
    night = Night(store, Desk(tmp_path_factory.mktemp("undisturbed")))
    assert anyio.run(night.spend).exit_code == 0
    assert (night.posts, night.pages) == (4, 6)
    return night.desk.content()


def scored(rows: Rows) -> set[str]:
    return {row["video_id"] for row in rows[VIDEOS] if row["status"] == "scored"}


@pytest.fixture
def night(store: Store, tmp_path: Path) -> Night:
    return Night(store, Desk(tmp_path))


@dataclass
class Night:
    """Runs over the whole index in one directory, and the requests that have arrived at their platforms."""

    store: Store
    desk: Desk
    posts: int = 0
    pages: int = 0

    async def spend(self, rules: str = "", **settings: object) -> Outcome:
        """A run against a platform with this plan."""
        async with self.platform(rules) as url:
            return await self.run(url, **settings)

    @asynccontextmanager
    async def platform(self, rules: str, clock: Callable[[], float] = time.time) -> AsyncIterator[str]:
        """A platform that carries out a plan file of these rules; its URL."""
        plan = self.desk.folder / "plan.toml"
        plan.write_text(f"rules = [{rules}]\n")
        settings = Settings(faults=read_plan(plan) if rules else ())
        application = create_app(self.store, settings, clock, embedder=AxisEmbedder())
        application.middlewares.insert(0, self._count)
        runner = web.AppRunner(application, access_log=None, auto_decompress=False)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1.2"
        finally:
            await runner.cleanup()

    async def run(self, url: str, **settings: object) -> Outcome:
        """A run of all videos, one POST at a time."""
        self.desk.write_ids(dict.fromkeys(IDS, 600.0))
        usual: dict[str, object] = {"limits__max_videos_per_post": 10, "limits__concurrency": 1, "job__page_limit": 4}
        self.desk.write_config(url, [ALPHA], **usual | settings)
        return await run(self.desk.order(timer=MovedClock().timer))

    @web.middleware
    async def _count(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.posts += request.method == "POST"
        self.pages += request.method == "GET"
        return await handler(request)

    def check(self, undisturbed: Rows, *, failed: Mapping[str, str] | None = None, left_open: int = 0) -> None:
        """The run is sound, its account of its POSTs is the platform's, just these videos failed, no row is wrong."""
        desk, status = self.desk, self.desk.status()
        assert verify(desk.out).differences == []
        assert desk.failures() == (failed or {})
        assert sum(status.posts_by_reason.values()) == self.posts
        answered = {row["video_id"] for row in desk.rows(VIDEOS)}
        assert len(answered) == 40 - len(failed or {}) - left_open
        assert status.open == left_open
        assert desk.content() == {
            name: [row for row in rows if row["video_id"] in answered] for name, rows in undisturbed.items()
        }
