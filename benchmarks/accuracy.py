"""How well the default embedder finds the right class of a clip, on texts that nobody has tuned anything to.

``accuracy.ndjson`` has twelve classes with their prompts, twelve clips of each (six captions of what is seen, six
spoken lines), and three more near each class that belong to none: they use its words for something else. The texts were
written for this before anything was measured, are those of no index, and decide no constant; keep it so, and put what
you tune to elsewhere.

The interval of a share is Wilson's. That of an AUC is a bootstrap over the clips (2,000 times, seeded), because the
scores of one clip with all classes do not stand for themselves. ``--quick`` draws fewer.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.platform.embed import WordEmbedder
from pipeline.platform.videos import Calibration

CLIPS = Path(__file__).with_name("accuracy.ndjson")
NORMAL_95 = 1.959964
"""Standard deviations on either side that 95 % of a normal distribution lie within."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Measured:
    """Clips by classes: each score, which class a clip is of (-1: none), and which it is or only seems to be of."""

    scores: Numbers
    truth: NDArray[np.int64]
    near: NDArray[np.int64]

    def of(self, chosen: NDArray[Any]) -> Measured:
        return Measured(self.scores[chosen], self.truth[chosen], self.near[chosen])


def main() -> None:
    rounds = 50 if "--quick" in sys.argv else 2_000
    entries = [json.loads(line) for line in CLIPS.read_text("utf-8").splitlines()]
    classes = [entry for entry in entries if "prompts" in entry]
    clips = [entry for entry in entries if "text" in entry]
    measured = measure(classes, clips)
    spoken = np.array([clip["option"] == "conversation" for clip in clips])
    print(f"{len(clips)} clips, {int((measured.truth < 0).sum())} of them of no class; {len(classes)} classes")
    print("| clips | right class first | AUC, all | AUC, beside clips that use its words |")
    print("|---|---|---|---|")
    for name, chosen in {"all": spoken | True, "captions": ~spoken, "spoken lines": spoken}.items():
        some = measured.of(chosen)
        first = some.scores.argmax(axis=1)[some.truth >= 0] == some.truth[some.truth >= 0]
        low, high = wilson(int(first.sum()), len(first))
        aucs = [f"{value:.3f} ({least:.3f} to {most:.3f})" for value, (least, most) in with_intervals(some, rounds)]
        print(f"| {name} | {first.mean():.3f} ({low:.3f} to {high:.3f}), {len(first)} clips | {' | '.join(aucs)} |")
    right, wrong = pairs(measured)
    for least in (30, 50, 75):
        shares = f"{(right >= least).mean():.1%} of right pairs, {(wrong >= least).mean():.1%} of wrong ones"
        print(f"score {least} or more: {shares}")


def measure(classes: list[dict[str, Any]], clips: list[dict[str, Any]]) -> Measured:
    """The score of each clip with each class, as an index of these texts would have it."""
    embedder, curve = WordEmbedder(), Calibration()
    texts = embedder.embed([clip["text"] for clip in clips]).astype(np.float64)
    cosines = np.stack(
        [(texts @ embedder.embed(one["prompts"]).astype(np.float64).T).max(axis=1) for one in classes], axis=1
    )
    place = {one["class"]: at for at, one in enumerate(classes)}
    return Measured(
        100 / (1 + np.exp(-curve.steepness * (cosines - curve.midpoint))),
        np.array([place.get(clip["class"], -1) for clip in clips]),
        np.array([place[clip["near"]] for clip in clips]),
    )


def pairs(measured: Measured) -> tuple[Numbers, Numbers]:
    """The scores of clips with their own class, and with all others."""
    own = measured.truth[:, np.newaxis] == np.arange(measured.scores.shape[1])
    return measured.scores[own], measured.scores[~own]


def aucs_of(measured: Measured) -> tuple[float, float]:
    """The AUC of right pairs against all wrong ones, and against the classes' words in clips of none."""
    right, wrong = pairs(measured)
    astray = measured.truth < 0
    return auc(right, wrong), auc(right, measured.scores[astray, measured.near[astray]])


def auc(positives: Numbers, negatives: Numbers) -> float:
    """How likely a positive is above a negative; ties count half."""
    ordered = np.sort(negatives)
    below = np.searchsorted(ordered, positives, side="left")
    not_above = np.searchsorted(ordered, positives, side="right")
    return float((below + not_above).mean() / 2 / len(ordered))


def with_intervals(measured: Measured, rounds: int) -> list[tuple[float, tuple[float, float]]]:
    """Each AUC with the middle 95 % of those of clips drawn again, right and wrong ones apart."""
    dice = np.random.default_rng(20_261_122)
    kinds = [np.flatnonzero(measured.truth >= 0), np.flatnonzero(measured.truth < 0)]
    drawn = [
        aucs_of(measured.of(np.concatenate([dice.choice(kind, len(kind)) for kind in kinds]))) for _ in range(rounds)
    ]
    bounds = np.percentile(np.array(drawn), [2.5, 97.5], axis=0)
    return [
        (value, (float(low), float(high)))
        for value, low, high in zip(aucs_of(measured), bounds[0], bounds[1], strict=True)
    ]


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a share (E. B. Wilson, 1927)."""
    share, square = successes / trials, NORMAL_95**2
    centre = (share + square / (2 * trials)) / (1 + square / trials)
    half = NORMAL_95 / (1 + square / trials) * math.sqrt(share * (1 - share) / trials + square / (4 * trials**2))
    return centre - half, centre + half


if __name__ == "__main__":
    main()
