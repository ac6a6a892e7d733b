"""What a report costs, beside reading the same rows; ``--quick`` for a smoke test.

Both sides are whole processes, in turn: the command, and a loop that decodes ``scores.ndjson`` and ``clips.ndjson``
with orjson and keeps nothing. The ratio is of one round; what is printed is its median.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))  # the directory is made as the tests make theirs

from tests.report.nights import Night, make

READ = """
import sys, orjson
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        for line in file:
            orjson.loads(line)
"""
REPORT = """
import resource, sys
from pipeline.cli import main
sys.argv[0] = "bulk-classify"
try:
    main()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def timed(*command: str) -> tuple[float, str]:
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", *command], check=True, capture_output=True, text=True)
    return time.perf_counter() - begun, done.stderr


def main() -> None:
    videos, rounds = (500, 2) if "--quick" in sys.argv else (50_000, 7)
    with tempfile.TemporaryDirectory() as name:
        folder = make(Path(name) / "run", Night(videos=videos))
        files = [folder / "scores.ndjson", folder / "clips.ndjson"]
        rows = sum(path.read_bytes().count(b"\n") for path in files)
        reports, reads, peak = [], [], 0
        for _ in range(rounds):
            seconds, told = timed(REPORT, "report", str(folder))
            reports.append(seconds)
            peak = max(peak, int(told) // 1024)
            reads.append(timed(READ, *map(str, files))[0])
        size = (folder / "report.html").stat().st_size
    ratios = [one / other for one, other in zip(reports, reads, strict=True)]
    print(f"{videos:,} videos, {rows:,} rows: page {size // 1000:,} kB, {median(reports):.2f} s, peak {peak} MB")
    print(f"orjson alone {median(reads):.2f} s; ratio {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
