"""How a run stands, for people: from the facts of a moment to the lines of the live view, or to a heartbeat's line.

Pure: facts in, text out. A line is a label and parts in the order of their worth; the last parts go first where the
terminal is too narrow, and what is left is cut, so that no line is ever wider than it may be. Colour is never the only
carrier of meaning. Moments are told in UTC, as in every file of a run.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import ceil
from typing import Literal, NamedTuple, get_args

from pipeline.wording import counted, printable

Style = Literal["", "good", "bad", "wait", "faint"]

_LABEL_WIDTH = 9  # with a column in front, for the cursor that rests there
_SHORTEST_BAR, _LONGEST_BAR = 10, 60
_CODES_SHOWN = 3


class Piece(NamedTuple):
    """A part of a line, and how it may be coloured."""

    text: str
    style: Style = ""


Line = tuple[Piece, ...]


ActivityKind = Literal["answering", "waiting_for_quota", "probing", "held_back", "draining"]
ACTIVITIES: tuple[ActivityKind, ...] = get_args(ActivityKind)
"""What a run can be doing."""


@dataclass(frozen=True, slots=True)
class Activity:
    """What a run is doing. ``until`` is when that changes, as far as is known; ``detail`` says more of it.

    ``gives_up_at`` is when the run ends if it does not change.

    ``answering``: POSTs leave and pages come. ``waiting_for_quota``: the window is used up. ``probing``: the platform
    does not answer, and single POSTs try it. ``held_back``: the platform has ordered a pause. ``draining``: the run
    stops, and what is under way is finished.
    """

    kind: ActivityKind
    until: float | None = None
    detail: str = ""
    gives_up_at: float | None = None


ANSWERING = Activity("answering")


@dataclass(frozen=True, slots=True)
class Allowance:
    """The quota of the present window, in POSTs; it starts again at ``resets_at``, for ``seconds``."""

    limit: int
    used: int
    resets_at: float
    seconds: float

    @property
    def left(self) -> int:
        """POSTs that may still be sent in it."""
        return max(self.limit - self.used, 0)


@dataclass(frozen=True, slots=True)
class Facts:
    """How a run stands at the moment ``now``. Moments are in seconds since the epoch.

    ``posts`` are those used in all the life of the run, ``posts_planned`` what it takes while nothing fails; ``pace``
    is POSTs in a second over the last minute, ``pace_allowed`` requests in a second, None where there is no limit.
    ``seconds_left`` is None while nobody can know.
    """

    now: float
    videos: int
    scored: int
    no_match: int
    failures: Mapping[str, int]
    posts: int
    posts_planned: int
    pace: float | None = None
    pace_allowed: float | None = None
    allowance: Allowance | None = None
    activity: Activity = field(default=ANSWERING)
    seconds_left: float | None = None

    @property
    def failed(self) -> int:
        """Videos without an answer, for good."""
        return sum(self.failures.values())

    @property
    def settled(self) -> int:
        """Videos that are answered or have failed."""
        return self.scored + self.no_match + self.failed

    @property
    def percent(self) -> int:
        """How much of the run is done, rounded down: 100 means all of it."""
        return 100 * self.settled // self.videos if self.videos else 100


def seconds_left(videos: int, seconds_per_video: float, posts: int, allowance: Allowance | None, now: float) -> float:
    """How long the open ``videos`` take, whose ``posts`` may need more windows of the quota than the present one."""
    busy = videos * seconds_per_video
    if allowance is None or posts <= allowance.left or not allowance.limit:
        return busy
    beyond = posts - allowance.left
    windows = ceil(beyond / allowance.limit)
    in_last = beyond - (windows - 1) * allowance.limit
    first = max(allowance.resets_at - now, busy * allowance.left / posts)
    return first + (windows - 1) * allowance.seconds + busy * in_last / posts


# --------------------------------------------------------------------------------------------------------------- lines


def live_view(facts: Facts, columns: int) -> list[Line]:
    """The lines of the live view, none wider than so many columns."""
    lines = [
        _with_bar(facts, columns),
        _line("POSTs", _posts(facts), columns),
        *([_line("quota", _quota(facts), columns)] if facts.allowance else ()),
        *([_line("failed", _failures(facts), columns)] if facts.failed else ()),
        _line("now", _activity(facts), columns),
    ]
    if facts.seconds_left is not None and facts.settled < facts.videos:
        lines.append(_line("left", _remaining(facts), columns))
    return lines


def heartbeat(facts: Facts) -> str:
    """The same in one line, of any length, that says when it was true."""
    parts = [
        "".join(part.text for part in parts)
        for parts in (
            _videos(facts),
            [Piece("POSTs "), *_posts(facts)],
            [Piece("quota "), *_quota(facts)] if facts.allowance else [],
            [Piece("failed "), *_failures(facts)] if facts.failed else [],
            _activity(facts),
            [Piece("left "), *_remaining(facts)] if facts.seconds_left is not None else [],
        )
        if parts
    ]
    return f"{datetime.fromtimestamp(facts.now, UTC):%Y-%m-%d %H:%M:%S} UTC  " + "; ".join(parts)


def _videos(facts: Facts) -> list[Piece]:
    return [Piece(f"{facts.settled:,} of {counted(facts.videos, 'video')}"), Piece(f" ({facts.percent} %)")]


def _with_bar(facts: Facts, columns: int) -> Line:
    share = facts.settled / facts.videos if facts.videos else 1.0
    line = _line("videos", [Piece(f"{facts.settled:,} of {facts.videos:,}"), Piece(f" ({facts.percent} %)")], columns)
    room = min(columns - sum(cells(piece.text) for piece in line) - 2, _LONGEST_BAR)
    if room < _SHORTEST_BAR:
        return line
    done = int(room * share)
    return (*line, Piece("  "), Piece("█" * done, "good"), Piece("░" * (room - done), "faint"))


def _posts(facts: Facts) -> list[Piece]:
    of = f" of {facts.posts_planned:,} planned" if facts.posts_planned else " sent"
    parts = [Piece(f"{facts.posts:,}{of}")]
    if facts.pace is not None:
        parts.append(Piece(f"; {rate(facts.pace)} a second"))
        if facts.pace_allowed is not None:
            parts.append(Piece(f", {rate(facts.pace_allowed)} allowed"))
    return parts


def _quota(facts: Facts) -> list[Piece]:
    allowance = facts.allowance
    assert allowance is not None
    return [
        Piece(f"{allowance.left:,} of {allowance.limit:,} left", "" if allowance.left else "wait"),
        Piece(f", resets at {moment(allowance.resets_at, facts.now)}"),
        Piece(f" (in {duration(max(allowance.resets_at - facts.now, 0))})"),
    ]


def _failures(facts: Facts) -> list[Piece]:
    by_number = sorted(facts.failures.items(), key=lambda one: (-one[1], one[0]))
    parts = [Piece(f"{facts.failed:,}", "bad")]
    parts += [
        Piece(f"{'; ' if at else ': '}{number:,} {printable(code)}")
        for at, (code, number) in enumerate(by_number[:_CODES_SHOWN])
    ]
    if others := sum(number for _, number in by_number[_CODES_SHOWN:]):
        parts.append(Piece(f"; {others:,} for other reasons"))
    return parts


def _activity(facts: Facts) -> list[Piece]:
    activity = facts.activity
    rest = None if activity.until is None else max(activity.until - facts.now, 0)
    in_time = "" if rest is None else f" in {duration(rest)}"
    match activity.kind:
        case "waiting_for_quota":
            assert activity.until is not None
            until = Piece(f"waiting for the quota until {moment(activity.until, facts.now)}", "wait")
            return [until, Piece(f", {duration(rest or 0)} from now")]
        case "probing":
            parts = [
                Piece(f"no answer for {printable(activity.detail)}", "bad"),
                Piece(f", the next probe{in_time or ' now'}"),
            ]
            if activity.gives_up_at is not None:
                parts.append(Piece(f", gives up at {moment(activity.gives_up_at, facts.now)}"))
            return parts
        case "held_back":
            return [Piece("held back by the platform", "wait"), Piece(f", the next POST{in_time}")]
        case "draining":
            words = "stopping: what is under way is finished"
            return [Piece(words, "wait"), Piece(f" ({printable(activity.detail)})" if activity.detail else "")]
    return [Piece(printable(activity.detail) or "reading answers")]


def _remaining(facts: Facts) -> list[Piece]:
    assert facts.seconds_left is not None
    return [
        Piece(f"about {duration(facts.seconds_left)}"),
        Piece(f", until {moment(facts.now + facts.seconds_left, facts.now)}"),
    ]


def _line(label: str, parts: Sequence[Piece], columns: int) -> Line:
    """A label and as many parts as fit; what does not fit of the first is cut."""
    pieces = [Piece(f" {label}".ljust(_LABEL_WIDTH))]
    room = columns - _LABEL_WIDTH
    for at, part in enumerate(parts):
        if cells(part.text) > room:
            if at == 0:
                pieces.append(Piece(shortened(part.text, room), part.style))
            break
        pieces.append(part)
        room -= cells(part.text)
    return tuple(pieces)


def plain(line: Iterable[Piece]) -> str:
    """A line without its colours."""
    return "".join(piece.text for piece in line)


# ---------------------------------------------------------------------------------------------------------------- words


def rate(per_second: float) -> str:
    """How often a second, to two digits or more: ``0.98``, ``25``, ``0.012``."""
    if per_second >= 10:
        return f"{per_second:,.0f}"
    return f"{per_second:.2f}" if per_second >= 0.1 or not per_second else f"{per_second:.2g}"


def duration(seconds: float) -> str:
    """A length of time as people say it: ``45 s``, ``12 min``, ``3 h 20 min``."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"


_LAST_MOMENT = 253_402_300_799.0  # the year 9999 ends: no later one can be written


def moment(at: float, now: float) -> str:
    """A moment as people say it: ``06:12 UTC``; with its day where that is not today."""
    then = datetime.fromtimestamp(min(at, _LAST_MOMENT), UTC)
    today = datetime.fromtimestamp(now, UTC).date()
    return f"{then:%H:%M} UTC" if then.date() == today else f"{then:%Y-%m-%d %H:%M} UTC"


def cells(text: str) -> int:
    """How many columns a terminal takes for a text at the most: two for wide letters (UAX #11), none for accents."""
    return sum(map(_cells_of, text))


def _cells_of(letter: str) -> int:
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def shortened(text: str, columns: int) -> str:
    """A text cut to so many columns, with a sign that something is missing."""
    if cells(text) <= columns:
        return text
    return "".join(_fitting(text, columns - 1)) + "…" if columns > 0 else ""


def _fitting(text: str, columns: int) -> Iterator[str]:
    for letter in text:
        columns -= _cells_of(letter)
        if columns < 0:
            return
        yield letter
