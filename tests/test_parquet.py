"""Parquet files, opened; what is read of them is tested with the id lists."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb


def test_no_progress_bar_is_drawn_on_stdout(tmp_path: Path) -> None:
    """DuckDB draws one unasked where it takes the process for one that somebody talks to, as it takes ``python -c``."""
    duckdb.execute("COPY (SELECT 'a' AS video_id) TO ?", [str(tmp_path / "ids.parquet")])
    program = f"""
from pathlib import Path
from pipeline.parquet import open_parquet
with open_parquet(Path({str(tmp_path / "ids.parquet")!r})) as file:
    print(file._database.execute("SELECT current_setting('enable_progress_bar')").fetchall(), file.columns)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[(False,)] ['video_id']\n"
