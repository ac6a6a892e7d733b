"""Indexes for random requests, in plain values, and the embedder of their prompts.

Every vector is eight integers by 8 whose squares sum up to 64. So each cosine is a whole number of 64ths, exact in
float32 too, in whatever order a product is summed; and the curves are chosen so that no such cosine scores near the
edge between two hundredths. A scorer that does as is written has no excuse for another last digit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from types import MappingProxyType

import numpy as np

from pipeline.models import MAX_SECONDS
from pipeline.platform.videos import Calibration, IndexedVideo, Track, Vectors

INDEX_ID = "64428d88456b2dab381e7000"
SPACE = "eighths-1"
OPTIONS = ("visual", "conversation", "text_in_video", "logo")
CURVES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"visual": (6.0, 0.12), "conversation": (9.0, 0.22), "text_in_video": (4.5, 0.34), "logo": (12.0, 0.13)}
)
"""Steepness and midpoint of each option."""
PHRASES = (
    "dance", "dance group", "Dance GROUP", "cook", "cooking tutorial", "a goal", "goal", "straße", "STRASSE",
    "naïve café", "ﬁlm night", "film night", "ダンス", "group", "?!", "night dance",
)  # fmt: skip
"""What is said, shown and asked for."""

_SQUARES = (
    (8,), (4, 4, 4, 4), (7, 3, 2, 1, 1), (6, 4, 2, 2, 2), (5, 5, 3, 2, 1), (6, 5, 1, 1, 1), (4, 4, 4, 3, 2, 1, 1, 1),
)  # fmt: skip
_DIMENSIONS = 8
# Clips are joined over half a second, words of a phrase over a whole one.
_PAUSES = (0.0, 0.0, 0.0, 0.25, 0.5, 0.5, 0.500_001, 1.2)
_PAUSES_IN_SPEECH = (0.0, 0.5, 0.500_001, 0.999_999, 1.0, 1.000_01, 1.05)


@dataclass(frozen=True, slots=True)
class PlainClip:
    """``eighths`` is the vector, eight times; zeros where the clip says nothing."""

    start: float
    end: float
    eighths: tuple[int, ...]
    text: str


@dataclass(frozen=True, slots=True)
class PlainVideo:
    """A video with its clips of each option."""

    video_id: str
    seconds: float
    tracks: Mapping[str, tuple[PlainClip, ...]]


def eighths_of(text: str) -> tuple[int, ...]:
    """The vector of a text, eight times; of one without letters, zeros."""
    if not any(letter.isalnum() for letter in text):
        return (0,) * _DIMENSIONS
    return _drawn(Random(f"vector of {text}"))


def _vectors(eighths: Sequence[tuple[int, ...]]) -> Vectors:
    return np.array(eighths, dtype=np.float32) / np.float32(8)


def _drawn(draw: Random) -> tuple[int, ...]:
    numbers = [*draw.choice(_SQUARES)]
    numbers += [0] * (_DIMENSIONS - len(numbers))
    draw.shuffle(numbers)
    return tuple(number * draw.choice([-1, 1, 1]) for number in numbers)


class EighthsEmbedder:
    """Embeds any text, and never asks anybody."""

    space = SPACE
    cache_name = SPACE

    def embed(self, texts: Sequence[str]) -> Vectors:
        return _vectors([eighths_of(text) for text in texts])


def library(seed: int) -> list[PlainVideo]:
    """Twenty videos: short and long, full and empty, with clips that overlap, touch, pause, or lie in each other."""
    draw = Random(f"library {seed}")
    return [
        *(_video(draw, f"video{number:02}") for number in range(16)),
        PlainVideo("empty", 12.5, {}),
        PlainVideo("ten-hours", 36_000.0, {"visual": _clips(draw, 36_000.0, "visual")}),
        PlainVideo("too_long", 36_000.1, {"visual": _clips(draw, 36_000.1, "visual")}),
        PlainVideo("moment", 0.000_01, {"conversation": (PlainClip(0.0, 0.000_01, eighths_of("goal"), "goal"),)}),
    ]


def spoken_phrases(videos: Sequence[PlainVideo]) -> list[str]:
    """Words that follow one another in what is said, whatever pause or line is between them."""
    found = set()
    for video in videos:
        lines = sorted(video.tracks.get("conversation", ()), key=lambda clip: clip.start)
        words = " ".join(line.text for line in lines).split()
        found |= {" ".join(words[at : at + count]) for at in range(len(words)) for count in (1, 3, 4, 5)}
    return sorted(found)


def short_library(seed: int) -> list[PlainVideo]:
    """Those of its videos that may all be asked about at once."""
    return [video for video in library(seed) if video.seconds <= MAX_SECONDS / 20]


def _video(draw: Random, video_id: str) -> PlainVideo:
    seconds = draw.choice([10.0, 59.94, draw.randrange(2, 40_000) / 16, draw.uniform(1, 9000)])
    options = {"conversation", *draw.sample(OPTIONS, draw.choice([1, 2, 3]))}
    return PlainVideo(video_id, seconds, {option: _clips(draw, seconds, option) for option in sorted(options)})


def _clips(draw: Random, seconds: float, option: str) -> tuple[PlainClip, ...]:
    pauses = _PAUSES_IN_SPEECH if option == "conversation" else _PAUSES
    clips = []
    at = 0.0
    for _ in range(draw.choice([1, 3, 8, 12])):
        pause = draw.choice([*pauses, -1.0, seconds / 5])
        start = max(0.0, at + pause)
        end = start + draw.choice([0.000_000_1, 0.04, 1.5, 2.0, seconds / 8, seconds / 3])
        if end > seconds:
            start, end = 0.0, seconds / draw.choice([1, 2, 3])
        text = " ".join(draw.choices(PHRASES, k=draw.choice([1, 2, 3])))
        clips.append(PlainClip(start, end, draw.choice([eighths_of(text), _drawn(draw)]), text))
        at = end
    draw.shuffle(clips)
    return tuple(clips)


def indexed(video: PlainVideo) -> IndexedVideo:
    """The video as an index takes it."""
    tracks = []
    for option, clips in video.tracks.items():
        vectors = _vectors([clip.eighths for clip in clips])
        tracks.append(Track.of(option, [(clip.start, clip.end, clip.text) for clip in clips], vectors))
    return IndexedVideo(video.video_id, f"{video.video_id}.mp4", video.seconds, tuple(tracks))


def calibrations() -> dict[str, Calibration]:
    """``CURVES`` as an index takes them."""
    return {option: Calibration(steepness, midpoint) for option, (steepness, midpoint) in CURVES.items()}
