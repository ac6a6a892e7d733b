"""What durability costs: CPU of a run by that of the bare loop, on the same work; ``--quick`` for a smoke test."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
CONFIG = """
[job]
options = ["visual"]
include_clips = true
show_detailed_score = true
page_limit = 50
threshold = {min_video_score = 1, min_clip_score = 1, min_duration_ratio = 0.01}
classes = [
  {name = "DanceTok", prompts = ["DanceTok"]}, {name = "CookTok", prompts = ["CookTok"]},
  {name = "PetTok", prompts = ["PetTok"]}, {name = "MakerTok", prompts = ["MakerTok"]},
]
[input]
ids = ["ids.txt"]
"""


def cpu_seconds(command: list[str], folder: Path) -> float:
    """User and system seconds of a command, as the operating system counts them."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, cwd=folder, env={**os.environ, "TWELVELABS_API_KEY": "key"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    videos, rounds = (500, 1) if "--quick" in sys.argv else (20_000, 5)
    server = subprocess.Popen([sys.executable, HERE / "fast_server.py"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        for chunk in (10, 100):
            measure(port, videos, chunk, rounds)
    finally:
        server.terminate()
        server.wait()


def measure(port: str, videos: int, chunk: int, rounds: int) -> None:
    bare, ours = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "run.toml").write_text(CONFIG)
            (folder / "ids.txt").write_text("".join(f"{number:024x}\n" for number in range(videos)))
            bare.append(
                cpu_seconds([sys.executable, str(HERE / "bare_loop.py"), port, str(videos), str(chunk)], folder)
            )
            run = [sys.executable, "-m", "pipeline", "run", "run.toml", "--out", "out", "--quiet"]
            run += ["--api-url", f"http://127.0.0.1:{port}", "--set", "limits.tariff=none"]
            # The most, too: a run puts more and more videos of unknown duration into a POST as long as none is refused.
            run += ["--set", f"limits.default_videos_per_post={chunk}", "--set", f"limits.max_videos_per_post={chunk}"]
            ours.append(cpu_seconds(run, folder))
    ratios = [one / other for one, other in zip(ours, bare, strict=True)]
    print(
        f"{videos:,} videos, {chunk} a chunk: CPU {median(ours):.2f} s, bare loop {median(bare):.2f} s, "
        f"ratio {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    )


if __name__ == "__main__":
    main()
