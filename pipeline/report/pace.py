"""POSTs over time: stretches of work, each cut into bars of a width that people read. Pure.

A run that was gone on with a week later has worked twice; drawn as one it would be two thin lines with nothing between.
So where no POST left for three hours a new stretch begins.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

from pipeline.chunks import PostState

_PAUSE_SECONDS = 3 * 3600.0
_MOST_BARS = 72
_MAX_STRETCHES = 14  # two weeks of nights
_WIDTHS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400)


class Fate(IntEnum):
    """What became of a POST, as the report tells it apart."""

    ANSWERED = 0
    TOO_EARLY = 1
    """429"""
    REFUSED = 2
    UNKNOWN = 3
    UNDER_WAY = 4


@dataclass(frozen=True, slots=True)
class Stretch:
    """POSTs between two pauses. Moments in seconds since the epoch; ``before`` are the POSTs before this stretch.

    ``bars`` are (place, number by ``Fate`` ...), only where there are any; a bar is ``bar_seconds`` wide, the first one
    begins at ``begins_at``, a multiple of that.
    """

    begins_at: float
    first_at: float
    last_at: float
    bar_seconds: int
    before: int
    posts: int
    bars: tuple[tuple[int, ...], ...]


@dataclass(slots=True)
class Posts:
    """Every POST that left: when (seconds since the epoch, rising), and what became of it."""

    moments: array[float]
    fates: bytearray

    def count(self, fate: Fate) -> int:
        """How many had this fate."""
        return self.fates.count(fate)


def fate_of(state: PostState, http_status: int | None) -> Fate | None:
    """How the report tells a POST's fate; None for one that never left."""
    if state is PostState.NOT_SENT:
        return None
    if state is PostState.REFUSED:
        return Fate.TOO_EARLY if http_status == 429 else Fate.REFUSED
    return {PostState.ANSWERED: Fate.ANSWERED, PostState.UNKNOWN: Fate.UNKNOWN}.get(state, Fate.UNDER_WAY)


def posts_of(made: Iterable[tuple[float, PostState, int | None]]) -> Posts:
    """The POSTs that left, of (moment, state, HTTP status) by rising moments."""
    posts = Posts(array("d"), bytearray())
    for moment, state, http_status in made:
        fate = fate_of(state, http_status)
        if fate is not None:
            posts.moments.append(moment)
            posts.fates.append(fate)
    return posts


def stretches_of(posts: Posts) -> list[Stretch]:
    """The stretches of work, the newest first, at most fourteen of them."""
    spans = list(_spans(posts.moments))
    return [_stretch(posts, first, end) for first, end in reversed(spans[-_MAX_STRETCHES:])]


def _spans(moments: array[float]) -> Iterator[tuple[int, int]]:
    """For each stretch the place of its first POST, and the one behind its last."""
    first = 0
    for place in range(1, len(moments) + 1):
        if place == len(moments) or moments[place] - moments[place - 1] > _PAUSE_SECONDS:
            yield first, place
            first = place


def _stretch(posts: Posts, first: int, end: int) -> Stretch:
    moments = posts.moments[first:end]
    length = moments[-1] - moments[0]
    width = next((one for one in _WIDTHS if length / one < _MOST_BARS), int(length / _MOST_BARS) + 1)
    begins_at = moments[0] // width * width
    bars: dict[int, list[int]] = {}
    for moment, fate in zip(moments, posts.fates[first:end], strict=True):
        bars.setdefault(int((moment - begins_at) / width), [0] * len(Fate))[fate] += 1
    counted = tuple((place, *numbers) for place, numbers in sorted(bars.items()))
    return Stretch(begins_at, moments[0], moments[-1], width, first, end - first, counted)
