"""A fault plan: which requests of a client shall go wrong, and how.

A plan is a list of rules; the first that fits a request happens to it. A rule is one value, both its conditions and its
fault, so that a plan in Python reads as one in TOML. Nothing is drawn at random: ``share`` chooses by a hash of the
request's number, so that a plan does the same to the same sequence of requests every time.

Everything here is pure but for reading the file. What a fault means for a connection is carried out by ``fault_layer``.
"""

from __future__ import annotations

import difflib
import hashlib
import tomllib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal, TypeAlias, get_args

import msgspec
from msgspec import Meta

from pipeline.errors import ConfigError
from pipeline.models import ClassScore, VideoAnswer
from pipeline.platform.limits import Call
from pipeline.platform.tokens import WalkPage
from pipeline.wire import encode_answer, encode_error
from pipeline.wording import escaped

_BLOCK_BYTES = 65_536
_DRIPS_PER_SECOND = 10
_MAX_FILE_BYTES = 2**20
_MAX_SHOWN = 60
_RANDOM_BITS = 53  # as many as a float holds, so that every share below 1 can miss

_Count = Annotated[int, Meta(ge=1, le=2**53)]
_Size = Annotated[int, Meta(ge=1, le=2**40)]
_Seconds = Annotated[float, Meta(ge=0, le=1e9)]
# What frames the body is the server's business; a line break would begin another header.
_HeaderName = Annotated[str, Meta(pattern=r"\A(?i:(?!(content-length|transfer-encoding)\Z)[!#$%&'*+.^_`|~0-9a-z-]+)\Z")]
_HeaderValue = Annotated[str, Meta(pattern=r"\A[\x20-\x7e]*\Z")]


# -------------------------------------------------------------------------------------------------------------- rules


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="fault"):
    """When a fault happens. All conditions must hold; without any, it happens to every request.

    At most one of ``at``, ``every`` and ``share`` chooses by the running number of the requests of this ``kind``, which
    starts at 1: these numbers; each n-th; that share of them, by a hash with ``seed``. ``videos`` asks for requests
    that are about one of them, ``between_seconds`` for those from the first second after the start to before the last.
    After ``times`` requests the rule is spent.
    """

    kind: Literal["post", "page", "any"] = "any"
    at: Annotated[frozenset[_Count], Meta(min_length=1)] | None = None
    every: _Count | None = None
    share: Annotated[float, Meta(ge=0, le=1)] | None = None
    seed: int = 0
    videos: Annotated[frozenset[str], Meta(min_length=1)] | None = None
    between_seconds: tuple[_Seconds, _Seconds] | None = None
    times: _Count | None = None

    def __post_init__(self) -> None:
        if sum(chooser is not None for chooser in (self.at, self.every, self.share)) > 1:
            raise ValueError("at most one of at, every and share")
        if self.between_seconds and self.between_seconds[0] >= self.between_seconds[1]:
            raise ValueError("between_seconds: the first is not before the last")


class Status(Rule, frozen=True, kw_only=True, tag="status"):
    """This answer in place of the right one.

    ``body`` is by default an error of the contract, or nothing below 400. ``executed`` is by default true below 300.
    """

    status: Annotated[int, Meta(ge=200, le=599)]
    body: str | None = None
    headers: Mapping[_HeaderName, _HeaderValue] = MappingProxyType({})
    executed: bool | None = None

    @property
    def content(self) -> bytes:
        """The body as bytes."""
        if self.body is not None:
            return self.body.encode()
        return encode_error("planned_fault", "The fault plan asks for this.") if self.status >= 400 else b""


class Reset(Rule, frozen=True, kw_only=True, tag="reset"):
    """The connection is reset: before any answer, or after the headers of the right one and one byte of it."""

    after_headers: bool = False
    executed: bool = False


class Hang(Rule, frozen=True, kw_only=True, tag="hang"):
    """No answer, until the client goes."""

    executed: bool = False


class Cut(Rule, frozen=True, kw_only=True, tag="cut"):
    """The connection closes in good order after this fraction of the body, one byte at least."""

    fraction: Annotated[float, Meta(ge=0, lt=1)] = 0.5


class Slow(Rule, frozen=True, kw_only=True, tag="slow"):
    """The right answer, at this pace."""

    bytes_per_second: _Count


class Huge(Rule, frozen=True, kw_only=True, tag="huge"):
    """The right answer, and spaces up to this size; no header says how many."""

    bytes: _Size


class Bomb(Rule, frozen=True, kw_only=True, tag="bomb"):
    """As ``Huge``, but compressed to about a thousandth; whether the client accepts gzip or not."""

    bytes: _Size


class WrongTypes(Rule, frozen=True, kw_only=True, tag="wrong_types"):
    """The first class's score of the page's first ``count`` videos is a text, or is missing."""

    count: _Count = 1
    form: Literal["text", "missing"] = "text"


class MissingVideos(Rule, frozen=True, kw_only=True, tag="missing_videos"):
    """The page's last ``count`` videos are left out, and still counted in its total."""

    count: _Count = 1


class DuplicateVideo(Rule, frozen=True, kw_only=True, tag="duplicate_video"):
    """The page repeats the first video of its walk, beyond the total."""


class AlienVideo(Rule, frozen=True, kw_only=True, tag="alien_video"):
    """The page has one more video, which was not asked for, and counts it in its total."""

    video_id: str = "ffffffffffffffffffffffff"


class TokenCycle(Rule, frozen=True, kw_only=True, tag="token_cycle"):
    """The page's next token leads to this same page."""


class TokenExpired(Rule, frozen=True, kw_only=True, tag="token_expired"):
    """All tokens of the walk are dead from now on: a page is refused; a POST is answered, and its next page refused."""


Fault: TypeAlias = (
    Status
    | Reset
    | Hang
    | Cut
    | Slow
    | Huge
    | Bomb
    | WrongTypes
    | MissingVideos
    | DuplicateVideo
    | AlienVideo
    | TokenCycle
    | TokenExpired
)
FAULTS: Mapping[str, type[Fault]] = MappingProxyType({str(one.__struct_config__.tag): one for one in get_args(Fault)})
"""Every fault by the name that a plan calls it by."""


def executes(rule: Fault) -> bool:
    """Whether the request is carried out first: then a POST counts against the tariff, and its walk exists."""
    match rule:
        case Status(executed=None):
            return rule.status < 300
        case Reset():
            return rule.executed or rule.after_headers
        case Status() | Hang():
            return bool(rule.executed)
    return True


# ------------------------------------------------------------------------------------------------------------ reading


def read_plan(path: Path) -> tuple[Fault, ...]:
    """The rules of a plan file. Raises ``ConfigError`` with everything that is wrong in it, a line each."""
    table = _read_toml(path)
    problems = [f"{path}: {_shown(key)}: unknown key{_meant(key, ['rules'])}" for key in table if key != "rules"]
    tables = table.get("rules")
    if not isinstance(tables, list) or not tables:
        raise ConfigError([*problems, f"{path}: expected at least one [[rules]]"])
    rules: list[Fault] = []
    for number, entry in enumerate(tables, 1):
        found = _read_rule(entry)
        if isinstance(found, list):
            problems += [f"{path}: rules #{number}{problem}" for problem in found]
        else:
            rules.append(found)
    if problems:
        raise ConfigError(problems)
    return tuple(rules)


def _read_toml(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FILE_BYTES + 1)
        if len(text) > _MAX_FILE_BYTES:
            raise ConfigError([f"{path}: larger than {_MAX_FILE_BYTES} bytes"])
        return tomllib.loads(text.decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{path}: not UTF-8"]) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError([f"{path}: not valid TOML: {error}"]) from None


def _read_rule(table: object) -> Fault | list[str]:
    """A rule, or all its problems."""
    if not isinstance(table, dict):
        return [": expected a table"]
    name = table.get("fault")
    shape = FAULTS.get(name) if isinstance(name, str) else None
    if shape is None:
        said = f" = {_shown(name)}" if name is not None else ""
        return [f".fault{said}: expected one of {', '.join(FAULTS)}{_meant(name, FAULTS)}"]
    types = {one.name: one.type for one in msgspec.structs.fields(shape)}
    problems = [f".{_shown(key)}: unknown key{_meant(key, types)}" for key in table if key not in {"fault", *types}]
    for key, value in table.items():
        if key in types and (problem := _problem_of(value, types[key])):
            problems.append(f".{key}: {problem}")
    if not problems and (problem := _problem_of(table, shape)):
        problems.append(f": {problem}")
    return problems or msgspec.convert(table, shape)


def _problem_of(value: object, shape: object) -> str:
    try:
        msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        return str(error).replace(" - at `$`", "")
    return ""


def _meant(wrong: object, known: Sequence[str] | Mapping[str, object]) -> str:
    near = difflib.get_close_matches(str(wrong)[:_MAX_SHOWN].lower(), known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _shown(value: object) -> str:
    """Shortened, and nothing in it that a terminal would obey."""
    return escaped(str(value)[:_MAX_SHOWN])


# ----------------------------------------------------------------------------------------------------------- choosing


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as rules see it: its running number among its kind and among all, from 1, and seconds since the start.

    ``videos`` has those that it is about, at least those of them that a rule names.
    """

    kind: Call
    number: int
    number_of_all: int
    seconds: float = 0
    videos: frozenset[str] = frozenset()


def chosen(rules: Sequence[Fault], seen: Seen, happened: Sequence[int]) -> int | None:
    """The place of the first rule that fits; None: no fault. ``happened`` counts for each rule how often it did."""
    for place, rule in enumerate(rules):
        if (rule.times is None or happened[place] < rule.times) and _fits(rule, place, seen):
            return place
    return None


def _fits(rule: Rule, place: int, seen: Seen) -> bool:
    number = seen.number_of_all if rule.kind == "any" else seen.number
    return (
        rule.kind in ("any", seen.kind)
        and (rule.at is None or number in rule.at)
        and (rule.every is None or number % rule.every == 0)
        and (rule.share is None or _drawn(f"{rule.seed} {place} {rule.kind} {number}") < rule.share)
        and (rule.videos is None or not rule.videos.isdisjoint(seen.videos))
        and (rule.between_seconds is None or rule.between_seconds[0] <= seen.seconds < rule.between_seconds[1])
    )


def _drawn(lot: str) -> float:
    """From 0 to below 1, evenly. The rule's place is part of the lot, or two rules would always meet the same."""
    digest = hashlib.blake2b(lot.encode(), digest_size=8).digest()
    return (int.from_bytes(digest) >> (64 - _RANDOM_BITS)) / (1 << _RANDOM_BITS)


# --------------------------------------------------------------------------------------------------- what is answered


def damaged(page: WalkPage, rule: Fault) -> WalkPage:
    """The page as a fault of its content changes it; any other fault leaves it as it is."""
    match rule:
        case WrongTypes(count=count, form=form):
            wrong = tuple(_with_wrong_score(entry, form) for entry in page.entries[:count])
            return replace(page, entries=wrong + page.entries[count:])
        case MissingVideos(count=count):
            return replace(page, entries=page.entries[: max(0, len(page.entries) - count)])
        case DuplicateVideo():
            return replace(page, entries=page.entries + page.first_of_walk)
        case AlienVideo(video_id=video_id):
            alien = encode_answer(VideoAnswer(video_id, (ClassScore("alien", 50.0, 0.5),)))
            info = replace(page.info, total_results=page.info.total_results + 1)
            return replace(page, entries=(*page.entries, alien), info=info)
        case TokenCycle():
            return replace(page, info=replace(page.info, next_page_token=page.token))
    return page


def _with_wrong_score(entry: bytes, form: str) -> bytes:
    answer = msgspec.json.decode(entry, type=VideoAnswer)
    first, *others = answer.classes
    # Structs do not check what they are made of, and leave out what is unset.
    wrong = msgspec.structs.replace(first, score=str(first.score) if form == "text" else msgspec.UNSET)
    return encode_answer(msgspec.structs.replace(answer, classes=(wrong, *others)))


Ending: TypeAlias = Literal["whole", "closed", "reset"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """How a body is sent: pieces, with a pause in seconds after each; then the end of the answer or the connection's.

    ``length`` is what the answer announces; None: nothing.
    """

    pieces: Iterator[tuple[bytes, float]]
    length: int | None = None
    ending: Ending = "whole"
    headers: Mapping[str, str] = field(default_factory=dict)


def delivery(body: bytes, rule: Fault) -> Delivery | None:
    """How a fault delivers a body of at least one byte; None: as any other answer."""
    match rule:
        case Reset(after_headers=True):
            # The server sends the headers together with the first byte.
            return Delivery(iter([(body[:1], 0.0)]), len(body), "reset")
        case Cut(fraction=fraction):
            return Delivery(iter([(body[: max(1, int(len(body) * fraction))], 0.0)]), len(body), "closed")
        case Slow(bytes_per_second=pace):
            return Delivery(_drips(body, pace), len(body))
        case Huge(bytes=size):
            return Delivery((piece, 0.0) for piece in _padded(body, size))
        case Bomb(bytes=size):
            return Delivery(
                ((piece, 0.0) for piece in _compressed(_padded(body, size))), headers={"Content-Encoding": "gzip"}
            )
    return None


def _drips(body: bytes, pace: int) -> Iterator[tuple[bytes, float]]:
    size = max(1, pace // _DRIPS_PER_SECOND)
    for start in range(0, len(body), size):
        drip = body[start : start + size]
        yield drip, len(drip) / pace


def _padded(body: bytes, size: int) -> Iterator[bytes]:
    """A body and spaces, which JSON allows after a value, block by block."""
    yield body
    for start in range(len(body), size, _BLOCK_BYTES):
        yield b" " * min(_BLOCK_BYTES, size - start)


def _compressed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    compressor = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)  # as gzip
    for piece in pieces:
        yield compressor.compress(piece)
    yield compressor.flush()
