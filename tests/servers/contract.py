"""The platform's classify API, written a second time and as strictly as its contract allows, for tests of its clients.

It shares no code with the package under test, so a mistake that both sides of the package make alike shows here. A
request becomes an answer in plain code without a pause (``ContractServer._decide``), so counters, records and log lines
stand in the order of arrival; aiohttp only carries bytes. What the platform would refuse is refused; what it would let
pass although no careful client does it is answered, and noted in ``violations``. Thresholds are checked, not applied.

The default answer of a (video, class) pair depends on nothing else, so that it does not matter which classes are asked
together: 15 % of the videos match no class at all, the others match seven classes in eight.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import math
import os
import random
import secrets
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Literal, TextIO

from aiohttp import web

JsonObject = dict[str, Any]
Answer = Callable[[str, JsonObject], JsonObject | None]
"""From a video id and a class of the request to ``{score, duration_ratio, clips, …}``; None: no match."""

ALIEN_ID = "ffffffffffffffffffffffff"
"""The video that ``AlienVideo`` puts into an answer."""
_MAX_SECONDS = 36_000
_MAX_PROMPTS = 100
_JSON = {"Content-Type": "application/json"}


# ------------------------------------------------------------------------------------------------------------- faults


@dataclass(frozen=True, slots=True)
class Status:
    """This answer in place of one; nothing is executed or charged."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection is reset, before anything is answered or after the headers and one byte."""

    after_headers: bool = False
    executed: bool = False


@dataclass(frozen=True, slots=True)
class Cut:
    """The connection closes in order after this fraction of the body; executed."""

    fraction: float = 0.5


@dataclass(frozen=True, slots=True)
class NotJson:
    """200 with a proxy's HTML page; executed."""


@dataclass(frozen=True, slots=True)
class Hang:
    """No answer until the server stops; nothing is executed."""


@dataclass(frozen=True, slots=True)
class Delay:
    """The right answer, decided at once and sent after this many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class ExpireToken:
    """Every token of this walk is dead from now on: this page is refused; a POST is answered, its next page refused."""


@dataclass(frozen=True, slots=True)
class MissingVideos:
    """The last ``count`` videos of this page are left out, and still counted in ``total_results``."""

    count: int = 1


@dataclass(frozen=True, slots=True)
class RepeatToken:
    """``next_page_token`` leads to this same page again."""


@dataclass(frozen=True, slots=True)
class AlienVideo:
    """The page also has a video that was not asked for."""


@dataclass(frozen=True, slots=True)
class DuplicateVideo:
    """The page also repeats the first video of its walk."""


@dataclass(frozen=True, slots=True)
class WrongShape:
    """The score of the first class of the page's first ``count`` videos is a string."""

    count: int = 1


Fault = (
    Status
    | Reset
    | Cut
    | NotJson
    | Hang
    | Delay
    | ExpireToken
    | MissingVideos
    | RepeatToken
    | AlienVideo
    | DuplicateVideo
    | WrongShape
)
_Undelivered = Reset | Cut | NotJson


# ------------------------------------------------------------------------------------------------------------ records


@dataclass(frozen=True, slots=True)
class RequestSeen:
    """What a fault is chosen by. ``number`` counts from 1, POSTs and pages apart; ids are those of the whole walk."""

    kind: Literal["post", "page"]
    number: int
    video_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Served:
    """What became of one request. Ids and names are empty where it could not be read.

    ``status`` is 0 where none was sent. ``executed``: classified, and so billed if it is a POST. ``shown`` are the
    videos that were sent whole. ``arrived`` is on the server's clock.
    """

    kind: Literal["post", "page"]
    number: int
    arrived: float
    video_ids: tuple[str, ...]
    class_names: tuple[str, ...]
    status: int
    executed: bool
    shown: tuple[str, ...]


@dataclass(slots=True)
class _Walk:
    asked: JsonObject = field(default_factory=lambda: {"video_ids": [], "classes": []})
    entries: list[JsonObject] = field(default_factory=list)
    tokens: dict[int, str] = field(default_factory=dict)
    expired: bool = False
    finished: bool = False

    @property
    def video_ids(self) -> tuple[str, ...]:
        return tuple(self.asked["video_ids"])

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(one["name"] for one in self.asked["classes"])


@dataclass(frozen=True, slots=True)
class _Place:
    """What a request asks for: a page of a walk, until a moment; or why it will be refused."""

    walk: _Walk
    index: int = 0
    expires_at: float = math.inf
    refusal: _Refused | None = None


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    executed: bool = False
    shown: tuple[str, ...] = ()


class _Refused(Exception):
    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(message)
        body = json.dumps({"code": code, "message": message}).encode() if code else b""
        self.answer = _Answer(status, body, _JSON if code else {})


# ----------------------------------------------------------------------------------------------------------- requests


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and value != [] and all(_is_text(one) for one in value)


def _is_options(value: Any) -> bool:
    return _is_texts(value) and set(value) <= {"visual", "conversation", "text_in_video", "logo"}


def _is_conversation_option(value: Any) -> bool:
    return value in ("semantic", "exact_match")


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_between(low: float, high: float, *types: type) -> Callable[[Any], bool]:
    return lambda value: type(value) in types and low <= value <= high


_Fields = Mapping[str, Callable[[Any], bool]]
_REQUEST: _Fields = {
    "classes": lambda value: isinstance(value, list) and value != [] and all(_is_object(one) for one in value),
    "options": _is_options,
    "conversation_option": _is_conversation_option,
    "include_clips": _is_flag,
    "show_detailed_score": _is_flag,
    "page_limit": _is_between(1, 50, int),
    "threshold": _is_object,
}
_OF_VIDEOS: _Fields = {"video_ids": _is_texts, **_REQUEST}
_OF_INDEX: _Fields = {"index_id": _is_text, **_REQUEST}
_CLASS: _Fields = {
    "name": _is_text,
    "prompts": lambda value: _is_texts(value) and len(value) <= _MAX_PROMPTS,
    "options": _is_options,
    "conversation_option": _is_conversation_option,
}
_THRESHOLD: _Fields = {
    "min_video_score": _is_between(1, 100, int, float),
    "min_clip_score": _is_between(1, 100, int, float),
    "min_duration_ratio": _is_between(0.01, 1, int, float),
}


def _check(given: JsonObject, fields: _Fields, required: Sequence[str] = ()) -> None:
    for name in required:
        if name not in given:
            raise _Refused(400, "parameter_not_provided", f"The {name} parameter is required but was not provided.")
    for name, value in given.items():
        if name not in fields:
            raise _Refused(400, "parameter_unknown", f"The {name} parameter is unknown.")
        if not fields[name](value):
            raise _Refused(400, "parameter_invalid", f"The {name} parameter is invalid.")


def _read(body: bytes, fields: _Fields) -> JsonObject:
    """The body of a POST, checked against the contract; the older ``video_id`` becomes ``video_ids``."""
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        raise _Refused(400, "parameter_invalid", "The request body is not JSON.") from None
    if not isinstance(asked, dict):
        raise _Refused(400, "parameter_invalid", "The request body is not an object.")
    if "video_ids" in fields and "video_id" in asked and "video_ids" not in asked:
        asked["video_ids"] = [asked.pop("video_id")]
    _check(asked, fields, [*(fields.keys() & {"video_ids", "index_id"}), "classes", "options"])
    for one in asked["classes"]:
        _check(one, _CLASS, ["name", "prompts"])
    _check(asked.get("threshold", {}), _THRESHOLD)
    if sum(len(one["prompts"]) for one in asked["classes"]) > _MAX_PROMPTS:
        raise _Refused(400, "parameter_invalid", f"The classes have more than {_MAX_PROMPTS} prompts together.")
    return asked


# ------------------------------------------------------------------------------------------------------------ answers


def _whole(number: float) -> float:
    """An int where there is no fraction, as the platform writes its numbers."""
    return int(number) if number == int(number) else number


def _invented_clip(draw: random.Random, video_id: str, prompt: str, ticks: tuple[int, int]) -> JsonObject:
    start, end = ticks[0] / 48, ticks[1] / 48
    score = draw.randint(5, 99) if draw.random() < 0.1 else round(draw.uniform(5, 99), 2)
    clip = {
        "start": _whole(start),
        "end": _whole(end),
        "score": _whole(score),
        "option": draw.choice(["visual", "visual", "conversation", "text_in_video"]),
        "prompt": prompt,
    }
    if draw.random() < 0.9:
        clip["thumbnail_url"] = (
            f"https://thumbnails.example/{video_id}/{int(start)}.jpeg?X-Amz-Algorithm=AWS4-HMAC-SHA256"
            "&X-Amz-Credential=EXAMPLE%2F20230522%2Fus-west-2%2Fs3%2Faws4_request&X-Amz-Expires=604799"
            f"&X-Amz-SignedHeaders=host&X-Amz-Signature={draw.getrandbits(256):064x}"
        )
    return clip


def _invented(video_id: str, asked_class: JsonObject, seconds: float) -> JsonObject | None:
    draw = random.Random(f"{video_id} {asked_class['name']}")
    if random.Random(video_id).random() < 0.15 or draw.random() < 1 / 8:
        return None
    count = draw.randint(1, 4)
    slot = int(seconds * 48) // count
    half = max(1, slot // 2)
    ticks = []
    for i in range(count):
        start = i * slot + draw.randrange(half)
        ticks.append((start, start + 1 + draw.randrange(half)))
    clips = [_invented_clip(draw, video_id, draw.choice(asked_class["prompts"]), pair) for pair in ticks]
    clips.sort(key=lambda clip: -clip["score"])
    matched_seconds = sum(end - start for start, end in ticks) / 48
    return {
        "score": _whole(round(draw.uniform(clips[-1]["score"], clips[0]["score"]), 2)),
        "duration_ratio": _whole(min(1.0, round(matched_seconds / seconds, 2))),
        "clips": clips,
    }


def _detailed_scores(answer: JsonObject, all_scores: Sequence[float]) -> JsonObject:
    clip_scores = [clip["score"] for clip in answer.get("clips", ())] or [answer["score"]]
    # Shares of the sum in per cent, in the order of operations that gives the guide's numbers to the last bit. No
    # sum(): from Python 3.12 on it rounds floats in another way.
    total = 0.0
    for score in all_scores:
        total += score * 0.01
    return {
        "max_score": max(clip_scores),
        "avg_score": _whole(round(sum(clip_scores) / len(clip_scores), 2)),
        "normalized_score": answer["score"] * 0.01 / total * 100 if total else 0,
    }


def _scrambled(names: Sequence[str]) -> list[str]:
    """The names in an order that is neither theirs nor sorted (if there are three or more), always the same."""
    mixed = sorted(names, key=lambda name: random.Random(name).random())
    for _ in names:
        if mixed not in (list(names), sorted(names)):
            break
        mixed.append(mixed.pop(0))
    return mixed


# ------------------------------------------------------------------------------------------------------------- server


class ContractServer:
    """The classify API on a free loopback port, while the context is open; ``url`` is its base URL.

    ``videos`` are the ids that exist, with seconds; all of them are the index ``index_id``, where there is one, and
    ``listed`` says which of them its listing shows. ``requests_per_second`` is a strict sliding window over POSTs (over
    pages too with ``rate_pages``); only what it admits counts in it. ``quota`` is POSTs in a window that opens with
    the first one; every POST that is admitted and has no fault that keeps it from being executed is charged.
    Answers tell what is left of it, if ``tells_quota``. ``user_agent`` is what the header must begin with.

    Counters: ``posts`` and ``pages`` (a record of each request), ``refused`` (POSTs above the duration limit),
    ``reposts`` (videos that were posted again with the same set of class names after their answer was delivered),
    ``rate_violations``, ``quota_violations``, ``violations``.
    """

    def __init__(
        self,
        videos: Mapping[str, float],
        *,
        key: str = "test-key",
        answer: Answer | None = None,
        faults: Callable[[RequestSeen], Fault | None] = lambda _: None,
        page_ttl_seconds: float = 600,
        requests_per_second: float | None = None,
        rate_pages: bool = False,
        quota: int | None = None,
        window_seconds: float = 86_400,
        tells_quota: bool = True,
        user_agent: str = "bulk-classify/",
        clock: Callable[[], float] = time.time,
        log: TextIO | None = None,
        port: int = 0,
        index_id: str | None = None,
        listed: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self.url = ""
        self._port = port
        self.posts: list[Served] = []
        self.pages: list[Served] = []
        self.refused = 0
        self.reposts = 0
        self.rate_violations = 0
        self.quota_violations = 0
        self.violations: list[str] = []
        self._videos = videos
        self._index_id = index_id
        self._listed = listed
        self._key = key
        self._answer = answer or (lambda video_id, asked: _invented(video_id, asked, videos[video_id]))
        self._faults = faults
        self._page_ttl_seconds = page_ttl_seconds
        self._requests_per_second = requests_per_second
        self._rate_pages = rate_pages
        self._quota = quota
        self._window_seconds = window_seconds
        self._tells_quota = tells_quota
        self._user_agent = user_agent
        self._clock = clock
        self._log = log
        self._places: dict[str, _Place] = {}
        self._delivered: set[tuple[str, frozenset[str]]] = set()
        self._admitted: deque[float] = deque()
        self._used = 0
        self._resets_at = 0
        self._no_token: Iterator[str | None] = itertools.cycle(["", None])
        self._closing = asyncio.Event()
        application = web.Application(client_max_size=2**24)
        application.router.add_post("/v1.2/classify", self._respond)
        application.router.add_post("/v1.2/classify/bulk", self._respond)
        application.router.add_get("/v1.2/classify/{token}", self._respond)
        application.router.add_get("/v1.2/indexes/{index_id}/videos", self._list)
        application.router.add_route("*", "/{path:.*}", self._respond_elsewhere)
        self._runner = web.AppRunner(application, access_log=None)

    async def __aenter__(self) -> ContractServer:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1.2"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing.set()
        await self._runner.cleanup()

    def expected(
        self, video_id: str, classes: Sequence[JsonObject], include_clips: bool, detailed: bool
    ) -> JsonObject | None:
        """The entry of a page for this video, its classes in the order given; None where it matches none of them."""
        answers = {one["name"]: self._answer(video_id, one) for one in classes}
        found = {name: answer for name, answer in answers.items() if answer is not None}
        entries = []
        for name, answer in found.items():
            entry = {"name": name, **answer}
            clips = entry.pop("clips", [])
            if include_clips:
                entry["clips"] = clips
            if detailed:
                entry["detailed_scores"] = _detailed_scores(answer, [one["score"] for one in found.values()])
            entries.append(entry)
        return {"video_id": video_id, "classes": entries} if entries else None

    # ----------------------------------------------------------------------------------------- from request to answer

    def _decide(self, request: web.Request, body: bytes) -> tuple[_Answer, Fault | None]:
        arrived = self._clock()
        kind: Literal["post", "page"] = "post" if request.method == "POST" else "page"
        records = self.posts if kind == "post" else self.pages
        if kind == "page":
            place = self._continued(request.match_info["token"])
        else:
            place = self._opened_index(body) if request.path.endswith("/bulk") else self._opened(body)
        seen = RequestSeen(kind, len(records) + 1, place.walk.video_ids)
        fault = self._faults(seen)
        try:
            self._admit(request, seen, arrived)
            answer = self._preempted(fault) or self._executed(place, seen, fault, arrived)
        except _Refused as refused:
            answer, fault = refused.answer, None
        names = place.walk.class_names
        served = Served(kind, seen.number, arrived, seen.video_ids, names, answer.status, answer.executed, answer.shown)
        records.append(served)
        if self._log:
            self._log.write(json.dumps(asdict(served)) + "\n")
            self._log.flush()
        return answer, fault

    def _opened(self, body: bytes) -> _Place:
        try:
            walk = _Walk(_read(body, _OF_VIDEOS))
        except _Refused as refused:
            return _Place(_Walk(), refusal=refused)
        for what, names in (("video", walk.video_ids), ("class", walk.class_names)):
            if len(set(names)) < len(names):
                self.violations.append(f"post {len(self.posts) + 1} names a {what} twice")
        if not self._videos.keys() >= set(walk.video_ids):
            return _Place(walk, refusal=_Refused(404, "resource_not_exist", "One of the videos does not exist."))
        seconds = math.fsum(self._videos[video_id] for video_id in walk.video_ids)
        if seconds > _MAX_SECONDS:
            self.refused += 1
            message = f"The total duration(seconds) {math.ceil(seconds)} of videos exceeds the limit."
            return _Place(walk, refusal=_Refused(400, "parameter_invalid", message))
        return _Place(walk)

    def _opened_index(self, body: bytes) -> _Place:
        try:
            asked = _read(body, _OF_INDEX)
        except _Refused as refused:
            return _Place(_Walk(), refusal=refused)
        walk = _Walk({**asked, "video_ids": list(self._videos)})
        if len(set(walk.class_names)) < len(walk.class_names):
            self.violations.append(f"post {len(self.posts) + 1} names a class twice")
        if asked["index_id"] != self._index_id:
            return _Place(walk, refusal=_Refused(404, "resource_not_exist", "The index does not exist."))
        return _Place(walk)

    def _continued(self, token: str) -> _Place:
        return self._places.get(token) or _Place(_Walk(expired=True))

    def _admit(self, request: web.Request, seen: RequestSeen, arrived: float) -> None:
        """Key, headers, rate and quota, as they come before any look at the request itself."""
        if request.headers.get("x-api-key") != self._key:
            raise _Refused(401, "api_key_invalid", "The API key is invalid or expired.")
        if not request.headers.get("User-Agent", "").startswith(self._user_agent):
            self.violations.append(f"{seen.kind} {seen.number} has not the user agent {self._user_agent}")
        if seen.kind == "post" and request.content_type != "application/json":
            self.violations.append(f"post {seen.number} has the content type {request.content_type}")
        if self._requests_per_second and (seen.kind == "post" or self._rate_pages):
            self._admit_by_rate(self._requests_per_second, arrived)
        if self._quota is not None and arrived >= self._resets_at:
            self._used, self._resets_at = 0, math.ceil(arrived + self._window_seconds)
        if self._quota is not None and seen.kind == "post" and self._used >= self._quota:
            self.quota_violations += 1
            raise _Refused(429)

    def _admit_by_rate(self, requests_per_second: float, arrived: float) -> None:
        capacity = max(1, int(requests_per_second))
        while self._admitted and self._admitted[0] <= arrived - capacity / requests_per_second:
            self._admitted.popleft()
        if len(self._admitted) >= capacity:
            self.rate_violations += 1
            raise _Refused(429)
        self._admitted.append(arrived)

    @staticmethod
    def _preempted(fault: Fault | None) -> _Answer | None:
        if isinstance(fault, Status):
            return _Answer(fault.status, fault.body, fault.headers)
        if isinstance(fault, Hang) or (isinstance(fault, Reset) and not fault.executed):
            return _Answer(0)
        return None

    def _executed(self, place: _Place, seen: RequestSeen, fault: Fault | None, arrived: float) -> _Answer:
        if seen.kind == "post":
            self._used += 1
        if place.refusal:
            raise place.refusal
        walk = place.walk
        walk.expired |= isinstance(fault, ExpireToken)
        if seen.kind == "page":
            self._check_token(place, seen, arrived)
        else:
            class_set = frozenset(walk.class_names)
            self.reposts += sum((video_id, class_set) in self._delivered for video_id in walk.video_ids)
            walk.entries = self._classified(walk.asked)
        page, last = self._page(walk, place.index, fault, arrived)
        body = b"<html><body>Bad gateway</body></html>" if isinstance(fault, NotJson) else json.dumps(page).encode()
        if isinstance(fault, _Undelivered):
            return _Answer(
                0 if isinstance(fault, Reset) and not fault.after_headers else 200, body, _JSON, executed=True
            )
        shown = tuple(entry["video_id"] for entry in page["data"])
        self._settle(walk, shown, last=last)
        return _Answer(200, body, _JSON, executed=True, shown=shown)

    def _check_token(self, place: _Place, seen: RequestSeen, arrived: float) -> None:
        if place.walk.finished:
            self.violations.append(f"page {seen.number} belongs to a walk that was finished")
        if place.walk.expired or arrived >= place.expires_at:
            raise _Refused(400, "parameter_invalid", "The page token is expired or invalid.")

    def _classified(self, asked: JsonObject) -> list[JsonObject]:
        include_clips, detailed = asked.get("include_clips", False), asked.get("show_detailed_score", False)
        matched: dict[str, dict[str, JsonObject]] = {}
        for video_id in asked["video_ids"]:
            entry = self.expected(video_id, asked["classes"], include_clips, detailed)
            if entry:
                matched[video_id] = {one["name"]: one for one in entry["classes"]}
        return [
            {"video_id": video_id, "classes": [matched[video_id][name] for name in _scrambled([*matched[video_id]])]}
            for video_id in _scrambled([*matched])
        ]

    def _page(self, walk: _Walk, index: int, fault: Fault | None, arrived: float) -> tuple[JsonObject, bool]:
        limit = walk.asked.get("page_limit", 10)
        last = (index + 1) * limit >= len(walk.entries)
        expires_at = arrived + self._page_ttl_seconds
        absent = next(self._no_token) if last else ""
        repeats = isinstance(fault, RepeatToken)
        tokens = {
            "next_page_token": self._token(walk, index + (not repeats), expires_at) if repeats or not last else absent,
            "prev_page_token": self._token(walk, index - 1, expires_at) if index else absent,
        }
        info = {
            "limit_per_page": limit,
            "total_results": len(walk.entries),
            "page_expired_at": datetime.fromtimestamp(expires_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            **{name: token for name, token in tokens.items() if token is not None},
        }
        entries = _damaged(walk, walk.entries[index * limit : (index + 1) * limit], fault)
        return {"data": entries, "page_info": info}, last and not repeats

    def _token(self, walk: _Walk, index: int, expires_at: float) -> str:
        token = walk.tokens.setdefault(index, secrets.token_urlsafe(24))
        self._places[token] = _Place(walk, index, expires_at)
        return token

    def _settle(self, walk: _Walk, shown: Sequence[str], *, last: bool) -> None:
        class_set = frozenset(walk.class_names)
        self._delivered.update((video_id, class_set) for video_id in shown)
        if last:
            walk.finished = True
            if all((entry["video_id"], class_set) in self._delivered for entry in walk.entries):
                # Only now is the absence of the others an answer.
                self._delivered.update((video_id, class_set) for video_id in walk.video_ids)

    # -------------------------------------------------------------------------------------------- carried by aiohttp

    async def _respond(self, request: web.Request) -> web.StreamResponse:
        answer, fault = self._decide(request, await request.read())
        limits = self._limits() if answer.status != 401 else {}
        if isinstance(fault, Delay | Hang):
            seconds = fault.seconds if isinstance(fault, Delay) else None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), seconds)
        if isinstance(fault, Reset | Cut | Hang):
            return await _break_off(request, answer, fault)
        date = {"Date": format_datetime(datetime.fromtimestamp(self._clock(), UTC), usegmt=True)}
        return web.Response(status=answer.status, body=answer.body, headers={**date, **limits, **answer.headers})

    def _limits(self) -> dict[str, str]:
        if self._quota is None or not self._tells_quota:
            return {}
        return {
            "X-Ratelimit-Limit": str(self._quota),
            "X-Ratelimit-Remaining": str(self._quota - self._used),
            "X-Ratelimit-Used": str(self._used),
            "X-Ratelimit-Reset": str(self._resets_at),
        }

    async def _list(self, request: web.Request) -> web.Response:
        if request.match_info["index_id"] != self._index_id:
            return web.Response(
                status=404, body=b'{"code": "resource_not_exist", "message": "There is no such index."}'
            )
        page, limit = int(request.query.get("page", 1)), int(request.query.get("page_limit", 10))
        if request.headers.get("x-api-key") != self._key or not (page >= 1 <= limit <= 50):
            return web.Response(
                status=400, body=b'{"code": "parameter_invalid", "message": "Key, page or page_limit."}'
            )
        listed = [one for one in self._videos if self._listed(one)]
        shown = [
            {"_id": one, "metadata": {"filename": f"{one}.mp4", "duration": self._videos[one]}}
            for one in listed[(page - 1) * limit : page * limit]
        ]
        total = {"total_page": -(-len(listed) // limit), "total_results": len(listed)}
        return web.json_response({"data": shown, "page_info": {"limit_per_page": limit, "page": page, **total}})

    async def _respond_elsewhere(self, request: web.Request) -> web.Response:
        self.violations.append(f"{request.method} {request.path} is not an endpoint")
        return web.Response(status=404, body=b'{"code": "resource_not_exist", "message": "There is no such endpoint."}')


def _damaged(walk: _Walk, entries: list[JsonObject], fault: Fault | None) -> list[JsonObject]:
    match fault:
        case MissingVideos(count=count):
            return entries[: max(0, len(entries) - count)]
        case AlienVideo():
            alien_class = {"name": walk.class_names[0], "score": 50, "duration_ratio": 0.5}
            return [*entries, {"video_id": ALIEN_ID, "classes": [alien_class]}]
        case DuplicateVideo():
            return [*entries, *walk.entries[:1]]
        case WrongShape(count=count):
            return [_with_a_text_for_a_score(entry) for entry in entries[:count]] + entries[count:]
    return entries


def _with_a_text_for_a_score(entry: JsonObject) -> JsonObject:
    first, *others = entry["classes"]
    return {**entry, "classes": [{**first, "score": str(first["score"])}, *others]}


async def _break_off(request: web.Request, answer: _Answer, fault: Reset | Cut | Hang) -> web.StreamResponse:
    response = web.StreamResponse(headers=_JSON)
    if request.transport is None:  # the client was the first to go
        return response
    if answer.status or (isinstance(fault, Reset) and fault.after_headers):
        body = answer.body or b"{}"
        response.content_length = len(body)
        await response.prepare(request)
        # aiohttp sends the headers together with the first byte of the body.
        await response.write(body[: max(1, int(len(body) * fault.fraction)) if isinstance(fault, Cut) else 1])
    if isinstance(fault, Cut):
        request.transport.close()
    else:
        # Without lingering, closing a socket sends RST in place of FIN.
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return response


# ------------------------------------------------------------------------------------------------ in its own process


def _announce(port_file: Path, port: str) -> None:
    unfinished = port_file.with_suffix(".part")
    unfinished.write_text(port)
    unfinished.rename(port_file)


async def _serve(arguments: argparse.Namespace, videos: Mapping[str, float], log: TextIO, parent: int) -> None:
    fault = Delay(arguments.delay) if arguments.delay else None
    async with ContractServer(
        videos, key=arguments.key, faults=lambda _: fault, page_ttl_seconds=arguments.page_ttl, log=log
    ) as server:
        _announce(arguments.port_file, server.url.removesuffix("/v1.2").rpartition(":")[2])
        ends_at = time.monotonic() + arguments.lifetime
        while time.monotonic() < ends_at and os.getppid() == parent:  # noqa: ASYNC110 - no event tells of a parent's end
            await asyncio.sleep(0.1)


def main() -> None:
    """Serve until the lifetime is over or the parent process ends."""
    parent = os.getppid()
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--videos", type=Path, required=True, help="a JSON object: id to seconds")
    parser.add_argument("--port-file", type=Path, required=True, help="gets the port, once the server listens")
    parser.add_argument("--log", type=Path, required=True, help="gets a JSON line for each request, as it is answered")
    parser.add_argument("--lifetime", type=float, default=300, help="seconds")
    parser.add_argument("--key", default="test-key")
    parser.add_argument("--page-ttl", type=float, default=600, help="seconds")
    parser.add_argument("--delay", type=float, default=0, help="seconds between deciding and sending each answer")
    arguments = parser.parse_args()
    with arguments.log.open("a") as log:
        asyncio.run(_serve(arguments, json.loads(arguments.videos.read_text()), log, parent))


if __name__ == "__main__":
    main()
