"""What a million videos cost in time and memory: planned, taken in to the first POST, gone on with.

``--quick`` takes fewer. Each command is a process of its own; memory is the most that it held, as the operating system
counts it.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
CONFIG = """
[job]
options = ["visual"]
classes = [{name = "DanceTok", prompts = ["Dance tutorial"]}]
[input]
ids = ["ids.csv"]
[limits]
tariff = "none"
[output]
dir = "out"
"""


def main() -> None:
    videos = 20_000 if "--quick" in sys.argv else 1_000_000
    server = subprocess.Popen([sys.executable, HERE / "fast_server.py"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder), url, videos)
    finally:
        server.terminate()
        server.wait()


def measure(folder: Path, url: str, videos: int) -> None:
    dice = random.Random(1)
    with (folder / "ids.csv").open("w") as ids:
        ids.write("video_id,duration_seconds\n")
        for number in range(videos):
            ids.write(f"{number:024x},{min(dice.lognormvariate(5.48, 1), 7_200):.3f}\n")
    (folder / "run.toml").write_text(CONFIG)
    report(folder, videos, "`plan`", 0, ["plan", "run.toml", "--api-url", url])
    first = ["run", "run.toml", "--quiet", "--api-url", url, "--set", "limits.max_posts=1"]
    report(folder, videos, "`run` to its first POST", 75, first)
    report(
        folder, videos, "`resume` to its first POST", 75, ["resume", "out", "--quiet", "--set", "limits.max_posts=2"]
    )


def report(folder: Path, videos: int, what: str, exit_code: int, arguments: list[str]) -> None:
    """Run a command, and print what it took."""
    begun = time.perf_counter()
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", *arguments],
            cwd=folder,
            env={**os.environ, "TWELVELABS_API_KEY": "key", "PYTHONPATH": str(HERE.parent)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == exit_code, (folder / "output").read_text()
    seconds = time.perf_counter() - begun
    print(f"| {what} | {videos:,} | {seconds:.1f} s | {used.ru_maxrss / 1024:.0f} MB |")


if __name__ == "__main__":
    main()
