"""Chunks that come of many videos, by the lower bound, with durations that are exact and that are not.

``--quick`` is a smoke test.
"""

from __future__ import annotations

import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from math import ceil

from pipeline.fitting import Fit
from pipeline.models import MAX_SECONDS, Video
from pipeline.packing import Packer

DURATIONS: dict[str, Callable[[random.Random], float]] = {
    "lognormal, median 240 s, to 7,200 s": lambda dice: min(dice.lognormvariate(5.48, 1), 7_200),
    "uniform, 60 to 3,600 s": lambda dice: dice.uniform(60, 3_600),
}
ERRORS: dict[str, tuple[float, float]] = {
    "exact": (1.0, 1.0),
    "wrong by up to 0.5 % either way": (0.995, 1.005),
    "all 0.5 % too short": (0.995, 0.995),
}


def main() -> None:
    counts = [1_000, 10_000] if "--quick" in sys.argv else [1_000, 10_000, 100_000, 1_000_000]
    for name, drawn in DURATIONS.items():
        dice = random.Random(1)
        durations = [drawn(dice) for _ in range(counts[-1])]
        packer = Packer()
        begun = time.perf_counter()
        chunks = max(packer.place(duration) for duration in durations)
        seconds = time.perf_counter() - begun
        bound = ceil(sum(durations) / MAX_SECONDS)
        print(f"| {name} | {chunks:,} | {bound:,} | {chunks / bound:.4f} | {seconds:.2f} s |")
    drawn = next(iter(DURATIONS.values()))
    for count in counts[:-1] or counts:
        for error, (low, high) in ERRORS.items():
            dice = random.Random(count)
            true = [drawn(dice) for _ in range(count)]
            posts, refused = posts_for([seconds * dice.uniform(low, high) for seconds in true], true)
            bound = ceil(sum(true) / MAX_SECONDS)
            print(f"| {count:,} | {error} | {posts:,} | {refused} | {bound:,} | {posts / bound:.4f} |")


def posts_for(listed: Sequence[float], true: Sequence[float]) -> tuple[int, int]:
    """The POSTs that these videos take where one goes after the other, and how many of them are refused."""
    fit, posts, refused = Fit(), 0, 0
    videos = [Video(str(number), seconds) for number, seconds in enumerate(listed)]
    while videos:
        packer = Packer(fit.max_seconds)
        chunks: dict[int, list[Video]] = defaultdict(list)
        for video in videos:
            chunks[packer.place(video.duration_seconds)].append(video)
        videos = []
        for chunk in chunks.values():
            rest = list(chunk)
            while rest:
                kept = list(fit.kept(rest))
                videos += [video for video in rest if video not in kept]
                rest = []
                total = sum(true[int(video.video_id)] for video in kept)
                posts += 1
                if total > MAX_SECONDS and len(kept) > 1:
                    refused += 1
                    fit.learn(kept, total)
                    rest = kept
    return posts, refused


if __name__ == "__main__":
    main()
