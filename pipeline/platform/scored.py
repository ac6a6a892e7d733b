"""What videos reach under a request, and the answers that are made of it.

Finding which videos match takes numbers of all of them; an answer, with its clips in words, is needed only where
somebody reads it. So what is found stays in columns, and answers are written for the videos that are named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import repeat
from typing import Any, NamedTuple, TypeAlias
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from pipeline.models import MAX_PROMPTS, ClassScore, Clip, DetailedScores, VideoAnswer, normalized_scores
from pipeline.platform.videos import OPTIONS, IndexedVideo
from pipeline.wire import ClassifyRequest

Integers: TypeAlias = NDArray[np.signedinteger[Any]]


def quotient(dividend: Integers, divisor: Integers) -> Integers:
    """The nearest integer, halves up."""
    return (2 * dividend + divisor) // (2 * divisor)


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """The clips of all answers, by class (its line), track and start."""

    line: Integers
    video: Integers
    start: Integers
    end: Integers
    option: Integers
    standing: Integers

    def of(self, chosen: NDArray[np.intp]) -> Runs:
        """Those at these places, in the order of the places."""
        return Runs(*[getattr(self, one.name)[chosen] for one in fields(self)])


class Verdicts(NamedTuple):
    """Of each class (line) and video (column): score and duration ratio in hundredths, and whether it is returned."""

    scores: Integers
    ratios: Integers
    matches: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """What videos reach, from which their answers can be made. A video is meant by its place among ``videos``."""

    videos: tuple[IndexedVideo, ...]
    request: ClassifyRequest
    prompts: tuple[str, ...]
    verdicts: Verdicts
    runs: Runs

    @property
    def matching(self) -> list[int]:
        """The videos that match a class of the request."""
        return np.flatnonzero(self.verdicts.matches.any(axis=0)).tolist()

    @property
    def best_scores(self) -> list[float]:
        """The best score of each video in a class that it matches; 0 where it matches none."""
        best: list[float] = (np.where(self.verdicts.matches, self.verdicts.scores, 0).max(axis=0) / 100).tolist()
        return best

    @property
    def seals(self) -> list[int]:
        """A checksum (CRC-32) for each video of all that its answer says, whatever of it the request shows."""
        order = np.argsort(self.runs.video, kind="stable")
        ordered = self.runs.of(order)
        facts = np.stack([ordered.line, ordered.start, ordered.end, ordered.option, ordered.standing], axis=1)
        begins = np.searchsorted(ordered.video, np.arange(len(self.videos) + 1))
        verdicts = np.stack(self.verdicts, axis=-1).transpose(1, 0, 2).copy()
        return [
            crc32(verdicts[at].data, crc32(facts[begins[at] : begins[at + 1]].data)) for at in range(len(self.videos))
        ]

    def answers(self, chosen: Sequence[int]) -> list[VideoAnswer]:
        """The answers of these videos, which must match, in the order given."""
        place, line = np.nonzero(self.verdicts.matches[:, chosen].T)
        video = np.array(chosen, dtype=np.intp)[place]
        scores = (self.verdicts.scores[line, video] / 100).tolist()
        ratios = (self.verdicts.ratios[line, video] / 100).tolist()
        ends = np.cumsum(np.bincount(place, minlength=len(chosen))).tolist()
        clips, peaks, means = self._clips(chosen)
        names = [self.request.classes[at].name for at in line.tolist()]
        answers = []
        for first, beyond, at in zip([0, *ends], ends, chosen, strict=False):
            of_video = slice(first, beyond)
            shares = normalized_scores(scores[of_video])
            details: Iterable[DetailedScores | None] = repeat(None, beyond - first)
            if self.request.show_detailed_score:
                details = map(DetailedScores, peaks[of_video], means[of_video], shares)
            classes = map(ClassScore, names[of_video], scores[of_video], ratios[of_video], clips[of_video], details)
            answers.append(VideoAnswer(self.videos[at].video_id, tuple(classes)))
        return answers

    def _clips(self, chosen: Sequence[int]) -> tuple[list[tuple[Clip, ...] | None], list[float], list[float]]:
        """Of each class that each of these videos matches, in this order: its clips, their best score, their mean."""
        place = np.full(len(self.videos), -1)
        place[chosen] = np.arange(len(chosen))
        shown = self.verdicts.matches & (place >= 0)
        kept = np.flatnonzero(shown[self.runs.line, self.runs.video])
        owner = place[self.runs.video[kept]] * len(shown) + self.runs.line[kept]
        hundredths = self.runs.standing[kept] // MAX_PROMPTS
        order = np.lexsort((self.runs.option[kept], self.runs.start[kept], -hundredths, owner))
        runs, hundredths = self.runs.of(kept[order]), hundredths[order].astype(np.int64)
        heads = np.flatnonzero(np.diff(owner[order], prepend=-1))
        counts = np.diff(heads, append=len(owner))
        peaks = (hundredths[heads] / 100).tolist()
        means = (quotient(np.add.reduceat(hundredths, heads), counts) / 100).tolist() if len(heads) else []
        if not self.request.include_clips:
            return [None] * len(heads), peaks, means
        clips = tuple(self._described(runs))
        return [clips[head:end] for head, end in zip(heads, heads + counts, strict=True)], peaks, means

    def _described(self, runs: Runs) -> Iterator[Clip]:
        line = len(self.prompts) - 1 - runs.standing % MAX_PROMPTS
        return map(
            Clip,
            (runs.start / 1_000_000).tolist(),
            (runs.end / 1_000_000).tolist(),
            (runs.standing // MAX_PROMPTS / 100).tolist(),
            map(OPTIONS.__getitem__, runs.option.tolist()),
            map(self.prompts.__getitem__, line.tolist()),
        )
