"""Few requests: videos into chunks that fill the ten hours, classes into groups that fill the hundred prompts.

What a night costs is chunks x prompt groups, so both are packed, and neither step does any I/O. Videos are placed one
at a time, in the order in which they come and for good: a million of them need no more memory than the chunks that are
still open.
"""

from __future__ import annotations

import sys
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from pipeline.errors import ConfigError
from pipeline.models import MAX_PROMPTS, MAX_SECONDS, JobClass

_WIDENING = 1.25
OPEN_CHUNKS = 100
"""Chunks that can still take a video. Above this nothing was gained in any of the measurements under ``Packer``."""


class Packer:
    """Says of each video, at once, which chunk it goes to: online best fit over a bounded number of open chunks.

    A video goes to the open chunk that it fills best; where it fits in none, a new one is opened, and where that makes
    too many, the fullest is closed. Durations count as whole seconds, rounded up, so that no way of rounding on the
    platform's side puts a chunk over its limit. Videos of unknown duration are packed among themselves, by number; if
    ``widening``, each of their chunks takes a quarter more than the one before, for nobody knows how many fit. A video
    longer than ``max_seconds`` gets a chunk of its own: the platform may refuse it, and then it alone.

    Measured against the lower bound ``LB = ceil(sum of durations / max_seconds)``, fractional durations: with 3 to
    1,000 open chunks never more than LB + 1 for 50 to 2,000 videos (lognormal, median 240 s, sigma 0.5 to 1.5; uniform,
    60 to 3,600 s; 50 to 400 samples each), for a new chunk is opened only when all the others are nearly full. A
    million videos: 1.0014 x LB (lognormal, sigma 1), of which the rounding is 1.0013, and 1.0008 x LB (uniform). The
    number of open chunks shows only where few videos fill a chunk: uniform, 60 to 18,000 s, takes 1.015 x LB with 10,
    1.0063 with 50, 1.0054 with 100, 1.0051 with 1,000.

    ``max_videos`` is the most videos in one chunk, 0 for no limit; it bounds ``videos_of_unknown_duration`` too. Chunks
    are numbered from ``first_chunk``, by one.
    """

    def __init__(
        self,
        max_seconds: int = MAX_SECONDS,
        *,
        max_videos: int = 0,
        videos_of_unknown_duration: int = 20,
        widening: bool = False,
        open_chunks: int = OPEN_CHUNKS,
        first_chunk: int = 1,
    ) -> None:
        self._max_seconds = max_seconds
        self._most = max_videos or sys.maxsize
        self._max_unknown = min(videos_of_unknown_duration, self._most)
        self._widening = widening
        self._max_open = open_chunks
        self._next_chunk = first_chunk
        # (free seconds, chunk, videos in it), the fullest first: bisecting finds the best fit.
        self._open: list[tuple[int, int, int]] = []
        self._unknown_chunk = 0
        self._unknown_places = 0

    def place(self, duration_seconds: float | None) -> int:
        """The number of the chunk that the next video goes to; its duration is positive, or None if unknown."""
        if duration_seconds is None:
            return self._place_unknown()
        if duration_seconds > self._max_seconds:
            return self._begin_chunk()
        seconds = ceil(duration_seconds)
        best = bisect_left(self._open, (seconds,))
        if best < len(self._open):
            free, chunk, videos = self._open.pop(best)
        else:
            free, chunk, videos = self._max_seconds, self._begin_chunk(), 0
        free -= seconds
        videos += 1
        if free and videos != self._most:
            insort(self._open, (free, chunk, videos))
            if len(self._open) > self._max_open:
                del self._open[0]
        return chunk

    def _place_unknown(self) -> int:
        if not self._unknown_places:
            self._unknown_chunk = self._begin_chunk()
            self._unknown_places = self._max_unknown
            if self._widening:
                self._max_unknown = min(ceil(self._max_unknown * _WIDENING), self._most)
        self._unknown_places -= 1
        return self._unknown_chunk

    def _begin_chunk(self) -> int:
        self._next_chunk += 1
        return self._next_chunk - 1


@dataclass(frozen=True, slots=True)
class OneChunk:
    """Puts every video into one chunk: a whole index takes one POST, however long its videos are together."""

    chunk: int

    def place(self, duration_seconds: float | None) -> int:  # noqa: ARG002 - as ``Packer`` is asked
        """The number of that chunk."""
        return self.chunk


def prompt_groups(classes: Sequence[JobClass], max_prompts: int = MAX_PROMPTS) -> tuple[tuple[JobClass, ...], ...]:
    """The classes that share a request: first-fit decreasing by number of prompts.

    The result follows the config: classes within a group, and groups by their first class. Raises ``ConfigError`` that
    names every class with more than ``max_prompts`` prompts.
    """
    too_large = [
        f"job.classes: {one.name!r} has {len(one.prompts)} prompts, and a request takes at most {max_prompts}: "
        "divide it into several classes"
        for one in classes
        if len(one.prompts) > max_prompts
    ]
    if too_large:
        raise ConfigError(too_large)
    groups: list[list[int]] = []
    free: list[int] = []
    for position in sorted(range(len(classes)), key=lambda position: -len(classes[position].prompts)):
        prompts = len(classes[position].prompts)
        fitting = next((group for group, places in enumerate(free) if places >= prompts), None)
        if fitting is None:
            fitting = len(groups)
            groups.append([])
            free.append(max_prompts)
        groups[fitting].append(position)
        free[fitting] -= prompts
    return tuple(tuple(classes[position] for position in group) for group in sorted(map(sorted, groups)))
