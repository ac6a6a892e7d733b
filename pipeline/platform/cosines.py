"""Cosines of prompts and clips: float32 matrix products on one BLAS thread, each number its two vectors' own.

A BLAS sums in an order of its own. It changes with the shape of a product, and with some kernels also with the place of
a vector in it (measured: OpenBLAS 0.3.31 for AVX2 sums the first and last eight columns in another order, 1e-7 apart).
A score must not depend on which videos were posted together, so

- every product has the same shape, filled up with whatever comes to hand: a row never touches another one;
- whether a vector's place matters is tried once a process. Where it does, products are in float64, at half the speed,
  whose differences (1e-16) vanish when a score is rounded to hundredths.

Blocks also keep what is in work within a processor's cache, and a whole index within bounded memory.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from pipeline.models import MAX_PROMPTS
from pipeline.platform.videos import Vectors

Cosines: TypeAlias = NDArray[np.floating[Any]]

BLOCK_CLIPS = 512
"""Clips in one product: few enough for the cache, enough for nine tenths of the speed of a large product."""

_TRIALS = 3


def cosine_blocks(prompts: Vectors, tracks: Sequence[Vectors]) -> Iterator[Cosines]:
    """The cosine of each prompt (line, at most ``MAX_PROMPTS``) and each clip (column) of the tracks in turn.

    Minus infinity where either of them is all zeros: what says nothing is further from everything than any cosine.
    Blocks of ``BLOCK_CLIPS`` clips, the last one shorter; each is valid until the next one is taken.
    """
    return _products(prompts, tracks, np.float32 if is_steady(prompts.shape[1]) else np.float64)


def _products(prompts: Vectors, tracks: Sequence[Vectors], number: type[np.floating[Any]]) -> Iterator[Cosines]:
    _one_blas_thread()
    sought = np.zeros((MAX_PROMPTS, prompts.shape[1]), dtype=number)
    sought[: len(prompts)] = prompts
    silent_prompts = ~prompts.any(axis=1)
    block = np.zeros((BLOCK_CLIPS, prompts.shape[1]), dtype=number)
    cosines = np.empty((MAX_PROMPTS, BLOCK_CLIPS), dtype=number)
    for filled in _fillings(block, tracks):
        np.matmul(sought, block.T, out=cosines)
        found = cosines[: len(prompts), :filled]
        # Only where all cosines are 0 the clip itself is looked at, for that takes as long as the product.
        unlike_all = np.flatnonzero(~found.any(axis=0))
        found[:, unlike_all[~block[unlike_all].any(axis=1)]] = -np.inf
        found[silent_prompts] = -np.inf
        yield found


def _fillings(block: Cosines, tracks: Sequence[Vectors]) -> Iterator[int]:
    """Writes the tracks into the block, one behind the other, and says each time how much of it is theirs."""
    filled = 0
    for track in tracks:
        written = 0
        while written < len(track):
            taken = min(len(block) - filled, len(track) - written)
            block[filled : filled + taken] = track[written : written + taken]
            filled, written = filled + taken, written + taken
            if filled == len(block):
                yield filled
                filled = 0
    if filled:
        yield filled


@functools.cache
def is_steady(dimensions: int) -> bool:
    """Whether float32 products of this process give a pair of vectors the same cosine wherever they stand."""
    _one_blas_thread()
    dice = np.random.default_rng(dimensions)
    prompts = dice.standard_normal((MAX_PROMPTS, dimensions), dtype=np.float32)
    clips = dice.standard_normal((BLOCK_CLIPS, dimensions), dtype=np.float32)
    cosines = prompts @ clips.T
    for _ in range(_TRIALS):
        lines, columns = dice.permutation(MAX_PROMPTS), dice.permutation(BLOCK_CLIPS)
        if not np.array_equal(prompts[lines] @ clips[columns].T, cosines[np.ix_(lines, columns)]):
            return False
    return True


@functools.cache
def _one_blas_thread() -> None:
    """For the rest of the process: two requests at once are what uses two cores.

    The environment variables that say the same are read when numpy is imported, which is too late for us to set them.
    """
    threadpool_limits(limits=1, user_api="blas")
