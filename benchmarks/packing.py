"""Chunks that come of many videos, by the lower bound; ``--quick`` for a smoke test."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from math import ceil

from pipeline.models import MAX_SECONDS
from pipeline.packing import Packer

DURATIONS: dict[str, Callable[[random.Random], float]] = {
    "lognormal, median 240 s, to 7,200 s": lambda dice: min(dice.lognormvariate(5.48, 1), 7_200),
    "uniform, 60 to 3,600 s": lambda dice: dice.uniform(60, 3_600),
}


def main() -> None:
    count = 10_000 if "--quick" in sys.argv else 1_000_000
    for name, drawn in DURATIONS.items():
        dice = random.Random(1)
        durations = [drawn(dice) for _ in range(count)]
        packer = Packer()
        begun = time.perf_counter()
        chunks = max(packer.place(duration) for duration in durations)
        seconds = time.perf_counter() - begun
        bound = ceil(sum(durations) / MAX_SECONDS)
        print(f"| {name} | {chunks:,} | {bound:,} | {chunks / bound:.4f} | {seconds:.2f} s |")


if __name__ == "__main__":
    main()
