"""Indexes of clips that are near one of a hundred prompts, and an embedder for these prompts.

As a program it serves such an index, for a prompt's vector comes from no model: ``made_up_index.py FILE`` prints the
base URL, and ends by itself after ten minutes, should nobody end it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import anyio
import numpy as np
from numpy.typing import NDArray

from pipeline.platform.server import Settings, serving
from pipeline.platform.store import Store
from pipeline.platform.videos import IndexedVideo, Track, Vectors

SPACE = "made-up-1"
INDEX_ID = "made-up"
PROMPTS = tuple(f"prompt {number}" for number in range(100))
CLIP_SECONDS = 6.0


def prompt_vectors(dimensions: int) -> Vectors:
    return _of_length_1(np.random.default_rng(dimensions).standard_normal((len(PROMPTS), dimensions)))


def _of_length_1(vectors: NDArray[np.float64]) -> Vectors:
    lengths: NDArray[np.float64] = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, dtype=np.float64).astype(np.float32)


def videos(count: int, clips: int, dimensions: int) -> Iterator[IndexedVideo]:
    """Each clip is mixed of one prompt, up to a half, and chance."""
    dice = np.random.default_rng(1)
    prompts = prompt_vectors(dimensions)
    starts = np.arange(clips, dtype=np.float64) * CLIP_SECONDS
    for number in range(count):
        share = dice.uniform(0, 0.5, size=(clips, 1))
        chance = _of_length_1(dice.standard_normal((clips, dimensions)))
        mixed = share * prompts[dice.integers(0, len(PROMPTS), clips)] + np.sqrt(1 - share**2) * chance
        track = Track("visual", starts, np.add(starts, CLIP_SECONDS), _of_length_1(mixed))
        yield IndexedVideo(f"video{number:06}", f"{number}.mp4", clips * CLIP_SECONDS, (track,))


def write_index(path: Path, space: str, made: Iterator[IndexedVideo]) -> None:
    with Store.create(path, INDEX_ID, "made up") as store:
        store.add_videos(made, space)


class MadeUpEmbedder:
    space = SPACE
    cache_name = SPACE

    def __init__(self, dimensions: int) -> None:
        self._vectors = prompt_vectors(dimensions)

    def embed(self, texts: Sequence[str]) -> Vectors:
        return self._vectors[[PROMPTS.index(text) for text in texts]]


async def serve(path: Path, dimensions: int) -> None:
    with Store.open(path) as store:
        async with serving(store, Settings(), embedder=MadeUpEmbedder(dimensions)) as url:
            sys.stdout.write(f"{url}\n")
            sys.stdout.flush()
            await anyio.sleep(600)


if __name__ == "__main__":
    anyio.run(serve, Path(sys.argv[1]), int(sys.argv[2]))
