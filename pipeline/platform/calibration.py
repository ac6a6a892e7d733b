"""From cosines to a scale: how steep a score rises, and where it is 50. Pure, numpy only.

What a cosine means differs from one embedder to the next, and from pictures to speech, so each option of an index has a
curve of its own. It comes from labels where there are some, else from the index alone: what its clips have in common
with prompts that were chosen for no clip in particular is what 'no match' looks like.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.platform.embed import DEFAULT_SPACE
from pipeline.platform.videos import Calibration

Cosines: TypeAlias = NDArray[np.float64]

# How label-free calibration places the curve, in spreads of the cosines of what does not match: the middle 1.88 above
# their centre (one in 33 of a normal distribution is higher), and from there to a score of 79 one spread.
_STEEPNESS_BY_SPREAD = 1.34
_MIDPOINT_IN_SPREADS = 1.88
# The median absolute deviation of a normal distribution, times this, is its standard deviation.
_NORMAL_BY_MAD = 1.4826
_LEAST_SPREAD = 1e-6
_DECIMALS = 6
_NEWTON_STEPS = 100
_SMALLEST_STEP = 1e-10
_SMALLEST_GRADIENT = 1e-9
_RIDGE = 1e-12
_SUFFICIENT_DECREASE = 1e-4


class CannotCalibrate(ValueError):
    """Why no curve comes of these cosines."""


def label_free(cosines: Cosines) -> Calibration:
    """A curve from cosines of clips with prompts of which hardly any matches: ``a = 1.34 / s``, ``m = c + 1.88 s``.

    ``c`` is their median and ``s`` 1.4826 times their median absolute deviation, which the few that match do not move.
    Raises ``CannotCalibrate`` where they do not differ.
    """
    centre = float(np.median(cosines))
    spread = _NORMAL_BY_MAD * float(np.median(np.abs(cosines - centre)))
    if not spread > _LEAST_SPREAD:
        raise CannotCalibrate("its clips are all alike to the generic prompts")
    return _curve(_STEEPNESS_BY_SPREAD / spread, centre + _MIDPOINT_IN_SPREADS * spread)


def platt(cosines: Cosines, labels: Sequence[bool]) -> Calibration:
    """The curve under which labels are likeliest: Platt scaling, with his regularised targets.

    J. Platt, 'Probabilistic outputs for support vector machines' (1999), by the safeguarded Newton method of H.-T. Lin,
    C.-J. Lin and R. C. Weng, 'A note on Platt's probabilistic outputs' (2007). A score is a hundred times the
    probability. Raises ``CannotCalibrate`` where the labels are of one sort only, where the cosines do not differ, and
    where those that match are no higher than the others.
    """
    truth = np.asarray(labels, dtype=np.bool_)
    matches = int(truth.sum())
    others = len(truth) - matches
    if not (matches and others):
        raise CannotCalibrate(f"it has {matches} labels of 1 and {others} of 0, and needs both")
    centre, spread = float(cosines.mean()), float(cosines.std())
    if not spread > _LEAST_SPREAD:
        raise CannotCalibrate("the cosines of all labels are the same")
    targets = np.where(truth, (matches + 1) / (matches + 2), 1 / (others + 2))
    slope, offset = _fitted((cosines - centre) / spread, targets, start=math.log((matches + 1) / (others + 1)))
    if not slope > _LEAST_SPREAD:
        raise CannotCalibrate("what is labelled 1 has no higher cosines than what is labelled 0")
    return _curve(slope / spread, centre - offset * spread / slope)


def _fitted(values: Cosines, targets: Cosines, *, start: float) -> tuple[float, float]:
    """Slope and offset of the logistic curve with the smallest cross-entropy; that is convex, so it is found."""
    line = np.array([0.0, start])
    for _ in range(_NEWTON_STEPS):
        chances = (1 + np.tanh((line[0] * values + line[1]) / 2)) / 2
        wrong, weights = chances - targets, chances * (1 - chances)
        gradient = np.array([wrong @ values, wrong.sum()])
        if np.abs(gradient).max() < _SMALLEST_GRADIENT * len(values):
            break
        crossed = weights @ values
        curvature = np.array([[weights @ values**2 + _RIDGE, crossed], [crossed, weights.sum() + _RIDGE]])
        step = -np.linalg.solve(curvature, gradient)
        size, needed = 1.0, _SUFFICIENT_DECREASE * float(gradient @ step)
        loss = _cross_entropy(line, values, targets)
        while size >= _SMALLEST_STEP and _cross_entropy(line + size * step, values, targets) > loss + size * needed:
            size /= 2
        if size < _SMALLEST_STEP:
            break
        line += size * step
    return float(line[0]), float(line[1])


def _cross_entropy(line: Cosines, values: Cosines, targets: Cosines) -> float:
    logits = line[0] * values + line[1]
    return float(np.sum(np.logaddexp(0, logits) - targets * logits))


def _curve(steepness: float, midpoint: float) -> Calibration:
    """As many digits as the name of a score's source shows, so that two sources differ by name where they differ."""
    return Calibration(float(f"{steepness:.{_DECIMALS}g}"), float(f"{midpoint:.{_DECIMALS}g}"))


# --------------------------------------------------------------------------------------------------------- has it one?


def uncalibrated_options(space: str | None, calibration: Mapping[str, Calibration]) -> list[str]:
    """The options whose curve is the default embedder's, although the vectors are another's."""
    if space is None or space == DEFAULT_SPACE:
        return []
    return sorted(option for option, curve in calibration.items() if curve == Calibration())


def uncalibrated_warning(space: str | None, calibration: Mapping[str, Calibration]) -> str | None:
    """What to say of an index with such options; None where it has none."""
    options = uncalibrated_options(space, calibration)
    if not options:
        return None
    return (
        f"the vectors of this index ({space}) are not calibrated for {', '.join(options)}, so its scores mean little: "
        "run `bulk-classify index calibrate` on it first"
    )
