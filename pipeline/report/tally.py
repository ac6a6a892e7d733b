"""Rows counted: how the scores of each class are distributed, and which videos are worth a closer look. Pure.

A million rows are seen once and not kept. Of each class as many of its best videos are remembered as a page could show;
they are chosen in turn, a class at a time, so that a page sorted by any class begins with that class's best.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappush, heappushpop
from itertools import chain, islice, zip_longest
from typing import TypeVar

from pipeline.report.committed import ClipLine, ScoreLine

_Line = TypeVar("_Line", ScoreLine, ClipLine)

BINS = 20
"""Bins of a distribution, from 0 to 100 of score; each has its lower end, the last one both."""
_BIN_WIDTH = 100 / BINS
MAX_FOREIGN_CLASSES = 50
"""Classes that the job does not have, but an answer had: so many are counted by themselves."""


@dataclass(slots=True)
class ClassTally:
    """One class's scores: videos by bins, and the best of them as (score, minus the row's number, video)."""

    videos: int = 0
    bins: list[int] = field(default_factory=lambda: [0] * BINS)
    best: list[tuple[float, int, str]] = field(default_factory=list)

    def best_first(self) -> list[str]:
        """The ids of the best videos; among equals the one that was answered first."""
        return [video_id for _, _, video_id in sorted(self.best, reverse=True)]


@dataclass(slots=True)
class Tally:
    """All classes' scores: the job's, in its order, then others as they came."""

    classes: dict[str, ClassTally]
    rows: int = 0
    rows_of_others: int = 0
    """Rows of classes that have no tally, for there are too many of them."""


def tally_of(blocks: Iterable[Sequence[ScoreLine]], class_names: Iterable[str], keep: int) -> Tally:
    """Count scores; of each class remember the ``keep`` best videos."""
    tally = Tally({name: ClassTally() for name in class_names})
    most = len(tally.classes) + MAX_FOREIGN_CLASSES
    number = 0
    for block in blocks:
        for row in block:
            number -= 1
            one = tally.classes.get(row.class_name)
            if one is None:
                if len(tally.classes) == most:
                    tally.rows_of_others += 1
                    continue
                one = tally.classes[row.class_name] = ClassTally()
            score = row.score
            one.videos += 1
            one.bins[0 if score < 0 else BINS - 1 if score >= 100 else int(score / _BIN_WIDTH)] += 1
            best = one.best
            if len(best) < keep:
                heappush(best, (score, number, row.video_id))
            elif score > best[0][0]:
                heappushpop(best, (score, number, row.video_id))
    tally.rows = -number
    return tally


def chosen(wanted: Iterable[str], tallies: Iterable[ClassTally], most: int) -> list[str]:
    """The videos to show: those that are wanted, then each class's best, second-best and so on, ``most`` in all."""
    in_turn = chain.from_iterable(zip_longest(*(one.best_first() for one in tallies)))
    return list(islice(dict.fromkeys(chain(wanted, (one for one in in_turn if one is not None))), most))


@dataclass(slots=True)
class Found:
    """What one video has: (class, score, duration ratio) and its best clips; ``clips_left_out`` of them are weaker."""

    scores: list[tuple[str, float, float]] = field(default_factory=list)
    clips: list[ClipLine] = field(default_factory=list)
    clips_left_out: int = 0


def scores_of(video_ids: Iterable[str], blocks: Iterable[Sequence[ScoreLine]]) -> dict[str, Found]:
    """The scores of these videos, by id, in their order."""
    found = {video_id: Found() for video_id in video_ids}
    for row in _rows_of(found, blocks):
        found[row.video_id].scores.append((row.class_name, row.score, row.duration_ratio))
    return found


def add_clips(found: Mapping[str, Found], blocks: Iterable[Sequence[ClipLine]], most: int) -> None:
    """Give each video its clips, but no more than the ``most`` best, in the order of time."""
    for row in _rows_of(found, blocks):
        one = found[row.video_id]
        one.clips.append(row)
        if len(one.clips) >= 2 * most:
            _drop_weak(one, most)
    for one in found.values():
        _drop_weak(one, most)
        one.clips.sort(key=lambda clip: (clip.start_seconds, clip.end_seconds))


def _drop_weak(one: Found, most: int) -> None:
    one.clips.sort(key=lambda clip: -clip.score)
    one.clips_left_out += len(one.clips[most:])
    del one.clips[most:]


def _rows_of(found: Mapping[str, Found], blocks: Iterable[Sequence[_Line]]) -> Iterator[_Line]:
    for block in blocks:
        for row in block:
            if row.video_id in found:
                yield row
