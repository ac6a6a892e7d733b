"""What an index holds of a video: tracks of clips, one vector a clip.

Columns, not one object a clip: a request reads tens of thousands of clips, and each column goes into numpy as it is. A
video is checked whole before it enters an index, so that whatever reads it afterwards needs no checks of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.wire import Option
from pipeline.wording import counted

Vectors: TypeAlias = NDArray[np.float32]
Seconds: TypeAlias = NDArray[np.float64]

OPTIONS: tuple[str, ...] = get_args(Option)
"""The options a track may be of."""
SHORTEST_SECONDS, LONGEST_SECONDS = 1e-6, 1_000_000
"""A duration's bounds: scoring counts microseconds in 64 bits, and divides by them. Eleven days are far over any."""

# Vectors that were normalised in half precision, or stored in it, are this far from 1 at the most.
_LENGTH_TOLERANCE = 1e-2
_VIDEO_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """The clips of a video under one option: when each starts and ends, and its vector (a row of ``vectors``).

    Vectors are L2-normalised; all zeros stands for a clip that says nothing. ``texts`` has what is said or shown in
    each clip, and is empty where that is not known.
    """

    option: str
    starts: Seconds
    ends: Seconds
    vectors: Vectors
    texts: tuple[str, ...] = ()

    @classmethod
    def of(cls, option: str, clips: Sequence[tuple[float, float, str]], vectors: Vectors) -> Self:
        """A track of (start, end, text) clips, in seconds, and their vectors in the same order."""
        starts = np.array([start for start, _, _ in clips], dtype=np.float64)
        ends = np.array([end for _, end, _ in clips], dtype=np.float64)
        return cls(option, starts, ends, vectors, tuple(text for _, _, text in clips))


@dataclass(frozen=True, slots=True)
class IndexedVideo:
    """A video of an index, with at most one track an option.

    ``revision`` is what its source calls this state of it, where an import may ask again; a store keeps it to itself.
    """

    video_id: str
    filename: str
    duration_seconds: float
    tracks: tuple[Track, ...]
    revision: str = ""


@dataclass(frozen=True, slots=True)
class Calibration:
    """How a cosine becomes a score: ``100 / (1 + exp(-steepness * (cosine - midpoint)))``; 50 at the midpoint.

    The defaults were fitted to the default embedder. ``steepness`` is above zero, so that a higher cosine never scores
    less.
    """

    steepness: float = 20.0
    midpoint: float = 0.129


def normalised(vectors: NDArray[np.floating]) -> Vectors:
    """The rows in length 1; a row of zeros stays one. Raises ``ValueError`` for what is not a finite number."""
    exact = vectors.astype(np.float64)
    if not np.isfinite(exact).all():
        raise ValueError("a vector has something that is not a finite number")
    # The largest component first, so that no square overflows or vanishes.
    largest = np.abs(exact).max(axis=1, initial=0.0, keepdims=True)
    np.divide(exact, largest, out=exact, where=largest > 0)
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    np.divide(exact, lengths, out=exact, where=lengths > 0)
    return exact.astype(np.float32)


def check_video(video: IndexedVideo) -> None:
    """Raise ``UsageError`` for a video that an index cannot hold, saying which and why."""
    problem = _problem_of(video) or next(filter(None, (_track_problem(video, track) for track in video.tracks)), None)
    if problem:
        raise UsageError(f"video {video.video_id[:128]!r} cannot be indexed: {problem}")


def _problem_of(video: IndexedVideo) -> str | None:
    if not _VIDEO_ID.fullmatch(video.video_id):
        return "an id has 1 to 128 letters, digits, '_' and '-'"
    if not SHORTEST_SECONDS <= video.duration_seconds <= LONGEST_SECONDS:
        return f"a duration of {video.duration_seconds} s is not from 0.000001 to {LONGEST_SECONDS}"
    options = [track.option for track in video.tracks]
    if len(set(options)) < len(options):
        return "two of its tracks have the same option"
    return None


def _track_problem(video: IndexedVideo, track: Track) -> str | None:
    if track.option not in OPTIONS:
        return f"option {track.option!r} is not one of {', '.join(OPTIONS)}"
    return _shape_problem(track) or _content_problem(video, track)


def _shape_problem(track: Track) -> str | None:
    clips = len(track.starts)
    if clips == 0:
        return f"its {track.option} track has no clips; leave the track out"
    if len(track.ends) != clips or track.vectors.ndim != 2 or len(track.vectors) != clips:
        return f"its {track.option} track needs one end and one vector for each of its {clips} starts"
    if track.texts and len(track.texts) != clips:
        return f"its {track.option} track has {counted(len(track.texts), 'text')} for {counted(clips, 'clip')}"
    return None


def _content_problem(video: IndexedVideo, track: Track) -> str | None:
    # Both conditions are written so that a NaN fails them.
    if not np.all((track.starts >= 0) & (track.starts < track.ends) & (track.ends <= video.duration_seconds)):
        return f"a clip of its {track.option} track has no length, or is not within 0 and {video.duration_seconds} s"
    # In float64, where no float32 overflows.
    lengths = np.linalg.norm(track.vectors.astype(np.float64), axis=1)
    if not np.all((lengths == 0) | (abs(lengths - 1) < _LENGTH_TOLERANCE)):
        return f"a vector of its {track.option} track is not L2-normalised"
    return None
