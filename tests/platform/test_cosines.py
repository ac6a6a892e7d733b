from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from pipeline.models import MAX_PROMPTS
from pipeline.platform.cosines import BLOCK_CLIPS, Cosines, _products, cosine_blocks, is_steady
from pipeline.platform.videos import Vectors


def vectors(count: int, dimensions: int = 256) -> Vectors:
    drawn = np.random.default_rng((count, dimensions)).standard_normal((count, dimensions), dtype=np.float32)
    lengths: Vectors = np.linalg.norm(drawn, axis=1, keepdims=True)
    return drawn / lengths


def cosines(prompts: Vectors, tracks: Sequence[Vectors]) -> Cosines:
    return np.concatenate([block.copy() for block in cosine_blocks(prompts, tracks)], axis=1)


@pytest.mark.parametrize("number", [np.float32, np.float64])
@pytest.mark.parametrize("lengths", [[1], [3, 0, 4], [BLOCK_CLIPS], [BLOCK_CLIPS - 1, 1, 1], [2 * BLOCK_CLIPS + 5, 9]])
def test_every_clip_has_its_column_in_the_order_of_the_tracks(lengths: list[int], number: type[Any]) -> None:
    prompts, clips = vectors(7), vectors(sum(lengths))
    tracks = np.split(clips, np.cumsum(lengths)[:-1])
    blocks = [block.copy() for block in _products(prompts, tracks, number)]
    assert [block.shape[1] for block in blocks[:-1]] == [BLOCK_CLIPS] * (len(blocks) - 1)
    exact = prompts.astype(np.float64) @ clips.T.astype(np.float64)
    tolerance = 1e-6 if number is np.float32 else 1e-14
    np.testing.assert_allclose(np.concatenate(blocks, axis=1), exact, rtol=0, atol=tolerance)


@settings(max_examples=25)
@given(st.sampled_from([5, 100, 256]), st.data())
def test_a_cosine_comes_from_its_two_vectors_alone(dimensions: int, data: st.DataObject) -> None:
    """To the bit in float32, and where the machine's BLAS cannot have that, far below a hundredth of a score."""
    prompts, clips = vectors(MAX_PROMPTS, dimensions), vectors(BLOCK_CLIPS + 88, dimensions)
    whole = cosines(prompts, [clips])
    dice = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    lines = dice.permutation(MAX_PROMPTS)[: data.draw(st.integers(1, MAX_PROMPTS))]
    columns = dice.permutation(len(clips))[: data.draw(st.integers(1, len(clips)))]
    cut = data.draw(st.integers(0, len(columns)))
    part = cosines(prompts[lines], [clips[columns[:cut]], clips[columns[cut:]]])
    tolerance = 0 if is_steady(dimensions) else 1e-14
    np.testing.assert_allclose(part, whole[np.ix_(lines, columns)], rtol=0, atol=tolerance)


def test_a_product_leaves_blas_on_one_thread() -> None:
    cosines(vectors(1), [vectors(1)])
    assert {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"} <= {1}


def test_what_says_nothing_is_further_from_everything_than_any_cosine() -> None:
    """Also in the midst of others; and a clip that is at right angles to all prompts does say something."""
    prompts = np.array([[1, 0, 0], [0, 0, 0], [0, 1, 0]], dtype=np.float32)
    clips = np.array([[0, 0, 1], [0, 0, 0], [0, 1, 0]], dtype=np.float32)
    nothing = -np.inf
    assert cosines(prompts, [clips]).tolist() == [[0, nothing, 0], [nothing] * 3, [0, nothing, 1]]
