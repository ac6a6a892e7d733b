"""From vectors to classes: pure functions, numpy only.

- Score of a clip and a prompt: ``100 / (1 + exp(-a * (cosine - m)))``, with the option's ``a`` and ``m``. Under
  ``exact_match`` a spoken clip scores 100 or 0 instead. Of a class's prompts the best one counts.
- Clips of an answer: neighbours of one option at or above ``min_clip_score``, with pauses up to 0.5 s bridged; their
  score and prompt are those of the peak.
- ``duration_ratio``: length of the union of these clips, over all options, by the duration of the video.
- Class score: mean over the best half of the video's time, where each moment counts with the best score that any option
  gives it, and a moment without any clip counts 0. It does not depend on thresholds.

Scores are whole hundredths and times are whole microseconds from here to the answer, so that sums are exact and an
answer does not depend on the order of clips, prompts or videos, nor on where a clip was cut. Cosines are summed in
float64 from the float32 vectors for the same reason: BLAS adds up a small float32 product in another order than a large
one (measured: 1e-7 apart), and a score would depend on which videos were posted together.

What a class reaches in a clip is one integer, its *standing*: the score and below it the best prompt's place, the first
in alphabetical order highest. The maximum of standings is the peak, score and prompt in one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import starmap
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.models import (
    MAX_PROMPTS,
    ClassScore,
    Clip,
    DetailedScores,
    JobClass,
    Threshold,
    VideoAnswer,
    normalized_scores,
)
from pipeline.platform.exact_match import matching_lines
from pipeline.platform.videos import OPTIONS, Calibration, IndexedVideo, Seconds, Track, Vectors
from pipeline.wire import ClassifyRequest

BEST_SHARE = 0.5
"""The share of a video's time that its class scores are the mean of."""

_BEST_SCORE = 100_00  # in hundredths
_LONGEST_PAUSE = 500_000  # within a clip, in microseconds
_CONVERSATION = OPTIONS.index("conversation")

Integers: TypeAlias = NDArray[np.int64]


def classify(
    videos: Sequence[IndexedVideo],
    request: ClassifyRequest,
    prompt_vectors: Mapping[str, Vectors],
    calibration: Mapping[str, Calibration],
    *,
    best_share: float = BEST_SHARE,
) -> list[VideoAnswer]:
    """The videos that match a class of the request, in the order given, each with the classes that it matches.

    ``prompt_vectors`` has every prompt of the request (at most 100 different ones), ``calibration`` every option of the
    videos. Thresholds are as the contract bounds them: at least 1, 1 and 0.01. So a class that is returned has a clip,
    and a score that is at most its ``max_score``.
    """
    prompts = sorted({prompt for one in request.classes for prompt in one.prompts})
    assert len(prompts) <= MAX_PROMPTS, "a standing has room for no more"
    rows = _lay_out(videos, {option for one in request.classes for option in _options(one, request)})
    if rows is None:
        return []
    standings = _standings(rows, request, prompts, _hundredths(rows, prompts, prompt_vectors, calibration))
    least = _thresholds(request.threshold)
    runs = _runs(rows, standings, least.clip_score, len(videos))
    durations = np.array([_microseconds(video.duration_seconds) for video in videos])
    shape = (len(request.classes), len(videos))
    ratios = np.minimum(_quotient(100 * _covered(runs, shape), durations), 100)
    scores = _class_scores(rows, standings // MAX_PROMPTS, durations, best_share)
    matches = (scores / 100 >= least.video_score) & (ratios / 100 >= least.duration_ratio)
    return _answers(videos, request, _Verdicts(scores, ratios, matches), _described(runs, shape, prompts))


class _Thresholds(NamedTuple):
    video_score: float
    clip_score: float
    duration_ratio: float


def _thresholds(asked: Threshold) -> _Thresholds:
    return _Thresholds(
        75 if asked.min_video_score is None else asked.min_video_score,
        30 if asked.min_clip_score is None else asked.min_clip_score,
        0.5 if asked.min_duration_ratio is None else asked.min_duration_ratio,
    )


def _options(one: JobClass, request: ClassifyRequest) -> tuple[str, ...]:
    return one.options or request.options


def _microseconds(seconds: Seconds | float) -> Integers:
    return np.rint(np.multiply(seconds, 1_000_000)).astype(np.int64)


def _quotient(dividend: Integers, divisor: Integers) -> Integers:
    """The nearest integer, halves up."""
    return (2 * dividend + divisor) // (2 * divisor)


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


def _hundredths(
    rows: _Rows,
    prompts: Sequence[str],
    prompt_vectors: Mapping[str, Vectors],
    calibration: Mapping[str, Calibration],
) -> Integers:
    """The score of each prompt (line) in each row (column), from one matrix product for the whole request."""
    sought = np.stack([prompt_vectors[prompt] for prompt in prompts]).astype(np.float64)
    clips = np.concatenate([track.vectors for track in rows.tracks], dtype=np.float64)
    curves = [calibration[track.option] for track in rows.tracks]
    half_steepness = np.array([curve.steepness / 2 for curve in curves])[rows.track]
    midpoint = np.array([curve.midpoint for curve in curves])[rows.track]
    above_midpoint = (sought @ clips.T)[:, rows.position] - midpoint
    # (1 + tanh(x / 2)) / 2 is 1 / (1 + exp(-x)), and cannot overflow.
    hundredths: Integers = np.rint(_BEST_SCORE / 2 * (1 + np.tanh(half_steepness * above_midpoint))).astype(np.int64)
    return hundredths


def _standings(rows: _Rows, request: ClassifyRequest, prompts: Sequence[str], hundredths: Integers) -> Integers:
    """The standing of each class (line) in each row (column): 0 in rows of an option that the class does not ask."""
    standings = _best_of_each_class(hundredths, request, prompts)
    exact = [(one.conversation_option or request.conversation_option) == "exact_match" for one in request.classes]
    spoken = rows.option == _CONVERSATION
    if any(exact):
        by_words = _best_of_each_class(_BEST_SCORE * _word_matches(rows, prompts), request, prompts)
        standings = np.where(np.outer(exact, spoken), by_words, standings)
    for line, one in enumerate(request.classes):
        asked = [OPTIONS.index(option) for option in _options(one, request)]
        standings[line, ~np.isin(rows.option, asked)] = 0
    return standings


def _best_of_each_class(hundredths: Integers, request: ClassifyRequest, prompts: Sequence[str]) -> Integers:
    places = np.arange(len(prompts))[::-1, np.newaxis]
    line_of = {prompt: line for line, prompt in enumerate(prompts)}
    lines = [line_of[prompt] for one in request.classes for prompt in one.prompts]
    firsts = np.cumsum([0] + [len(one.prompts) for one in request.classes[:-1]])
    best: Integers = np.maximum.reduceat((hundredths * MAX_PROMPTS + places)[lines], firsts, axis=0)
    return best


def _word_matches(rows: _Rows, prompts: Sequence[str]) -> Integers:
    """1 where the row is a spoken line that holds a part of the prompt, else 0: a line a prompt, a column a row."""
    found = [
        matching_lines(track, prompts)
        if track.option == "conversation"
        else np.zeros((len(prompts), len(track.starts)), dtype=np.bool_)
        for track in rows.tracks
    ]
    return np.concatenate(found, axis=1)[:, rows.position].astype(np.int64)


# -------------------------------------------------------------------------------------------- clips and their length


@dataclass(frozen=True, slots=True, eq=False)
class _Runs:
    """The clips of the answer, by owner (class x number of videos + video), then best first."""

    owner: Integers
    start: Integers
    end: Integers
    option: Integers
    standing: Integers


def _runs(rows: _Rows, standings: Integers, min_clip_score: float, videos: int) -> _Runs:
    line, row = np.nonzero(standings // MAX_PROMPTS / 100 >= min_clip_score)
    pause = _pauses(line * len(rows.tracks) + rows.track[row], rows.start[row], rows.end[row])
    heads = np.flatnonzero(pause > _LONGEST_PAUSE)
    owner = line[heads] * videos + rows.video[row[heads]]
    start, option = rows.start[row[heads]], rows.option[row[heads]]
    end = np.maximum.reduceat(rows.end[row], heads)
    standing = np.maximum.reduceat(standings[line, row], heads)
    order = np.lexsort((option, start, -(standing // MAX_PROMPTS), owner))
    return _Runs(owner[order], start[order], end[order], option[order], standing[order])


def _pauses(owner: Integers, start: Integers, end: Integers) -> Integers:
    """How long before each interval all earlier ones of its owner had ended: negative where one still lasts.

    Ordered by owner and start. The first of an owner has a pause over ``_LONGEST_PAUSE``: owners are laid end to end
    on one axis, further apart than that, so that one pass serves all of them.
    """
    span = end.max(initial=0) + _LONGEST_PAUSE + 1
    ended = np.maximum.accumulate(owner * span + end)
    pauses: Integers = owner * span + start - np.concatenate(([-span], ended[:-1]))
    return pauses


def _covered(runs: _Runs, shape: tuple[int, int]) -> Integers:
    """Microseconds of each video (column) that the clips of each class (line) cover, overlaps counted once."""
    order = np.lexsort((runs.start, runs.owner))
    owner, start, end = runs.owner[order], runs.start[order], runs.end[order]
    unseen = np.maximum(end - start + np.minimum(_pauses(owner, start, end), 0), 0)
    covered = np.zeros(shape[0] * shape[1], dtype=np.int64)
    np.add.at(covered, owner, unseen)
    return covered.reshape(shape)


# ------------------------------------------------------------------------------------------------------ class scores


def _class_scores(rows: _Rows, hundredths: Integers, durations: Integers, best_share: float) -> Integers:
    """Score of each class (line) for each video (column), in hundredths."""
    cell_video, lengths, envelope = _envelope(rows, hundredths)
    # Every line is sorted by video first, so that the videos' cells stand in the same columns throughout.
    order = np.argsort(cell_video * (_BEST_SCORE + 1) + _BEST_SCORE - envelope, axis=1)
    lengths, envelope = lengths[order], np.take_along_axis(envelope, order, axis=1)
    heads = np.flatnonzero(np.diff(cell_video, prepend=-1))
    earlier = np.cumsum(lengths, axis=1) - lengths
    earlier -= np.repeat(earlier[:, heads], np.diff(heads, append=len(cell_video)), axis=1)
    best = np.maximum(np.rint(best_share * durations).astype(np.int64), 1)
    counted = np.clip(best[cell_video] - earlier, 0, lengths)
    scores = np.zeros((len(hundredths), len(durations)), dtype=np.int64)
    sums = np.add.reduceat(counted * envelope, heads, axis=1)
    scores[:, cell_video[heads]] = _quotient(sums, best[cell_video[heads]])
    return scores


def _envelope(rows: _Rows, hundredths: Integers) -> tuple[Integers, Integers, Integers]:
    """Time cut at every start and end of a clip: the video and length of each cell, and each class's best score in it.

    Cells that no clip covers are left out. They are ordered by video.
    """
    span = rows.end.max() + 1
    moments = np.concatenate((rows.video * span + rows.start, rows.video * span + rows.end))
    moments, at = np.unique(moments, return_inverse=True)
    first, beyond = np.split(at, 2)
    sizes = beyond - first
    row = np.repeat(np.arange(len(sizes)), sizes)
    cell = np.arange(len(row)) + np.repeat(first - np.cumsum(sizes) + sizes, sizes)
    order = np.argsort(cell, kind="stable")
    row, cell = row[order], cell[order]
    heads = np.flatnonzero(np.diff(cell, prepend=-1))
    covered = cell[heads]
    envelope = np.maximum.reduceat(hundredths[:, row], heads, axis=1)
    return moments[covered] // span, moments[covered + 1] - moments[covered], envelope


# ----------------------------------------------------------------------------------------------------------- answers


class _Verdicts(NamedTuple):
    """Of each class (line) and video (column): score and duration ratio in hundredths, and whether it is returned."""

    scores: Integers
    ratios: Integers
    matches: NDArray[np.bool_]


class _Described(NamedTuple):
    """The clips of all answers as a client reads them, and where in them those of each owner begin."""

    fields: list[tuple[float, float, float, str, str]]
    begins: list[int]


def _described(runs: _Runs, shape: tuple[int, int], prompts: Sequence[str]) -> _Described:
    begins = np.searchsorted(runs.owner, np.arange(shape[0] * shape[1] + 1)).tolist()
    line = len(prompts) - 1 - runs.standing % MAX_PROMPTS
    return _Described(
        list(
            zip(
                (runs.start / 1_000_000).tolist(),
                (runs.end / 1_000_000).tolist(),
                (runs.standing // MAX_PROMPTS / 100).tolist(),
                map(OPTIONS.__getitem__, runs.option.tolist()),
                map(prompts.__getitem__, line.tolist()),
                strict=True,
            )
        ),
        begins,
    )


def _answers(
    videos: Sequence[IndexedVideo], request: ClassifyRequest, verdicts: _Verdicts, described: _Described
) -> list[VideoAnswer]:
    answers = []
    for video in np.flatnonzero(verdicts.matches.any(axis=0)).tolist():
        matching = np.flatnonzero(verdicts.matches[:, video])
        scores = (verdicts.scores[matching, video] / 100).tolist()
        ratios = (verdicts.ratios[matching, video] / 100).tolist()
        shares = normalized_scores(scores)
        classes = []
        for line, score, ratio, share in zip(matching.tolist(), scores, ratios, shares, strict=True):
            owner = line * len(videos) + video
            fields = described.fields[described.begins[owner] : described.begins[owner + 1]]
            clips = tuple(starmap(Clip, fields)) if request.include_clips else None
            details = _details(fields, share) if request.show_detailed_score else None
            classes.append(ClassScore(request.classes[line].name, score, ratio, clips, details))
        answers.append(VideoAnswer(videos[video].video_id, tuple(classes)))
    return answers


def _details(fields: Sequence[tuple[float, float, float, str, str]], share: float) -> DetailedScores:
    hundredths = [round(score * 100) for _, _, score, _, _ in fields]
    mean = (2 * sum(hundredths) + len(hundredths)) // (2 * len(hundredths))
    return DetailedScores(hundredths[0] / 100, mean / 100, share)
