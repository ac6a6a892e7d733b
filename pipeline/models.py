"""The values that flow from an id list to the rows, and the one function for ``normalized_score``.

Everything here is frozen and knows no I/O. What the platform answers is held in msgspec Structs, because every score
and clip of a night is decoded into one, and so is a video, of which there may be a million; everything else is a plain
dataclass. A number keeps the type the platform sent (an int stays an int), so that a row repeats it exactly. The
Structs are told to the garbage collector as little as numbers are (``gc=False``): what JSON decodes to is a tree, and
no tree holds itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

# An integer beyond what a row can carry (orjson writes 64 bits, every JSON reader keeps 53) is not a score or a second.
_LARGEST_INTEGER = 2**53
Number = Annotated[int, msgspec.Meta(ge=-_LARGEST_INTEGER, le=_LARGEST_INTEGER)] | float

MAX_PROMPTS = 100
"""Prompts in one request, all classes together, and so also in one class (the vendor's limit)."""
MAX_SECONDS = 36_000
"""Total duration of the videos in one request, in seconds (the vendor's limit: ten hours)."""
MAX_PAGE_LIMIT = 50
"""Videos on one page of results (the vendor's limit)."""

ConversationOption = Literal["semantic", "exact_match"]


class Video(msgspec.Struct, frozen=True, gc=False):
    """A video of the input: its opaque id, and its duration in seconds where one is known."""

    video_id: str
    duration_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class JobClass:
    """A class to look for: its name and its 1 to 100 prompts; None takes the job's own options."""

    name: str
    prompts: tuple[str, ...]
    options: tuple[str, ...] | None = None
    conversation_option: ConversationOption | None = None


@dataclass(frozen=True, slots=True)
class Threshold:
    """What an answer must reach to be returned; None leaves the platform's default."""

    min_video_score: float | None = None
    min_clip_score: float | None = None
    min_duration_ratio: float | None = None


PLATFORM_THRESHOLD = Threshold(75, 30, 0.5)
"""The vendor's defaults, and so the local platform's."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is asked of every video. Class names are unique."""

    classes: tuple[JobClass, ...]
    options: tuple[str, ...]
    conversation_option: ConversationOption = "semantic"
    include_clips: bool = False
    show_detailed_score: bool = False
    threshold: Threshold = Threshold()


class Clip(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A stretch of a video that matches a class: ``start`` and ``end`` in seconds, ``score`` 0 to 100."""

    start: Number
    end: Number
    score: Number
    option: str
    prompt: str
    thumbnail_url: str | None = None


class DetailedScores(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Maximum and mean score of the returned clips, and the class's share of the video's scores; each 0 to 100."""

    max_score: Number | None = None
    avg_score: Number | None = None
    normalized_score: Number | None = None


class ClassScore(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One class's answer for one video: ``score`` 0 to 100, ``duration_ratio`` 0 to 1. None where it was not sent."""

    name: str
    score: Number
    duration_ratio: Number
    clips: tuple[Clip, ...] | None = None
    detailed_scores: DetailedScores | None = None


class VideoAnswer(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What one page says about one video: the classes that it matched."""

    video_id: str
    classes: tuple[ClassScore, ...]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An entry of a page that has not the shape of an answer: its video, if that can be read, and what was seen."""

    video_id: str | None
    seen: str


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a walk.

    ``total_results`` is the number of videos in the whole walk, None where the platform did not say. ``next_token`` is
    None on the last page. ``expires_at`` is in seconds since the epoch.
    """

    videos: tuple[VideoAnswer, ...]
    unreadable: tuple[Unreadable, ...] = ()
    total_results: int | None = None
    next_token: str | None = None
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """One video's merged answer over all prompt groups. No classes: the platform found no match."""

    video_id: str
    classes: tuple[ClassScore, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a video has no result: a code of the platform's or of ours, and whether asking again could help."""

    video_id: str
    code: str
    message: str
    http_status: int | None = None
    retryable: bool = True


def normalized_scores(scores: Sequence[float]) -> list[float]:
    """Each score's share of their sum, in per cent; zeros where the sum is zero.

    The platform's reference calls this a softmax, but its published answers are plain shares. This order of operations
    (per cent to fraction, sum in the order of the classes, back to per cent) gives its numbers to the last bit.
    """
    total = 0.0
    for score in scores:
        total += score * 0.01
    if total == 0:
        return [0.0 for _ in scores]
    return [score * 0.01 / total * 100 for score in scores]
