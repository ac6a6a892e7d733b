"""The fault plan: read, chosen by, and carried out on loopback, against a bare client and against a whole run."""

from __future__ import annotations

import io
import json
import re
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.platform.faults import (
    FAULTS,
    AlienVideo,
    Bomb,
    Cut,
    DuplicateVideo,
    Fault,
    Hang,
    Huge,
    MissingVideos,
    Reset,
    Seen,
    Slow,
    Status,
    TokenCycle,
    TokenExpired,
    WrongTypes,
    chosen,
    delivery,
    read_plan,
)
from pipeline.platform.limits import Call
from pipeline.platform.server import Settings, serving
from pipeline.platform.store import Store
from pipeline.platform.videos import OPTIONS
from pipeline.verify import verify
from tests.platform.made_up import CURVE, SPACE, AxisEmbedder, track, video
from tests.runs import Desk

INDEX_ID = "64428d88456b2dab381e7000"
DOCUMENT = Path(__file__).parents[2] / "docs" / "faults.md"
ALPHA = {"name": "A", "prompts": ["alpha"]}
IDS = [f"v{at}" for at in range(5)]
REFUSED_TOKEN = "The page token is expired or invalid: it expired; post the request again."
BROKEN_OFF = (aiohttp.ClientPayloadError, aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)


# ------------------------------------------------------------------------------------------------------------ reading


def written(folder: Path, text: str) -> Path:
    path = folder / "plan.toml"
    path.write_text(text)
    return path


def test_a_plan_in_toml_is_the_plan_in_python(tmp_path: Path) -> None:
    plan = written(
        tmp_path,
        """
        [[rules]]
        kind = "post"
        at = [2, 7]
        fault = "status"
        status = 429
        body = ""
        headers = {Retry-After = "3"}

        [[rules]]
        share = 0.05
        seed = 7
        times = 3
        videos = ["v1", "v2"]
        between_seconds = [60, 660.5]
        fault = "cut"
        """,
    )
    assert read_plan(plan) == (
        Status(kind="post", at=frozenset({2, 7}), status=429, body="", headers={"Retry-After": "3"}),
        Cut(share=0.05, seed=7, times=3, videos=frozenset({"v1", "v2"}), between_seconds=(60, 660.5), fraction=0.5),
    )


def test_all_that_is_wrong_is_told_at_once_with_the_file_and_the_rule(tmp_path: Path) -> None:
    plan = written(
        tmp_path,
        """
        rule = 1
        [[rules]]
        fault = "statuss"
        [[rules]]
        [[rules]]
        fault = "status"
        kind = "get"
        statis = 500
        at = [0]
        share = 1.5
        [[rules]]
        fault = "status"
        [[rules]]
        fault = "hang"
        at = [1]
        every = 2
        [[rules]]
        fault = "hang"
        between_seconds = [2, 2]
        [[rules]]
        fault = "status"
        status = 200
        headers = {"a" = "b\\r\\nc"}
        [[rules]]
        fault = "hang"
        "\\u001b[31m" = 1
        """,
    )
    with pytest.raises(ConfigError) as caught:
        read_plan(plan)
    names = ", ".join(FAULTS)
    assert [problem.removeprefix(f"{plan}: ") for problem in caught.value.problems] == [
        "rule: unknown key; did you mean rules?",
        f"rules #1.fault = statuss: expected one of {names}; did you mean status?",
        f"rules #2.fault: expected one of {names}",
        "rules #3.statis: unknown key; did you mean status?",
        "rules #3.kind: Invalid enum value 'get'",
        "rules #3.at: Expected `int` >= 1 - at `$[0]`",
        "rules #3.share: Expected `float` <= 1.0",
        "rules #4: Object missing required field `status`",
        "rules #5: at most one of at, every and share",
        "rules #6: between_seconds: the first is not before the last",
        "rules #7.headers: Expected `str` matching regex '\\\\A[\\\\x20-\\\\x7e]*\\\\Z' - at `$[...]`",
        "rules #8.\\x1b[31m: unknown key",
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "expected at least one [[rules]]"),
        (b"rules = []", "expected at least one [[rules]]"),
        (b"rules = 3", "expected at least one [[rules]]"),
        (b"rules = [3]", "rules #1: expected a table"),
        (b"rules = [", "not valid TOML: Invalid value (at end of document)"),
        (b"x = " + b"[" * 9000, "not valid TOML: maximum recursion depth exceeded"),
        (b"\xff", "not UTF-8"),
        (b"#" * (2**20 + 1), "larger than 1048576 bytes"),
    ],
)
def test_what_is_no_plan_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "plan.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_plan(path)
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(f"{path}: {problem}")


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read: No such file or directory"):
        read_plan(tmp_path / "nowhere.toml")


async def test_serve_refuses_a_wrong_plan_with_exit_code_2(tmp_path: Path) -> None:
    plan = written(tmp_path, '[[rules]]\nfault = "hangs"\n[[rules]]\nfault = "slow"\n')
    finished = await Desk(tmp_path).command("serve", "--faults", plan, "--port", "0")
    assert finished.exit_code == 2
    assert finished.stderr.splitlines() == [
        f"error: {plan}: rules #1.fault = hangs: expected one of {', '.join(FAULTS)}; did you mean hang?",
        f"error: {plan}: rules #2: Object missing required field `bytes_per_second`",
    ]


def test_every_example_of_the_document_is_a_plan_and_every_word_is_in_it(tmp_path: Path) -> None:
    text = DOCUMENT.read_text("utf-8")
    examples = re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    rules = [rule for example in examples for rule in read_plan(written(tmp_path, example))]
    assert {type(rule) for rule in rules} == set(FAULTS.values())
    words = {field.name for fault in FAULTS.values() for field in msgspec.structs.fields(fault)} | FAULTS.keys()
    assert [word for word in sorted(words) if f"`{word}" not in text] == []


# ----------------------------------------------------------------------------------------------------------- choosing


def hit(rule: Fault, count: int = 12, kind: Call = "post", **facts: Any) -> list[int]:
    """Which of so many requests of one kind a rule happens to, as long as nothing else is asked for."""
    return [number for number in range(1, count + 1) if chosen([rule], Seen(kind, number, number, **facts), [0]) == 0]


def test_without_conditions_every_request_is_hit() -> None:
    assert hit(Hang(), 3) == [1, 2, 3]


def test_requests_are_chosen_by_their_number() -> None:
    assert hit(Hang(at=frozenset({2, 5, 99}))) == [2, 5]
    assert hit(Hang(every=4)) == [4, 8, 12]


def test_each_kind_has_its_own_numbers_and_any_counts_both() -> None:
    second_post = Seen("post", 2, 5)
    at_two, at_five = frozenset({2}), frozenset({5})
    rules: list[Fault] = [
        Hang(kind="page", at=at_two),
        Hang(kind="post", at=at_five),
        Hang(kind="any", at=at_two),
        Hang(kind="any", at=at_five),
        Hang(kind="post", at=at_two),
    ]
    assert [chosen([rule], second_post, [0]) for rule in rules] == [None, None, None, 0, 0]


def test_a_rule_may_wait_for_a_video() -> None:
    rule = Hang(videos=frozenset({"bad", "worse"}))
    assert hit(rule, 1, videos=frozenset({"bad"})) == [1]
    assert hit(rule, 1, videos=frozenset({"good"})) == []
    assert hit(rule, 1) == []


def test_a_rule_may_hold_from_a_second_to_before_another() -> None:
    rule = Hang(between_seconds=(60, 660))
    assert [bool(hit(rule, 1, seconds=seconds)) for seconds in (59.9, 60, 659.9, 660)] == [False, True, True, False]


def test_all_conditions_must_hold() -> None:
    rule = Hang(every=2, videos=frozenset({"bad"}), between_seconds=(0, 10))
    assert hit(rule, 4, videos=frozenset({"bad"}), seconds=9) == [2, 4]
    assert hit(rule, 4, videos=frozenset({"bad"}), seconds=10) == []


def test_the_first_rule_that_fits_and_is_not_spent_is_chosen() -> None:
    rules: list[Fault] = [Hang(every=2, times=2), Cut(), Slow(bytes_per_second=1)]
    assert chosen(rules, Seen("post", 1, 1), [0, 0, 0]) == 1
    assert chosen(rules, Seen("post", 2, 2), [1, 0, 0]) == 0
    assert chosen(rules, Seen("post", 4, 4), [2, 0, 0]) == 1
    assert chosen([], Seen("post", 1, 1), []) is None


@given(seed=st.integers(), small=st.floats(0, 1), large=st.floats(0, 1), kind=st.sampled_from(["post", "page"]))
def test_a_share_is_the_same_each_time_and_lies_within_any_larger_one(
    seed: int, small: float, large: float, kind: Call
) -> None:
    small, large = sorted((small, large))
    first = hit(Hang(share=small, seed=seed), 200, kind)
    assert first == hit(Hang(share=small, seed=seed), 200, kind)
    assert set(first) <= set(hit(Hang(share=large, seed=seed), 200, kind))


@given(seed=st.integers(), share=st.floats(0, 1))
def test_a_share_is_about_that_many(seed: int, share: float) -> None:
    spread = (2000 * share * (1 - share)) ** 0.5
    assert abs(len(hit(Hang(share=share, seed=seed), 2000)) - 2000 * share) <= 6 * spread + 1


def test_no_share_is_none_and_the_whole_share_is_all() -> None:
    assert hit(Hang(share=0), 1000) == []
    assert len(hit(Hang(share=1), 1000)) == 1000


def test_two_rules_of_the_same_share_choose_apart() -> None:
    rules: list[Fault] = [Hang(share=0.5), Cut(share=0.5)]
    places = [chosen(rules, Seen("post", number, number), [0, 0]) for number in range(1, 1001)]
    assert [places.count(0), places.count(1), places.count(None)] == [499, 263, 238]


# -------------------------------------------------------------------------------------------------------- carried out


@dataclass
class Clock:
    now: float = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def shown(self) -> list[str]:
        return [one["video_id"] for one in self.json["data"]]

    @property
    def token(self) -> str:
        return str(self.json["page_info"]["next_page_token"])

    @property
    def total(self) -> int:
        return int(self.json["page_info"]["total_results"])


@dataclass(frozen=True)
class Caller:
    """A client that does nothing by itself: a new connection each time, no redirects, nothing sent twice."""

    url: str
    session: aiohttp.ClientSession

    async def call(self, method: str, path: str, **options: Any) -> Answer:
        async with self.session.request(
            method, self.url + path, headers={"x-api-key": "any"}, allow_redirects=False, **options
        ) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    async def post(self, *video_ids: str, **body: Any) -> Answer:
        asked = {"options": ["visual"], "classes": [ALPHA], "page_limit": 2, "video_ids": video_ids or IDS}
        return await self.call("POST", "/classify", json=asked | body)

    async def post_index(self) -> Answer:
        asked = {"options": ["visual"], "classes": [ALPHA], "page_limit": 2, "index_id": INDEX_ID}
        return await self.call("POST", "/classify/bulk", json=asked)

    async def page(self, token: str) -> Answer:
        return await self.call("GET", f"/classify/{token}")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Five videos that score 90, 89, …, so that they stand in this order."""
    with Store.create(tmp_path / "index.sqlite", INDEX_ID, "Test") as opened:
        for option in OPTIONS:
            opened.calibrate({option: CURVE})
        opened.add_videos([video(one, 100, track("visual", (0, 50, [90 - at]))) for at, one in enumerate(IDS)], SPACE)
        yield opened


@asynccontextmanager
async def calling(store: Store, *faults: Fault, clock: Clock | None = None, **settings: Any) -> AsyncIterator[Caller]:
    async with (
        serving(store, Settings(faults=faults, **settings), clock=clock or Clock(), embedder=AxisEmbedder()) as url,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session,
    ):
        yield Caller(url, session)


async def used(caller: Caller) -> int:
    """How many POSTs the tariff has counted, this one among them."""
    return int((await caller.post()).headers["X-Ratelimit-Used"])


FIRST = frozenset({1})


async def test_a_status_takes_the_place_of_any_classify_answer_and_costs_nothing(store: Store) -> None:
    rule = Status(status=503, headers={"Retry-After": "7"}, at=frozenset({1, 2, 4}))
    async with calling(store, rule, tariff="v1.2-free") as caller:
        answers = [await caller.post(), await caller.post_index()]
        good = await caller.post()
        answers.append(await caller.page(good.token))
        again = await caller.page(good.token)
    for answer in answers:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "7")
        assert answer.json == {"code": "planned_fault", "message": "The fault plan asks for this."}
    assert (good.status, good.headers["X-Ratelimit-Used"], again.shown) == (200, "1", ["v2", "v3"])


async def test_other_endpoints_and_strangers_are_not_touched(store: Store) -> None:
    async with calling(store, Status(status=500, at=FIRST)) as caller:
        assert (await caller.call("GET", "/indexes")).status == 200
        stranger = await caller.session.post(caller.url + "/classify")
        assert (stranger.status, (await caller.post()).status, (await caller.post()).status) == (401, 500, 200)


@pytest.mark.parametrize(
    ("rule", "body", "content_type"),
    [
        (
            Status(status=200, body="<html>Welcome</html>", headers={"content-type": "text/html"}, at=FIRST),
            None,
            "text/html",
        ),
        (Status(status=200, at=FIRST), b"", "application/octet-stream"),
    ],
)
async def test_a_200_that_is_not_json_or_empty_was_executed(
    store: Store, rule: Status, body: bytes | None, content_type: str
) -> None:
    async with calling(store, rule, tariff="v1.2-free") as caller:
        answer = await caller.post()
        assert (answer.status, answer.headers["Content-Type"]) == (200, content_type)
        assert answer.body == (rule.content if body is None else body)
        assert answer.headers["X-Ratelimit-Used"] == "1"


async def test_an_executed_502_is_counted_and_an_executed_refusal_stays_a_refusal(store: Store) -> None:
    rule = Status(status=502, body="<html>", executed=True, at=frozenset({1, 2}))
    async with calling(store, rule, tariff="v1.2-free") as caller:
        lost, refused = await caller.post(), await caller.post("nobody")
        assert (lost.status, lost.body, refused.status, await used(caller)) == (502, b"<html>", 404, 3)


async def test_a_redirect_names_another_origin(store: Store) -> None:
    async with calling(store, Status(status=307, headers={"Location": "https://elsewhere.example/"})) as caller:
        answer = await caller.post()
    assert (answer.status, answer.headers["Location"], answer.body) == (307, "https://elsewhere.example/", b"")


@pytest.mark.parametrize("status", [400, 500])
async def test_poisoned_ids_spoil_every_post_that_names_one(store: Store, status: int) -> None:
    async with calling(store, Status(kind="post", videos=frozenset({"v3"}), status=status)) as caller:
        answers = [
            await caller.post(*IDS[:3]),
            await caller.post("v3"),
            await caller.post(*IDS),
            await caller.post_index(),
        ]
    assert [answer.status for answer in answers] == [200, status, status, status]
    assert not any(b"v3" in answer.body for answer in answers)


async def test_a_rule_for_videos_follows_their_walk_to_its_pages(store: Store) -> None:
    async with calling(store, Status(kind="page", videos=frozenset({"v0"}), status=500)) as caller:
        walks = [await caller.post(*IDS), await caller.post(*IDS[1:]), await caller.post_index()]
        assert [(await caller.page(walk.token)).status for walk in walks] == [500, 200, 500]


async def test_a_body_that_cannot_be_read_is_about_no_video(store: Store) -> None:
    async with calling(store, Hang(videos=frozenset({"v0"}))) as caller:
        assert (await caller.call("POST", "/classify", data=b"{")).status == 400
        assert (await caller.call("POST", "/classify", data=io.BytesIO(b" " * (2**20 + 1)))).status == 413


@pytest.mark.parametrize(
    ("status", "body", "content"),
    [
        (410, None, b'{"code":"planned_fault","message":"The fault plan asks for this."}'),
        (400, '{"code":"api_upgrade_required"}', b'{"code":"api_upgrade_required"}'),
        (404, "404 page not found", b"404 page not found"),
    ],
)
async def test_an_endpoint_may_be_gone(store: Store, status: int, body: str | None, content: bytes) -> None:
    async with calling(store, Status(status=status, body=body)) as caller:
        answer = await caller.post()
    assert (answer.status, answer.body) == (status, content)


async def test_an_outage_ends_by_the_servers_clock(store: Store) -> None:
    clock = Clock()
    outage = Status(status=503, between_seconds=(10, 610))
    resets = Reset(between_seconds=(610, 620))
    async with calling(store, outage, resets, clock=clock) as caller:
        seen: list[int | str] = []
        for seconds in (0, 10, 609, 610, 620):
            clock.now = 1_700_000_000.0 + seconds
            try:
                seen.append((await caller.post()).status)
            except aiohttp.ClientError:
                seen.append("reset")
    assert seen == [200, 503, 503, "reset", 200]


@pytest.mark.parametrize(
    ("rule", "posts"),
    [(Reset(at=FIRST), 1), (Reset(at=FIRST, executed=True), 2), (Reset(at=FIRST, after_headers=True), 2)],
)
async def test_a_reset_may_come_before_or_after_the_post_was_counted(store: Store, rule: Reset, posts: int) -> None:
    async with calling(store, rule, tariff="v1.2-free") as caller:
        with pytest.raises(BROKEN_OFF):
            await caller.post()
        assert await used(caller) == posts


async def test_a_reset_after_the_headers_shows_them(store: Store) -> None:
    async with (
        calling(store, Reset(after_headers=True)) as caller,
        caller.session.post(
            caller.url + "/classify",
            json={"options": ["visual"], "classes": [ALPHA], "video_ids": IDS},
            headers={"x-api-key": "any"},
        ) as answer,
    ):
        assert (answer.status, "X-Score-Source" in answer.headers) == (200, True)
        with pytest.raises(BROKEN_OFF):
            await answer.read()


async def test_a_page_can_be_reset_and_its_token_lives_on(store: Store) -> None:
    # aiohttp's client sends a GET that is reset once more by itself.
    async with calling(store, Reset(kind="page", at=frozenset({1, 2}))) as caller:
        token = (await caller.post()).token
        with pytest.raises(BROKEN_OFF):
            await caller.page(token)
        assert (await caller.page(token)).shown == ["v2", "v3"]


@pytest.mark.parametrize("fraction", [0, 0.5, 0.999])
async def test_a_cut_body_ends_before_the_length_that_was_announced(store: Store, fraction: float) -> None:
    async with calling(store, Cut(fraction=fraction, kind="post", at=FIRST)) as caller:
        with pytest.raises(aiohttp.ClientPayloadError, match="Not enough data"):
            await caller.post()
        assert (await caller.post()).shown == ["v0", "v1"]


def test_a_cut_sends_its_fraction_and_a_byte_at_least() -> None:
    pieces = {fraction: delivery(b"0123456789", Cut(fraction=fraction)) for fraction in (0, 0.55)}
    assert {fraction: sent and list(sent.pieces) for fraction, sent in pieces.items()} == {
        0: [(b"0", 0.0)],
        0.55: [(b"01234", 0.0)],
    }


async def test_a_slow_answer_is_the_right_one(store: Store) -> None:
    async with calling(store, Slow(bytes_per_second=100_000, at=FIRST)) as caller:
        assert (await caller.post()).json["data"] == (await caller.post()).json["data"]


@given(size=st.integers(1, 500), pace=st.integers(1, 5000))
def test_a_drip_keeps_its_pace(size: int, pace: int) -> None:
    body = bytes(range(256)) * 2
    sent = delivery(body[:size], Slow(bytes_per_second=pace))
    assert sent is not None
    pieces = list(sent.pieces)
    assert b"".join(piece for piece, _ in pieces) == body[:size]
    assert sum(pause for _, pause in pieces) == pytest.approx(size / pace)
    assert max(pause for _, pause in pieces) <= 1


class WatchedClock(Clock):
    """Tells of the next look at it, which the server takes as soon as a request has arrived."""

    def __init__(self) -> None:
        super().__init__()
        self.looked_at = anyio.Event()

    def __call__(self) -> float:
        self.looked_at.set()
        return super().__call__()


async def test_a_hanging_request_ends_with_its_client_and_costs_what_it_says(store: Store) -> None:
    rules = [Hang(at=FIRST), Hang(at=frozenset({2}), executed=True)]
    clock = WatchedClock()
    async with calling(store, *rules, clock=clock, tariff="v1.2-free") as caller:
        for _ in range(2):
            clock.looked_at = anyio.Event()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(caller.post)
                await clock.looked_at.wait()
                tasks.cancel_scope.cancel()
        assert await used(caller) == 2


async def test_a_hanging_request_does_not_hold_up_the_end_of_the_server(store: Store) -> None:
    async with anyio.create_task_group() as tasks:

        async def hang(caller: Caller, arrived: anyio.Event) -> None:
            async def tell(_: bytes = b"") -> AsyncIterator[bytes]:
                yield b"{}"
                arrived.set()

            with pytest.raises(BROKEN_OFF):
                await caller.call("POST", "/classify", data=tell())

        async with aiohttp.ClientSession() as session:
            with anyio.fail_after(20):
                async with serving(store, Settings(faults=(Hang(),)), embedder=AxisEmbedder()) as url:
                    arrived = anyio.Event()
                    tasks.start_soon(hang, Caller(url, session), arrived)
                    await arrived.wait()


async def test_a_huge_body_is_the_right_answer_and_spaces(store: Store) -> None:
    async with calling(store, Huge(bytes=3_000_001, at=FIRST)) as caller:
        huge, right = await caller.post(), await caller.post()
    assert len(huge.body) == 3_000_001
    assert "Content-Length" not in huge.headers
    assert huge.json["data"] == right.json["data"]


async def test_a_bomb_is_small_until_it_is_decompressed(store: Store) -> None:
    asked = {"options": ["visual"], "classes": [ALPHA], "page_limit": 2, "video_ids": IDS}
    async with (
        calling(store, Bomb(bytes=20_000_000, at=FIRST)) as caller,
        aiohttp.ClientSession(auto_decompress=False) as session,
    ):
        bomb = await Caller(caller.url, session).call("POST", "/classify", json=asked)
        right = await caller.post()
    burst = zlib.decompress(bomb.body, wbits=zlib.MAX_WBITS | 16)
    assert bomb.headers["Content-Encoding"] == "gzip"
    assert (len(bomb.body) < 30_000, len(burst)) == (True, 20_000_000)
    assert json.loads(burst)["data"] == right.json["data"]


# ----------------------------------------------------------------------------------------------------------- contents


async def test_scores_of_the_wrong_type_stand_in_so_many_videos(store: Store) -> None:
    rules = [WrongTypes(kind="post", at=FIRST), WrongTypes(kind="page", count=9, form="missing")]
    async with calling(store, *rules) as caller:
        post = await caller.post()
        page = await caller.page(post.token)
    assert [one["classes"][0]["score"] for one in post.json["data"]] == ["90.0", 89.0]
    assert [sorted(one["classes"][0]) for one in page.json["data"]] == [["duration_ratio", "name"]] * 2


async def test_a_page_may_lack_videos_that_its_total_counts(store: Store) -> None:
    async with calling(store, MissingVideos(kind="page", at=FIRST), MissingVideos(kind="post", count=9)) as caller:
        post = await caller.post()
        page = await caller.page(post.token)
    assert [(post.shown, post.total), (page.shown, page.total)] == [([], 5), (["v2"], 5)]


async def test_a_page_may_repeat_the_first_video_of_its_walk(store: Store) -> None:
    async with calling(store, DuplicateVideo()) as caller:
        post = await caller.post_index()
        page = await caller.page(post.token)
        assert [post.shown, page.shown, page.total] == [["v0", "v1", "v0"], ["v2", "v3", "v0"], 5]
        nothing = await caller.post(threshold={"min_video_score": 99})
        assert (nothing.shown, nothing.total) == ([], 0)


async def test_a_page_may_have_a_video_that_nobody_asked_for(store: Store) -> None:
    async with calling(store, AlienVideo(kind="post")) as caller:
        post = await caller.post(threshold={"min_video_score": 99})
    assert (post.shown, post.total) == (["ffffffffffffffffffffffff"], 1)


@pytest.mark.parametrize("kind", ["post", "page"])
async def test_pages_may_go_round_in_a_circle(store: Store, kind: Call) -> None:
    async with calling(store, TokenCycle(kind=kind)) as caller:
        answer = await caller.post()
        tokens, shown = [answer.token], [answer.shown]
        for _ in range(3):
            answer = await caller.page(answer.token)
            tokens.append(answer.token)
            shown.append(answer.shown)
    first, second, third = ["v0", "v1"], ["v2", "v3"], ["v4"]
    assert shown == ([first, first, second, third] if kind == "post" else [first, second, second, second])
    assert (
        tokens[1:] == [tokens[0].replace("-1", "-2"), tokens[0].replace("-1", "-3"), ""]
        if kind == "post"
        else [tokens[0]] * 3
    )


async def test_even_an_answer_of_one_page_may_go_round(store: Store) -> None:
    async with calling(store, TokenCycle()) as caller:
        post = await caller.post("v0")
        page = await caller.page(post.token)
        assert (post.shown, page.shown, page.token) == (["v0"], ["v0"], post.token)


async def test_a_walk_may_expire_in_the_middle(store: Store) -> None:
    async with calling(store, TokenExpired(kind="page", at=frozenset({2}))) as caller:
        first = await caller.post()
        second = await caller.page(first.token)
        answers = [await caller.page(token) for token in (second.token, second.token, first.token)]
        other = await caller.page((await caller.post()).token)
    assert [(answer.status, answer.json["message"]) for answer in answers] == [(400, REFUSED_TOKEN)] * 3
    assert (second.status, other.status) == (200, 200)


async def test_a_post_may_be_answered_with_a_dead_token(store: Store) -> None:
    async with calling(store, TokenExpired(kind="post", at=FIRST)) as caller:
        post = await caller.post()
        page = await caller.page(post.token)
    assert (post.status, post.shown, page.status, page.json["message"]) == (200, ["v0", "v1"], 400, REFUSED_TOKEN)


# ------------------------------------------------------------------------------------------------------ a whole run


async def test_a_run_answers_every_video_under_a_mix_of_harmless_faults(tmp_path: Path) -> None:
    videos = [
        video(f"video{at:03}", 600, track("visual", (0, 600, [0 if at % 7 == 0 else 20 + at % 70])))
        for at in range(600)
    ]
    mix: tuple[Fault, ...] = (
        Status(share=0.01, status=503),
        Status(share=0.01, status=500),
        Status(share=0.005, status=502, executed=True),
        Status(share=0.01, kind="page", status=200, body="<html>"),
        Reset(share=0.005),
        Reset(share=0.005, after_headers=True),
        Cut(share=0.01),
        Slow(at=frozenset({50, 150}), bytes_per_second=100_000),
        TokenExpired(share=0.01, kind="page"),
        DuplicateVideo(share=0.01, kind="page"),
        MissingVideos(at=frozenset({200, 400}), kind="page"),
    )
    desk = Desk(tmp_path)
    desk.write_ids({one.video_id: one.duration_seconds for one in videos})
    with Store.create(tmp_path / "index.sqlite", INDEX_ID, "Test") as store:
        store.calibrate({"visual": CURVE})
        store.add_videos(videos, SPACE)
        async with serving(store, Settings(faults=mix), embedder=AxisEmbedder()) as url:
            desk.write_config(url, [ALPHA], job__page_limit=1, limits__max_videos_per_post=6)
            outcome = await desk.run()
    assert (outcome.exit_code, outcome.stopped) == (0, None)
    assert verify(desk.out).differences == []
    states = {row["video_id"]: row["status"] for row in desk.rows("videos.ndjson")}
    assert states == {one.video_id: "no_match" if at % 7 == 0 else "scored" for at, one in enumerate(videos)}
