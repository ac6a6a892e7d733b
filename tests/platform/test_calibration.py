"""From cosines to curves: the formulas, the fit beside an independent one, and what cannot be fitted."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.platform.calibration import (
    CannotCalibrate,
    label_free,
    platt,
    uncalibrated_options,
    uncalibrated_warning,
)
from pipeline.platform.embed import DEFAULT_SPACE
from pipeline.platform.videos import Calibration

# ----------------------------------------------------------------------------------------------------------- label-free


def test_label_free_follows_its_formulas() -> None:
    """Median 0.1, median absolute deviation 0.02."""
    curve = label_free(np.array([0.06, 0.08, 0.1, 0.12, 0.9]))
    spread = 1.4826 * 0.02
    assert curve.steepness == pytest.approx(1.34 / spread, rel=1e-5)
    assert curve.midpoint == pytest.approx(0.1 + 1.88 * spread, rel=1e-5)


def test_a_few_that_match_do_not_move_it() -> None:
    dice = np.random.default_rng(1)
    others = dice.normal(0.1, 0.05, 10_000)
    alone, together = label_free(others), label_free(np.concatenate([others, np.full(200, 0.9)]))
    assert together.steepness == pytest.approx(alone.steepness, rel=0.03)
    assert together.midpoint == pytest.approx(alone.midpoint, abs=0.005)
    assert alone.steepness == pytest.approx(1.34 / 0.05, rel=0.03)


@given(st.floats(0.05, 0.5), st.floats(-0.4, 0.4))
def test_it_does_not_depend_on_where_and_how_wide_the_cosines_lie(width: float, place: float) -> None:
    """The same clip has the same score when all cosines are stretched and moved."""
    cosines = np.linspace(-1, 1, 101)
    plain, moved = label_free(cosines), label_free(cosines * width + place)
    assert moved.steepness * width == pytest.approx(plain.steepness, rel=1e-4)
    assert moved.midpoint == pytest.approx(plain.midpoint * width + place, abs=1e-4)


def test_cosines_that_are_all_the_same_are_no_scale() -> None:
    with pytest.raises(CannotCalibrate, match="all alike"):
        label_free(np.full(50, 0.3))


# ------------------------------------------------------------------------------------------------------------ by labels


def loss(curve: Calibration, cosines: np.ndarray, labels: list[bool]) -> float:
    """Cross-entropy with Platt's targets, written down a second time."""
    ones = sum(labels)
    total = 0.0
    for cosine, label in zip(cosines, labels, strict=True):
        target = (ones + 1) / (ones + 2) if label else 1 / (len(labels) - ones + 2)
        logit = curve.steepness * (cosine - curve.midpoint)
        total += math.log1p(math.exp(-abs(logit))) + max(logit, 0) - target * logit
    return total


labelled = st.lists(st.tuples(st.floats(-1, 1), st.booleans()), min_size=2, max_size=40)


@given(labelled)
def test_no_other_curve_fits_labels_better(rows: list[tuple[float, bool]]) -> None:
    cosines, labels = np.array([cosine for cosine, _ in rows]), [label for _, label in rows]
    try:
        curve = platt(cosines, labels)
    except CannotCalibrate:
        return
    best = loss(curve, cosines, labels)
    for steeper in (0.99, 1.01):
        assert loss(Calibration(curve.steepness * steeper, curve.midpoint), cosines, labels) >= best - 1e-7
    for moved in (-0.01, 0.01):
        assert loss(Calibration(curve.steepness, curve.midpoint + moved), cosines, labels) >= best - 1e-7


def test_labels_that_were_drawn_from_a_curve_give_it_back() -> None:
    dice = np.random.default_rng(2)
    cosines = dice.uniform(-0.2, 0.6, 40_000)
    labels = dice.uniform(size=len(cosines)) < 1 / (1 + np.exp(-18 * (cosines - 0.21)))
    curve = platt(cosines, labels.tolist())
    assert curve.steepness == pytest.approx(18, rel=0.03)
    assert curve.midpoint == pytest.approx(0.21, abs=0.003)


def test_labels_without_a_mistake_do_not_make_a_cliff() -> None:
    """Platt's targets: of ten of each sort the ten that match are believed to 11/12."""
    curve = platt(np.array([0.1] * 10 + [0.3] * 10), [False] * 10 + [True] * 10)
    assert curve.midpoint == pytest.approx(0.2, abs=1e-6)
    assert 1 / (1 + math.exp(-curve.steepness * 0.1)) == pytest.approx(11 / 12, abs=1e-6)


@pytest.mark.parametrize(
    ("cosines", "labels", "reason"),
    [
        ([0.1, 0.2], [True, True], "2 labels of 1 and 0 of 0, and needs both"),
        ([0.1], [False], "0 labels of 1 and 1 of 0, and needs both"),
        ([0.2, 0.2], [False, True], "the cosines of all labels are the same"),
        ([0.3, 0.1], [False, True], "no higher cosines"),
        ([0.1, 0.3, 0.1, 0.3], [False, False, True, True], "no higher cosines"),
    ],
)
def test_what_says_nothing_of_a_curve_is_refused(cosines: list[float], labels: list[bool], reason: str) -> None:
    with pytest.raises(CannotCalibrate, match=reason):
        platt(np.array(cosines), labels)


# ---------------------------------------------------------------------------------------------------------- has it one?


def test_the_default_embedder_is_calibrated_and_so_is_what_was_set() -> None:
    curves = {"visual": Calibration(), "conversation": Calibration(10, 0.3)}
    assert uncalibrated_options(DEFAULT_SPACE, curves) == []
    assert uncalibrated_options(None, {}) == []
    assert uncalibrated_options("clip-8", curves) == ["visual"]
    assert uncalibrated_warning("clip-8", {"visual": Calibration(10, 0.3)}) is None
    assert uncalibrated_warning("clip-8", curves) == (
        "the vectors of this index (clip-8) are not calibrated for visual, so its scores mean little: "
        "run `bulk-classify index calibrate` on it first"
    )
