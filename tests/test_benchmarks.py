"""The benchmarks still run; what they measure is for ``benchmarks/README.md``, not for a test."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
LINES = {
    "accuracy.py": r"180 clips, 36 of them of no class; 12 classes|\| clips \|.*|[|-]+"
    r"|\| [a-z ]+ \| 0\.\d{3} \(0\.\d{3} to 0\.\d{3}\), \d+ clips( \| 0\.\d{3} \(0\.\d{3} to 0\.\d{3}\)){2} \|"
    r"|score \d\d or more: [\d.]+% of right pairs, [\d.]+% of wrong ones",
    "compare.py": r"|\d+ cores .+; load [\d.]+ at the start, [\d.]+ at the end\.|\d+ (videos|POSTs).+:|\|.+\|",
    "export.py": r"100,000 rows of scores, \d+ MB of NDJSON; orjson line by line: [\d.]+ s, \d+ MB"
    r"|\| (parquet|csv|duckdb) \| 100,000 \| [\d.]+ s \| [\d.]+ \| \d+ MB \| \d+ MB \|",
    "floor.py": r"500 videos, \d+ a chunk: CPU [\d.]+ s, bare loop [\d.]+ s, ratio [\d.]+ \([\d.]+ to [\d.]+\)",
    "growth.py": r"|Load of the machine before it: [\d.]+|\|[-,\w |]+\|"
    r"|\| ([\d,]+( ms)?|yes|no)( \| [\d,.]*( s| MB)?)+ \| [\d.]+ ms \|",
    "latency.py": r"\|[-',\w |]+\||\| 8 \| 20 \| [\d.]+ s( \| [\d.]+ \([\d.]+ to [\d.]+\)){3} \| [\d.]+ s \| [\d.]+ \|",
    "million.py": r"\| `\w+`[ \w]* \| 20,000 \| [\d.]+ s \| \d+ MB \|",
    "pacing.py": r"\| 500 \| 2 ms \| .+ \| 250 \| \d+ \| \d+ \| [\d.]+% \|",
    "packing.py": r"\| .+ \| \d+ \| \d+ \| 1\.\d{4} \| [\d.]+ s \|"
    r"|\| [\d,]+ \| [\w .%]+ \| \d+ \| \d+ \| \d+ \| 1\.\d{4} \|",
    "report.py": r"[\d,]+ videos, [\d,]+ rows: page [\d,]+ kB, [\d.]+ s, peak \d+ MB|"
    r"orjson alone [\d.]+ s; ratio [\d.]+ \([\d.]+ to [\d.]+\)",
    "scoring.py": r"sgemm peak \d+ Gflop/s; the product bare \d+% of it, as the platform makes it .+ \d+%"
    r"|\| \d+ \| [\w., ]+ \| (yes|no) \| \d+ \| \d+ kB \| [\d.]+ ms \| [\d.]+ ms \| [\d.]+ \|",
    "whole_index.py": r"20,000 clips: 200 videos on 4 pages, .+|peak memory \d+ MB, \d+ MB of it before the request",
}


@pytest.mark.parametrize("name", LINES)
def test_a_benchmark_prints_its_figures(name: str) -> None:
    command = [sys.executable, str(BENCHMARKS / name), "--quick"]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    lines = ended.stdout.splitlines()
    assert len(lines) >= 2
    assert all(re.fullmatch(LINES[name], line) for line in lines), ended.stdout
