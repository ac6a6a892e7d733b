"""From vectors to classes: pure functions, numpy only.

- Score of a clip and a prompt: ``100 / (1 + exp(-a * (cosine - m)))``, with the option's ``a`` and ``m``. Under
  ``exact_match`` a spoken clip scores 100 or 0 instead. Of a class's prompts the best one counts.
- Clips of an answer: neighbours of one option at or above ``min_clip_score``, with pauses up to 0.5 s bridged; their
  score and prompt are those of the peak.
- ``duration_ratio``: length of the union of these clips, over all options, by the duration of the video.
- Class score: mean over the best half of the video's time, where each moment counts with the best score that any option
  gives it, and a moment without any clip counts 0. It does not depend on thresholds.

Scores are whole hundredths and times are whole microseconds from here to the answer, so that sums are exact and an
answer does not depend on the order of clips, prompts or videos, nor on where a clip was cut. ``cosines`` sees to the
same for the products that scores are made of.

What a class reaches in a clip is one integer, its *standing*: the score and below it the best prompt's place, the first
in alphabetical order highest. The maximum of standings is the peak, score and prompt in one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import astuple, dataclass, fields
from typing import NamedTuple

import numpy as np

from pipeline.models import MAX_PROMPTS, PLATFORM_THRESHOLD, JobClass, Threshold, VideoAnswer
from pipeline.platform.cosines import cosine_blocks
from pipeline.platform.exact_match import matching_lines
from pipeline.platform.scored import Integers, Runs, Scored, Verdicts, quotient
from pipeline.platform.videos import OPTIONS, Calibration, IndexedVideo, Seconds, Track, Vectors
from pipeline.wire import ClassifyRequest

BEST_SHARE = 0.5
"""The share of a video's time that its class scores are the mean of."""

_BEST_SCORE = 100_00  # in hundredths
_LONGEST_PAUSE = 500_000  # within a clip, in microseconds
_CACHED_SCORES = 2**17
_CONVERSATION = OPTIONS.index("conversation")


def classify(
    videos: Sequence[IndexedVideo],
    request: ClassifyRequest,
    prompt_vectors: Mapping[str, Vectors],
    calibration: Mapping[str, Calibration],
    *,
    best_share: float = BEST_SHARE,
) -> list[VideoAnswer]:
    """The videos that match a class of the request, in the order given, each with the classes that it matches.

    Parameters are those of ``score``.
    """
    scored = score(videos, request, prompt_vectors, calibration, best_share=best_share)
    return scored.answers(scored.matching)


def score(
    videos: Sequence[IndexedVideo],
    request: ClassifyRequest,
    prompt_vectors: Mapping[str, Vectors],
    calibration: Mapping[str, Calibration],
    *,
    best_share: float = BEST_SHARE,
) -> Scored:
    """What each video reaches in each class of the request.

    ``prompt_vectors`` has every prompt of the request (at most 100 different ones), ``calibration`` every option of the
    videos. Thresholds are as the contract bounds them: at least 1, 1 and 0.01. So a class that is returned has a clip,
    and a score that is at most its ``max_score``.
    """
    prompts = _prompts(request)
    shape = (len(request.classes), len(videos))
    rows = _lay_out(videos, {option for one in request.classes for option in _options(one, request)})
    if rows is None:
        nothing = np.zeros(shape, dtype=np.int64)
        none = np.zeros(0, dtype=np.int64)
        return Scored(tuple(videos), request, prompts.texts, Verdicts(nothing, nothing, nothing > 0), Runs(*[none] * 6))
    standings = _standings(rows, request, prompts, prompt_vectors, calibration)
    least = _thresholds(request.threshold)
    runs = _runs(rows, standings, least.clip_score)
    durations = np.array([_microseconds(video.duration_seconds) for video in videos])
    ratios = np.minimum(quotient(100 * _covered(runs, shape), durations), 100)
    scores = _class_scores(rows, standings, durations, best_share)
    matches = (scores / 100 >= least.video_score) & (ratios / 100 >= least.duration_ratio)
    return Scored(tuple(videos), request, prompts.texts, Verdicts(scores, ratios, matches), runs)


class _Thresholds(NamedTuple):
    video_score: float
    clip_score: float
    duration_ratio: float


def _thresholds(asked: Threshold) -> _Thresholds:
    defaults = zip(astuple(asked), astuple(PLATFORM_THRESHOLD), strict=True)
    return _Thresholds(*(default if told is None else told for told, default in defaults))


def _parts(lines: int, columns: int) -> Iterator[slice]:
    """So many lines at a time that what is in work stays in a processor's cache."""
    each = max(1, _CACHED_SCORES // columns)
    return (slice(first, first + each) for first in range(0, lines, each))


def _options(one: JobClass, request: ClassifyRequest) -> tuple[str, ...]:
    return one.options or request.options


def _microseconds(seconds: Seconds | float) -> Integers:
    return np.rint(np.multiply(seconds, 1_000_000)).astype(np.int64)


# ------------------------------------------------------------------------------------- what each class reaches where


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Every clip that the request asks about, one a row: by video, track and start. Times in microseconds."""

    tracks: tuple[Track, ...]
    position: Integers  # of the row's clip when the tracks are simply written one after the other
    track: Integers
    video: Integers
    option: Integers
    start: Integers
    end: Integers


def _lay_out(videos: Sequence[IndexedVideo], asked: Set[str]) -> _Rows | None:
    found = [(at, track) for at, video in enumerate(videos) for track in video.tracks if track.option in asked]
    if not found:
        return None
    tracks = tuple(track for _, track in found)
    track = np.repeat(np.arange(len(tracks)), [len(track.starts) for track in tracks])
    video = np.array([at for at, _ in found])[track]
    option = np.array([OPTIONS.index(track.option) for track in tracks])[track]
    start = _microseconds(np.concatenate([track.starts for track in tracks]))
    # A clip that is shorter than a microsecond still covers a moment.
    end = np.maximum(_microseconds(np.concatenate([track.ends for track in tracks])), start + 1)
    position = np.lexsort((end, start, track))
    return _Rows(tracks, position, track, video, option, start[position], end[position])


@dataclass(frozen=True, slots=True, eq=False)
class _Prompts:
    """The different prompts of a request in alphabetical order, and where those of each class are among them."""

    texts: tuple[str, ...]
    lines: Integers  # of every class's prompts, one class behind the other
    firsts: Integers  # where in ``lines`` each class begins

    def best_of_each_class(self, hundredths: Integers) -> Integers:
        """The standing of each class (line), from the score of each prompt (line)."""
        places = np.arange(len(self.texts), dtype=np.int32)[::-1, np.newaxis]
        best: Integers = np.maximum.reduceat((hundredths * MAX_PROMPTS + places)[self.lines], self.firsts, axis=0)
        return best


def _prompts(request: ClassifyRequest) -> _Prompts:
    texts = sorted({prompt for one in request.classes for prompt in one.prompts})
    assert len(texts) <= MAX_PROMPTS, "a standing has room for no more"
    line_of = {prompt: line for line, prompt in enumerate(texts)}
    lines = [line_of[prompt] for one in request.classes for prompt in one.prompts]
    return _Prompts(tuple(texts), np.array(lines), np.cumsum([0] + [len(one.prompts) for one in request.classes[:-1]]))


def _standings(
    rows: _Rows,
    request: ClassifyRequest,
    prompts: _Prompts,
    prompt_vectors: Mapping[str, Vectors],
    calibration: Mapping[str, Calibration],
) -> Integers:
    """The standing of each class (line) in each row (column): 0 in rows of an option that the class does not ask."""
    standings = _by_meaning(rows, prompts, prompt_vectors, calibration)
    exact = [(one.conversation_option or request.conversation_option) == "exact_match" for one in request.classes]
    if any(exact):
        by_words = prompts.best_of_each_class(_BEST_SCORE * _word_matches(rows, prompts.texts))
        standings = np.where(np.outer(exact, rows.option == _CONVERSATION), by_words, standings)
    asked = np.array([[option in _options(one, request) for option in OPTIONS] for one in request.classes])
    standings *= asked[:, rows.option]
    return standings


def _by_meaning(
    rows: _Rows,
    prompts: _Prompts,
    prompt_vectors: Mapping[str, Vectors],
    calibration: Mapping[str, Calibration],
) -> Integers:
    """Standings by the cosines of prompts and clips."""
    curves = [calibration[track.option] for track in rows.tracks]
    half_steepness = np.array([curve.steepness / 2 for curve in curves])[rows.track]
    midpoint = np.array([curve.midpoint for curve in curves])[rows.track]
    standings = np.empty((len(prompts.firsts), len(rows.track)), dtype=np.int32)
    sought = np.stack([prompt_vectors[prompt] for prompt in prompts.texts])
    at = 0
    for cosines in cosine_blocks(sought, [track.vectors for track in rows.tracks]):
        part = slice(at, at := at + cosines.shape[1])
        # (1 + tanh(x / 2)) / 2 is 1 / (1 + exp(-x)), and cannot overflow.
        share = np.tanh(half_steepness[part] * (cosines - midpoint[part]))
        hundredths = np.rint(_BEST_SCORE / 2 * (1 + share)).astype(np.int32)
        standings[:, part] = prompts.best_of_each_class(hundredths)
    return standings[:, rows.position]


def _word_matches(rows: _Rows, prompts: Sequence[str]) -> Integers:
    """1 where the row is a spoken line that holds a part of the prompt, else 0: a line a prompt, a column a row."""
    found = [
        matching_lines(track, prompts)
        if track.option == "conversation"
        else np.zeros((len(prompts), len(track.starts)), dtype=np.bool_)
        for track in rows.tracks
    ]
    return np.concatenate(found, axis=1)[:, rows.position].astype(np.int32)


# -------------------------------------------------------------------------------------------- clips and their length


def _runs(rows: _Rows, standings: Integers, least_score: float) -> Runs:
    parts = [_runs_of(rows, standings, part, least_score) for part in _parts(*standings.shape)]
    return Runs(*[np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(Runs)])


def _runs_of(rows: _Rows, standings: Integers, part: slice, least_score: float) -> Runs:
    line, row = np.nonzero(standings[part] // MAX_PROMPTS / 100 >= least_score)
    line += part.start
    pause = _pauses(line * len(rows.tracks) + rows.track[row], rows.start[row], rows.end[row])
    heads = np.flatnonzero(pause > _LONGEST_PAUSE)
    if not len(heads):
        return Runs(*[heads] * len(fields(Runs)))
    first = row[heads]
    end = np.maximum.reduceat(rows.end[row], heads)
    standing = np.maximum.reduceat(standings[line, row], heads)
    return Runs(line[heads], rows.video[first], rows.start[first], end, rows.option[first], standing)


def _pauses(owner: Integers, start: Integers, end: Integers) -> Integers:
    """How long before each interval all earlier ones of its owner had ended: negative where one still lasts.

    Ordered by owner and start. The first of an owner has a pause over ``_LONGEST_PAUSE``: owners are laid end to end
    on one axis, further apart than that, so that one pass serves all of them.
    """
    span = end.max(initial=0) + _LONGEST_PAUSE + 1
    ended = np.maximum.accumulate(owner * span + end)
    pauses: Integers = owner * span + start - np.concatenate(([-span], ended[:-1]))
    return pauses


def _covered(runs: Runs, shape: tuple[int, int]) -> Integers:
    """Microseconds of each video (column) that the clips of each class (line) cover, overlaps counted once."""
    owner = runs.line * shape[1] + runs.video
    order = np.lexsort((runs.start, owner))
    owner, start, end = owner[order], runs.start[order], runs.end[order]
    unseen = np.maximum(end - start + np.minimum(_pauses(owner, start, end), 0), 0)
    covered = np.zeros(shape[0] * shape[1], dtype=np.int64)
    np.add.at(covered, owner, unseen)
    return covered.reshape(shape)


# ------------------------------------------------------------------------------------------------------ class scores


def _class_scores(rows: _Rows, standings: Integers, durations: Integers, best_share: float) -> Integers:
    """Score of each class (line) for each video (column), in hundredths."""
    cells = _cells(rows)
    best = np.maximum(np.rint(best_share * durations).astype(np.int64), 1)[cells.video]
    scores = np.zeros((len(standings), len(durations)), dtype=np.int64)
    for part in _parts(len(standings), len(cells.video)):
        envelope, length = _best_first(cells, cells.envelope(standings[part] // MAX_PROMPTS))
        ended = np.cumsum(length, axis=1)
        before = ended[:, cells.heads] - length[:, cells.heads]
        earlier = ended - length - np.repeat(before, cells.counts, axis=1)
        sums = np.add.reduceat(np.clip(best - earlier, 0, length) * envelope, cells.heads, axis=1)
        scores[part, cells.video[cells.heads]] = quotient(sums, best[cells.heads])
    return scores


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """Time cut at every start and end of a clip, by video; what no clip covers is left out."""

    video: Integers
    length: Integers
    row: Integers  # the rows that cover each cell, one cell behind the other
    first: Integers  # where in ``row`` each cell begins
    heads: Integers  # the first cell of each video
    counts: Integers  # how many cells each video has

    def envelope(self, hundredths: Integers) -> Integers:
        """The best score in each cell (column), of scores in each row (column)."""
        scores = hundredths[:, self.row]
        if len(self.first) == len(self.row):
            return scores
        best: Integers = np.maximum.reduceat(scores, self.first, axis=1)
        return best


def _cells(rows: _Rows) -> _Cells:
    span = rows.end.max() + 1
    moments = np.concatenate((rows.video * span + rows.start, rows.video * span + rows.end))
    moments, at = np.unique(moments, return_inverse=True)
    first, beyond = np.split(at, 2)
    sizes = beyond - first
    row = np.repeat(np.arange(len(sizes)), sizes)
    cell = np.arange(len(row)) + np.repeat(first - np.cumsum(sizes) + sizes, sizes)
    order = np.argsort(cell, kind="stable")
    row, cell = row[order], cell[order]
    starts = np.flatnonzero(np.diff(cell, prepend=-1))
    covered = cell[starts]
    video = moments[covered] // span
    heads = np.flatnonzero(np.diff(video, prepend=-1))
    counts = np.diff(heads, append=len(video))
    return _Cells(video, moments[covered + 1] - moments[covered], row, starts, heads, counts)


def _best_first(cells: _Cells, envelope: Integers) -> tuple[Integers, Integers]:
    """The scores of each line, those of each video from the best down, and the length of the cell of each.

    One number a cell (video, score, place in its video) is sorted, because numbers are sorted faster than places by
    them, and small ones faster than large ones.
    """
    place_bits, score_bits = int(cells.counts.max()).bit_length(), _BEST_SCORE.bit_length()
    bits = place_bits + score_bits + int(cells.video[-1]).bit_length()
    number: type[np.int32 | np.int64] = np.int32 if bits < 32 else np.int64
    first = np.repeat(cells.heads, cells.counts)
    by_video = (cells.video << place_bits + score_bits) + np.arange(len(first)) - first
    below_best: Integers = (_BEST_SCORE - envelope).astype(number)
    keys: Integers = (below_best << place_bits) + by_video.astype(number)
    keys.sort(axis=1)
    lengths = cells.length[first + (keys & (1 << place_bits) - 1)]
    return _BEST_SCORE - (keys >> place_bits & (1 << score_bits) - 1), lengths
