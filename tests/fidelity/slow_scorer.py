"""What a request must be answered with, once more: in plain Python, slowly, from docs/scoring.md.

It shares nothing with the platform but what that page says: no code, no numpy, no order of work. One video, one class
and one moment at a time, with exact fractions wherever something is summed or divided.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

from tests.fidelity.library import CURVES, PlainClip, PlainVideo, eighths_of

_DEFAULTS = {"min_video_score": 75, "min_clip_score": 30, "min_duration_ratio": 0.5}
_MICROSECONDS = 1_000_000


def answers(videos: Sequence[PlainVideo], asked: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The classes of each video that matches one, for a body that keeps the contract."""
    found = {video.video_id: _classes(video, asked) for video in videos}
    return {video_id: classes for video_id, classes in found.items() if classes}


def _classes(video: PlainVideo, asked: Mapping[str, Any]) -> list[dict[str, Any]]:
    least = {**_DEFAULTS, **{key: value for key, value in (asked.get("threshold") or {}).items() if value is not None}}
    matching = []
    for one in asked["classes"]:
        reached = _reached(video, one, asked)
        clips = _returned_clips(reached, least["min_clip_score"])
        ratio = _duration_ratio(clips, video)
        score = _class_score(reached, video)
        if score / 100 >= least["min_video_score"] and ratio / 100 >= least["min_duration_ratio"]:
            matching.append(_Match(one["name"], score, ratio, clips))
    total = 0.0
    for one in matching:  # not sum(), which compensates for lost digits from Python 3.12 on
        total += one.score / 100 * 0.01
    return [_as_told(one, one.score / 100 * 0.01 / total * 100, asked) for one in matching]


class _Match(NamedTuple):
    """A class that is returned; score and ratio in hundredths."""

    name: str
    score: int
    ratio: int
    clips: list[_Stretch]


def _as_told(match: _Match, share: float, asked: Mapping[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"name": match.name, "score": match.score / 100, "duration_ratio": match.ratio / 100}
    if asked.get("include_clips"):
        told["clips"] = [clip.told() for clip in sorted(match.clips, key=lambda clip: clip.order)]
    if asked.get("show_detailed_score"):
        scores = [clip.hundredths for clip in match.clips]
        mean = _nearest(Fraction(sum(scores), len(scores)))
        told["detailed_scores"] = {
            "max_score": max(scores) / 100,
            "avg_score": mean / 100,
            "normalized_score": share,
        }
    return told


class _Stretch:
    """A part of a video under one option, in microseconds, and the best that it reaches, in hundredths."""

    def __init__(self, option: str, start: int, end: int, hundredths: int, prompt: str) -> None:
        self.option, self.start, self.end, self.hundredths, self.prompt = option, start, end, hundredths, prompt

    @property
    def order(self) -> tuple[int, int, int]:
        return -self.hundredths, self.start, list(CURVES).index(self.option)

    def told(self) -> dict[str, Any]:
        seconds = {"start": self.start / _MICROSECONDS, "end": self.end / _MICROSECONDS}
        return {**seconds, "score": self.hundredths / 100, "option": self.option, "prompt": self.prompt}


# ------------------------------------------------------------------------------------------------------ single clips


def _reached(video: PlainVideo, one: Mapping[str, Any], asked: Mapping[str, Any]) -> list[_Stretch]:
    """Every clip that the class looks at, with the best of its prompts there."""
    conversation_option = one.get("conversation_option") or asked.get("conversation_option") or "semantic"
    found = []
    for option in set(one.get("options") or asked["options"]) & set(video.tracks):
        by_words = option == "conversation" and conversation_option == "exact_match"
        clips = video.tracks[option]
        held = {prompt: _lines_with(prompt, clips) if by_words else set() for prompt in one["prompts"]}
        for at, clip in enumerate(clips):
            scores = {
                prompt: (10_000 if at in held[prompt] else 0) if by_words else _clip_score(clip, prompt, option)
                for prompt in one["prompts"]
            }
            best = min(scores, key=lambda prompt: (-scores[prompt], prompt))
            start = round(clip.start * _MICROSECONDS)
            end = max(round(clip.end * _MICROSECONDS), start + 1)
            found.append(_Stretch(option, start, end, scores[best], best))
    return found


def _clip_score(clip: PlainClip, prompt: str, option: str) -> int:
    steepness, midpoint = CURVES[option]
    if not any(clip.eighths) or not any(eighths_of(prompt)):
        return 0
    cosine = Decimal(sum(a * b for a, b in zip(clip.eighths, eighths_of(prompt), strict=True))) / 64
    with localcontext(prec=40):
        hundredths = 10_000 / (1 + (-Decimal(steepness) * (cosine - Decimal(midpoint))).exp())
        assert abs(hundredths % 1 - Decimal("0.5")) > Decimal("0.004"), "too near to an edge: choose other curves"
    return round(hundredths)


def _lines_with(prompt: str, clips: Sequence[PlainClip]) -> set[int]:
    """The places of the spoken lines that the prompt's words run through, in order and without a longer pause."""
    sought = _words(prompt)
    spoken: list[tuple[str, int]] = []
    found: set[int] = set()
    ends = -math.inf
    in_time = sorted(range(len(clips)), key=lambda at: clips[at].start)
    for line, at in enumerate(in_time):
        if clips[at].start - ends > 1.000_001:
            found |= _runs_of(sought, spoken)
            spoken, ends = [], -math.inf
        spoken += [(word, line) for word in _words(clips[at].text)]
        ends = max(ends, clips[at].end)
    return {in_time[line] for line in found | _runs_of(sought, spoken)}


def _runs_of(sought: Sequence[str], spoken: Sequence[tuple[str, int]]) -> set[int]:
    found: set[int] = set()
    for first in range(len(spoken) - len(sought) + 1) if sought else ():
        part = spoken[first : first + len(sought)]
        if [word for word, _ in part] == list(sought):
            found |= set(range(part[0][1], part[-1][1] + 1))
    return found


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())


# ------------------------------------------------------------------------------------------------------ whole videos


def _returned_clips(reached: Sequence[_Stretch], min_clip_score: float) -> list[_Stretch]:
    """Neighbours of one option that reach the threshold, as one clip each, with score and prompt of the peak."""
    clips: list[_Stretch] = []
    for option in CURVES:
        open_clip: _Stretch | None = None
        for one in sorted(reached, key=lambda one: one.start):
            if one.option != option or one.hundredths / 100 < min_clip_score:
                continue
            if open_clip is None or one.start - open_clip.end > _MICROSECONDS // 2:
                open_clip = _Stretch(option, one.start, one.end, one.hundredths, one.prompt)
                clips.append(open_clip)
                continue
            open_clip.end = max(open_clip.end, one.end)
            if (-one.hundredths, one.prompt) < (-open_clip.hundredths, open_clip.prompt):
                open_clip.hundredths, open_clip.prompt = one.hundredths, one.prompt
    return clips


def _duration_ratio(clips: Sequence[_Stretch], video: PlainVideo) -> int:
    covered = sum(end - start for start, end in _moments(clips) if any(_covers(clip, start) for clip in clips))
    return min(_nearest(Fraction(100 * covered, round(video.seconds * _MICROSECONDS))), 100)


def _class_score(reached: Sequence[_Stretch], video: PlainVideo) -> int:
    """Mean over the best half of the time; where no clip is, nothing is reached."""
    half = max(round(Fraction(round(video.seconds * _MICROSECONDS), 2)), 1)
    heights = []
    for start, end in _moments(reached):
        heights.append((max((one.hundredths for one in reached if _covers(one, start)), default=0), end - start))
    left, total = half, 0
    for height, length in sorted(heights, reverse=True):
        total += height * min(length, left)
        left -= min(length, left)
    return _nearest(Fraction(total, half))


def _moments(stretches: Sequence[_Stretch]) -> Iterator[tuple[int, int]]:
    edges = sorted({edge for one in stretches for edge in (one.start, one.end)})
    return pairwise(edges)


def _covers(one: _Stretch, moment: int) -> bool:
    return one.start <= moment < one.end


def _nearest(value: Fraction) -> int:
    """The nearest whole number, halves up."""
    return math.floor(value + Fraction(1, 2))
