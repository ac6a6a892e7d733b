"""What a request of ten hours costs, by the matrix product in it; ``--quick`` for a smoke test.

Each round measures side by side the peak of sgemm (2,048 by 2,048 by 2,048), the bare product (6,000 clips by 1,024
dimensions by 100 prompts), the product as the platform makes it, and a POST over HTTP to a server of its own, from its
first byte to the last of the first page. All of numpy's products are on one thread. Ratios are of one round; what is
printed is their median.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import numpy as np
from made_up_index import PROMPTS, SPACE, prompt_vectors, videos, write_index
from threadpoolctl import threadpool_limits

from pipeline.platform.cosines import cosine_blocks, is_steady

HERE = Path(__file__).parent
DIMENSIONS, VIDEOS, CLIPS = 1024, 150, 40
PEAK = 2048
DEFAULTS: dict[str, float] = {}
EVERYTHING = {"min_video_score": 1, "min_clip_score": 1, "min_duration_ratio": 0.01}
GOOD_CLIPS = {"min_video_score": 1, "min_clip_score": 30, "min_duration_ratio": 0.01}


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def request(count: int, classes: int, threshold: dict[str, float], *, clips: bool, page_limit: int) -> bytes:
    each = len(PROMPTS) // classes
    return json.dumps(
        {
            "video_ids": [f"video{number:06}" for number in range(count)],
            "classes": [
                {"name": f"class {number}", "prompts": PROMPTS[number * each : (number + 1) * each]}
                for number in range(classes)
            ],
            "options": ["visual"],
            "include_clips": clips,
            "show_detailed_score": clips,
            "page_limit": page_limit,
            "threshold": threshold,
        }
    ).encode()


class Caller:
    """One connection to the server, as a client keeps it."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(self._parts.netloc)

    def post(self, body: bytes) -> bytes:
        headers = {"x-api-key": "any", "Content-Type": "application/json"}
        self._connection.request("POST", f"{self._parts.path}/classify", body, headers)
        answer = self._connection.getresponse()
        received = answer.read()
        assert answer.status == 200, received
        return received


def main() -> None:
    quick = "--quick" in sys.argv
    count, rounds = (10, 2) if quick else (VIDEOS, 25)
    with tempfile.TemporaryDirectory() as name, threadpool_limits(limits=1, user_api="blas"):
        path = Path(name) / "made-up.index"
        write_index(path, SPACE, videos(count, CLIPS, DIMENSIONS))
        command = [sys.executable, str(HERE / "made_up_index.py"), str(path), str(DIMENSIONS)]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            measure(Caller(server.stdout.readline().strip()), count, rounds)
        finally:
            server.terminate()
            server.wait()


def measure(caller: Caller, count: int, rounds: int) -> None:
    prompts = prompt_vectors(DIMENSIONS)
    tracks = [video.tracks[0].vectors for video in videos(count, CLIPS, DIMENSIONS)]
    clips = np.concatenate(tracks)
    square = np.random.default_rng(0).standard_normal((PEAK, PEAK), dtype=np.float32)
    shares = []
    for _ in range(rounds):
        peak = 2 * PEAK**3 / seconds(lambda: square @ square)
        work = 2 * clips.size * len(prompts)
        bare, blocks = seconds(lambda: clips @ prompts.T), seconds(lambda: list(cosine_blocks(prompts, tracks)))
        shares.append((peak, work / bare / peak, work / blocks / peak))
    peak, bare, blocks = (median(column) for column in zip(*shares, strict=True))
    number = "float32" if is_steady(DIMENSIONS) else "float64"
    print(
        f"sgemm peak {peak / 1e9:.0f} Gflop/s; the product bare {bare:.0%} of it, "
        f"as the platform makes it ({number}, copies included) {blocks:.0%}"
    )
    for classes in (25, 100):
        for threshold in (DEFAULTS, GOOD_CLIPS, EVERYTHING):
            for with_clips, page_limit in ((False, 50), (True, 10), (True, 50)):
                body = request(count, classes, threshold, clips=with_clips, page_limit=page_limit)
                size = len(caller.post(body))
                pairs = [
                    (seconds(lambda: clips @ prompts.T), seconds(lambda asked=body: caller.post(asked)))  # type: ignore[misc]
                    for _ in range(rounds)
                ]
                product, whole = (median(column) for column in zip(*pairs, strict=True))
                ratio = median(one / other for other, one in pairs)
                shown = ", ".join(f"{value:g}" for value in threshold.values()) or "defaults"
                print(
                    f"| {classes} | {shown} | {'yes' if with_clips else 'no'} | {page_limit} | {size / 1000:,.0f} kB "
                    f"| {product * 1000:.1f} ms | {whole * 1000:.1f} ms | {ratio:.1f} |"
                )


if __name__ == "__main__":
    main()
