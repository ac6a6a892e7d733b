"""Answers of the platform: pages of a walk, listings of an index, errors with their headers.

What is decoded is held against the same body read by ``json`` and judged by hand here. The second reading cannot say
what is right where JSON itself leaves it open (a name twice, half of a surrogate pair) or where ``json`` gives up
(nesting); there only the types are judged.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from pathlib import Path
from random import Random
from typing import Literal

import msgspec
from multidict import CIMultiDict

from pipeline import wire, wire_lists
from pipeline.chunks import HeldPage, HeldWalk
from pipeline.client import Client
from pipeline.errors import AnswerCut, AnswerUnusable, PipelineError, RequestFailed
from pipeline.models import JobClass, Page, Unreadable, VideoAnswer
from pipeline.rows import Origin, RowStyle, lines_of
from pipeline.transport import Response, Transport
from pipeline.walk import GroupAnswer, merged
from tests.builders import GUIDE
from tests.fuzz.mutation import Raw, Tree, json_bytes, mutated, spoilt, text_of
from tests.fuzz.running import Reader, check_message
from tests.fuzz.second_reading import PageFacts, Reading, is_number, page_of, second_reading

ASKED = ("v1", "v2", "v3", "v4", "v5", "v6")
CLASSES = ("DanceTok", "CookTok", "PetTok")
SECRET = "tlk_0123456789ABCDEFGHIJ"
NOW = 1_700_000_000.0
REQUEST = wire.ClassifyRequest((JobClass("DanceTok", ("Dance group",)),), ("visual",), ASKED)
DAY_SECONDS = 86_400.0
_STYLE = RowStyle("run", include_clips=True, show_detailed_score=True)

_Kind = Literal["walk", "listing", "failure"]


@dataclass(frozen=True, slots=True)
class Answers:
    """What the platform sends: the pages of one walk, one page of a listing, or an answer that is no page at all."""

    kind: _Kind
    bodies: tuple[bytes, ...]
    total: int | None = None
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


# ------------------------------------------------------------------------------------------------------------- making


def make(draw: Random, heavy: bool) -> Answers:
    """Answers to one request; a heavy one is large."""
    kind: _Kind = draw.choices(("walk", "listing", "failure"), (6, 1, 2))[0]
    if kind == "walk":
        return _walk(draw, heavy)
    if kind == "listing":
        return Answers(kind, (_body(draw, _listing(draw, heavy), [_page(draw, ASKED, 6, "")]),))
    return _failure(draw)


def _walk(draw: Random, heavy: bool) -> Answers:
    answered = draw.sample(ASKED, draw.randrange(len(ASKED) + 1))
    cuts = sorted({0, len(answered), *(draw.randrange(len(answered) + 1) for _ in range(draw.choice((0, 0, 1, 2))))})
    parts = [answered[start:end] for start, end in pairwise(cuts)] or [[]]
    trees: list[Tree] = [
        _page(draw, part, len(answered), f"token-{number}" if number < len(parts) else "", entries=200 if heavy else 1)
        for number, part in enumerate(parts, 1)
    ]
    if draw.random() < 0.25:
        return Answers("walk", tuple(json_bytes(draw, tree) for tree in trees), len(answered))
    if draw.random() < 0.2:
        trees.insert(
            draw.randrange(len(trees) + 1),
            draw.choice([*trees, *(one["response"] for one in GUIDE if "response" in one)]),
        )
    return Answers("walk", tuple(_body(draw, tree, trees) for tree in trees))


def _page(draw: Random, video_ids: Sequence[str], total: int, token: str, entries: int = 1) -> Tree:
    info: dict[str, Tree] = {
        "limit_per_page": 10,
        "total_results": total,
        "page_expired_at": draw.choice(("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.123+02:00", "")),
        "next_page_token": token,
        "prev_page_token": "",
    }
    if not token and draw.random() < 0.5:
        del info["next_page_token"]
    return {"data": [_entry(draw, one, entries) for one in video_ids], "page_info": info}


def _entry(draw: Random, video_id: str, clips: int) -> Tree:
    return {
        "video_id": video_id,
        "classes": [_class(draw, name, clips) for name in draw.sample(CLASSES, draw.randrange(4))],
    }


def _number(draw: Random) -> Tree:
    return draw.choice(
        (0, 1, 100, 37.83, round(draw.uniform(0, 100), 2), draw.random(), Raw("1E1"), Raw("1.0"), Raw("-0"))
    )


def _class(draw: Random, name: str, clips: int) -> Tree:
    one: dict[str, Tree] = {"name": name, "score": _number(draw), "duration_ratio": draw.random()}
    if draw.random() < 0.5 or clips > 1:
        one["clips"] = [_clip(draw) for _ in range(clips * draw.randrange(3))]
    if draw.random() < 0.3:
        one["detailed_scores"] = {
            "max_score": _number(draw),
            "avg_score": _number(draw),
            "normalized_score": _number(draw),
        }
    if draw.random() < 0.1:
        one["confidence"] = "high"
    return one


def _clip(draw: Random) -> Tree:
    clip: dict[str, Tree] = {
        "start": _number(draw),
        "end": _number(draw),
        "score": _number(draw),
        "option": "visual",
        "prompt": "Dance group",
    }
    if draw.random() < 0.3:
        clip["thumbnail_url"] = draw.choice(("https://t/1.jpeg?key=1", None))
    return clip


def _listing(draw: Random, heavy: bool) -> Tree:
    videos = [
        {"_id": f"v{number}", "metadata": {"duration": draw.choice((None, 0, 12, 3.5)), "filename": "a.mp4"}}
        for number in range(draw.randrange(2_000 if heavy else 5))
    ]
    return {
        "data": videos,
        "page_info": {"page": 1, "total_page": 1, "limit_per_page": 50, "total_results": len(videos)},
    }


def _body(draw: Random, tree: Tree, others: Sequence[Tree]) -> bytes:
    """A tree as bytes, most often spoilt, now and then after it was written."""
    for _ in range(draw.choice((0, 1, 1, 1, 3))):
        tree = spoilt(draw, tree)
    body = json_bytes(draw, tree)
    return mutated(draw, body, json_bytes(draw, draw.choice(others))) if draw.random() < 0.25 else body


_STATUSES = (
    200,
    201,
    204,
    206,
    299,
    300,
    302,
    400,
    401,
    403,
    404,
    408,
    410,
    413,
    422,
    425,
    429,
    451,
    500,
    502,
    503,
    504,
    599,
)
_CODES = (
    "parameter_invalid",
    "resource_not_exist",
    "api_upgrade_required",
    "too_many_requests",
    "video_refused",
    SECRET,
)
_MESSAGES = (
    "The total duration(seconds) 37600 of videos exceeds the limit.",
    "video v1 is bad",
    f"key {SECRET}",
    "\x1b]0;x\a" * 300,
    "",
)
_HEADERS = (
    "Retry-After",
    "X-Ratelimit-Limit",
    "X-Ratelimit-Remaining",
    "X-Ratelimit-Used",
    "X-Ratelimit-Reset",
    wire.SCORE_SOURCE_HEADER,
)
_HEADER_VALUES = (
    *("", "0", "1", "20", "-1", "1e3", "1e999", "nan", "inf", "1_0", "0x1", "٣", "9" * 5_000, "\udcff", SECRET),
    *("1700000060", "1700000060000", "Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2026 07:28:00 -0000"),
    *("Mon, 99 Foo 99999 99:99:99 +9999", "Wed, 21 Oct 0000 07:28:00 GMT"),
)


def _failure(draw: Random) -> Answers:
    tree: Tree = {"code": draw.choice((*_CODES, text_of(draw))), "message": draw.choice((*_MESSAGES, text_of(draw)))}
    headers = tuple(
        (name, draw.choice(_HEADER_VALUES)) for name in draw.sample(_HEADERS, draw.randrange(len(_HEADERS)))
    )
    return Answers("failure", (_body(draw, tree, [tree, "<html>"]),), status=draw.choice(_STATUSES), headers=headers)


# ----------------------------------------------------------------------------------------------------------- checking


def check(case: Answers, _: Path) -> bool:
    """Decode the answers as a run does, and hold what comes out against a reading by hand."""
    match case.kind:
        case "walk":
            return _check_walk(case)
        case "listing":
            return _check_listing(case.bodies[0])
        case "failure":
            return _check_failure(case)


def _check_walk(case: Answers) -> bool:
    group = GroupAnswer(0, ASKED)
    shown: set[str] = set()
    pages: list[HeldPage] = []
    for moment, body in enumerate(case.bodies):
        page = _decoded(body)
        if page is None or not _take(group, page, moment, shown):
            assert case.total is None, "a whole walk was refused"
            return False
        pages.append(HeldPage(body, moment))
        if page.next_token is None:
            break
    _check_replay(group, pages)
    _check_rows(group)
    if case.total is not None:
        assert (group.complete, len(shown), group.failures) == (True, case.total, {})
    return True


def _take(group: GroupAnswer, page: Page, moment: float, shown: set[str]) -> bool:
    """Let the walk take a page, and look at what it makes of it; whether it takes it."""
    before = dict(group.seen)
    came = {one.video_id for one in page.videos} | {one.video_id for one in page.unreadable if one.video_id}
    shown |= came & set(ASKED)
    try:
        group.take(page, moment)
        taken = True
    except AnswerUnusable as error:
        check_message(str(error), longest=100_000)  # an id that nobody asked for is repeated whole
        taken = False
    for failure in group.failures.values():
        check_message(failure.message)
        assert not failure.retryable, "it is paid for"
    answered, failed = group.seen.keys(), group.failures.keys()
    assert {one: group.seen[one] for one in before} == before, "the first answer counts"
    assert all(answer.video_id == video_id for video_id, answer in group.seen.items())
    assert not answered & failed
    assert (set(ASKED) if group.complete else shown) == answered | failed
    assert all(not group.seen[one].classes for one in answered - shown), "silence with classes"
    is_over = taken and page.next_token is None
    assert group.complete == (is_over and len(shown) == page.total_results)
    assert group.ended_short == (is_over and not group.complete)
    nothing_to_ask = group.complete or group.ended_short
    assert group.missing == (() if nothing_to_ask else tuple(one for one in ASKED if one not in shown))
    if taken:
        assert (group.next_token, group.arrived_at) == (page.next_token, moment)
        assert page.total_results is None or len(shown) <= page.total_results
        assert {one.video_id for one in page.videos} <= set(ASKED)
    return taken


def _check_replay(group: GroupAnswer, pages: Sequence[HeldPage]) -> None:
    """What the spool holds of a walk gives the same answer again, and so does what a child chunk inherits."""
    walk = HeldWalk(0, tuple(pages), group.next_token, group.complete, group.ended_short)
    again = GroupAnswer(0, ASKED, [walk])
    assert (again.seen, again.failures, again.missing) == (group.seen, group.failures, group.missing)
    assert (again.complete, again.ended_short, again.next_token) == (
        group.complete,
        group.ended_short,
        group.next_token,
    )
    inherited = group.inherited(ASKED[:3])
    child = GroupAnswer(0, ASKED[:3], [inherited] if inherited else ())
    assert child.seen == {one: answer for one, answer in group.seen.items() if one in ASKED[:3]}


def _check_rows(group: GroupAnswer) -> None:
    order = {name: place for place, name in enumerate(CLASSES)}
    results = [merged(one, [group.seen[one]], order, detailed=True) for one in group.seen]
    lines = lines_of(results, Origin(_STYLE, 1, "2026-01-02T03:04:05Z"))
    for row in map(json.loads, lines.scores.splitlines()):
        assert is_number(row["score"])
        assert is_number(row["duration_ratio"])
    for row in map(json.loads, lines.clips.splitlines()):
        assert all(is_number(row[name]) for name in ("start_seconds", "end_seconds", "score"))
        assert "?" not in (row["thumbnail_url"] or "")
    videos = [json.loads(line)["video_id"] for line in lines.videos.splitlines()]
    assert videos == list(group.seen)


def _decoded(body: bytes) -> Page | None:
    """The page, held against a second reading; None for an error of ours."""
    reading = second_reading(body)
    try:
        page = wire.decode_page(body)
    except (AnswerCut, AnswerUnusable) as error:
        _check_refusal(error, reading)
        return None
    for answer in page.videos:
        _check_types(answer)
    for entry in page.unreadable:
        check_message(entry.seen)
    assert page.total_results is None or type(page.total_results) is int
    assert page.next_token != ""
    assert page.expires_at is None or isfinite(page.expires_at)
    again = wire.decode_page(wire.encode_held([wire.encode_answer(one) for one in page.videos]))
    assert repr(again.videos) == repr(page.videos), "an answer is not the same when it was held"
    assert not again.unreadable
    assert reading.verdict != "cut", "what is not JSON was read"
    if reading.verdict == "json":
        expected = page_of(reading.value)
        assert expected is not None
        _check_page(page, expected)
    return page


def _check_refusal(error: AnswerCut | AnswerUnusable, reading: Reading) -> None:
    check_message(str(error))
    assert error.http_status == 200
    if isinstance(error, AnswerCut):
        assert reading.verdict != "json", "JSON was taken for cut"
    else:
        assert reading.verdict != "cut"
        assert reading.verdict == "open" or page_of(reading.value) is None


def _check_types(answer: VideoAnswer) -> None:
    def number(value: object) -> None:
        assert is_number(value)

    assert type(answer.video_id) is str
    for one in answer.classes:
        assert type(one.name) is str
        number(one.score)
        number(one.duration_ratio)
        for clip in one.clips or ():
            for value in (clip.start, clip.end, clip.score):
                number(value)
            assert type(clip.option) is type(clip.prompt) is str
        for share in msgspec.structs.astuple(one.detailed_scores) if one.detailed_scores else ():
            assert share is None or is_number(share)


def _check_page(page: Page, expected: PageFacts) -> None:
    readable = [one for one in expected.entries if isinstance(one, VideoAnswer)]
    unreadable = [one.video_id for one in expected.entries if isinstance(one, Unreadable)]
    if not expected.readable_info:
        unreadable.append(None)
    assert repr(list(page.videos)) == repr(readable)
    assert [one.video_id for one in page.unreadable] == unreadable
    assert (page.total_results, page.next_token) == (expected.total_results, expected.next_token)


# ------------------------------------------------------------------------------------------------ listings and errors


def _check_listing(body: bytes) -> bool:
    reading = second_reading(body)
    try:
        listed = wire_lists.decode_video_list(body)
    except AnswerCut as error:
        _check_refusal(error, reading)
        return False
    except AnswerUnusable as error:
        check_message(str(error))
        return False
    assert type(listed.total_pages) is int
    for video in listed.videos:
        assert type(video.video_id) is str
        assert video.duration_seconds is None or (isfinite(video.duration_seconds) and video.duration_seconds > 0)
        assert video.filename is None or type(video.filename) is str
    assert reading.verdict != "cut"
    if reading.verdict == "json":
        assert [one.video_id for one in listed.videos] == [one["_id"] for one in reading.value["data"]]
        for video, one in zip(listed.videos, reading.value["data"], strict=True):
            duration = one.get("metadata", {}).get("duration")
            assert video.duration_seconds == (float(duration) if duration and duration > 0 else None)
            assert video.filename == one.get("metadata", {}).get("filename")
        assert listed.total_pages == reading.value["page_info"]["total_page"]
    return True


class _Told(Transport):
    def __init__(self, response: Response) -> None:
        self._response = response

    async def exchange(self, *_: object, **__: object) -> Response:
        return self._response


def _check_failure(case: Answers) -> bool:
    (body,) = case.bodies
    said = wire.decode_error(body)
    assert type(said.code) is type(said.message) is str
    response = Response(case.status, CIMultiDict(case.headers), body)
    client = Client(_Told(response), score_source="local", secret=SECRET, clock=lambda: NOW)
    came = [_failure_of(client, of_token=of_token) for of_token in (False, True)]
    assert case.status < 300 or not any(came)
    return said != ("", "")


def _failure_of(client: Client, *, of_token: bool) -> bool:
    """Drive one call to its end, which nothing in it delays. Whether it gave an answer."""
    call = client.page("token") if of_token else client.classify(REQUEST)
    try:
        call.send(None)
    except StopIteration:
        return True
    except PipelineError as error:
        _check_failure_told(error)
        return False
    raise AssertionError("a call waited for what is already there")


def _check_failure_told(error: PipelineError) -> None:
    check_message(str(error))
    assert SECRET not in str(error)
    if isinstance(error, RequestFailed):
        check_message(error.code)
        wait = error.retry_after_seconds
        assert wait is None or 0 <= wait <= DAY_SECONDS


PAGES = Reader(make, check, most_bytes=32 * 2**20)
