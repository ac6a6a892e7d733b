"""Videos whose scores are chosen, and an embedder for them.

Each prompt has an axis of its own, so a clip's cosine with it is one component of the clip's vector, and the score that
a clip shall have gives that component by the inverse of the calibration.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.platform.videos import Calibration, IndexedVideo, Track, Vectors

SPACE = "axes-1"
PROMPTS = ("alpha", "beta", "gamma", "delta")
CURVE = Calibration(steepness=20, midpoint=0.25)
"""Scores up to 99 need cosines up to 0.48: four prompts and one more axis fit into a vector of length 1."""


def cosine_for(score: float) -> float:
    """The cosine that scores this much under ``CURVE``; none is far from 0 for 0 itself."""
    if score <= 0:
        return -0.45
    return CURVE.midpoint + math.log(score / (100 - score)) / CURVE.steepness


def vector(scores: Sequence[float]) -> list[float]:
    """A vector of length 1 that scores so with each prompt in turn, and 0 with the others."""
    axes = [cosine_for(score) for score in [*scores, *[0.0] * len(PROMPTS)][: len(PROMPTS)]]
    return [*axes, math.sqrt(max(0.0, 1 - math.fsum(axis * axis for axis in axes)))]


def track(option: str, *clips: tuple[float, float, Sequence[float]], texts: Sequence[str] = ()) -> Track:
    """A track of (start, end, score with each prompt)."""
    return Track(
        option,
        np.array([start for start, _, _ in clips], dtype=np.float64),
        np.array([end for _, end, _ in clips], dtype=np.float64),
        np.array([vector(scores) for _, _, scores in clips], dtype=np.float32),
        tuple(texts),
    )


def video(video_id: str, duration_seconds: float, *tracks: Track) -> IndexedVideo:
    return IndexedVideo(video_id, f"{video_id}.mp4", duration_seconds, tracks)


def prompt_vectors() -> Mapping[str, Vectors]:
    return dict(zip(PROMPTS, np.eye(len(PROMPTS), len(PROMPTS) + 1, dtype=np.float32), strict=True))


@dataclass
class AxisEmbedder:
    """Puts each of ``PROMPTS`` on its axis, and any other text nowhere. Keeps what it was asked."""

    space: str = SPACE
    asked: list[str] = field(default_factory=list)

    @property
    def cache_name(self) -> str:
        return self.space

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.asked += texts
        nowhere = np.zeros(len(PROMPTS) + 1, dtype=np.float32)
        return np.stack([prompt_vectors().get(text, nowhere) for text in texts])
