"""What docs/analytics.md says is true: its commands, queries and programs run, in order, and print what it shows.

``sql`` blocks are asked of the DuckDB file that the page makes; ``python`` blocks are programs, whose output is that of
a ``text`` block behind them. The dbt model is asked as dbt asks it, with its source in the place of the call.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import duckdb
import pytest

from pipeline.export import Exported
from pipeline.export_database import RUNS, VIEWS
from pipeline.export_tables import TABLES
from tests.pages import DOCS, ROOT, Block, blocks

PAGE = (DOCS / "analytics.md").read_text("utf-8")
BLOCKS = blocks(DOCS / "analytics.md")
QUERIES = [one.text for one in BLOCKS if one.language == "sql" and not one.file]
PROGRAMS = [
    (one.text, after.text if after.language == "text" else "")
    for one, after in pairwise([*BLOCKS, Block("", None, "")])
    if one.language == "python"
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the page's commands were typed."""
    folder = tmp_path_factory.mktemp("analytics")
    shutil.copytree(ROOT / "configs", folder / "configs")
    program = folder / "bulk-classify"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m pipeline "$@"\n')
    program.chmod(0o700)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("BULK_CLASSIFY_", "XDG_"))}
    environment = inherited | {"HOME": str(folder), "PATH": f"{folder}:{os.environ['PATH']}"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    commands = "".join(one.text for one in BLOCKS if one.language == "sh")
    subprocess.run(["sh", "-eu"], input=commands, cwd=folder, env=environment, text=True, check=True)
    return folder


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_of_the_page_finds_something(folder: Path, monkeypatch: pytest.MonkeyPatch, query: str) -> None:
    monkeypatch.chdir(folder)
    with duckdb.connect("videos.duckdb", read_only=True) as database:
        assert database.execute(query).fetchall() != []


@pytest.mark.parametrize(("program", "output"), PROGRAMS)
def test_a_program_of_the_page_prints_what_it_shows(folder: Path, program: str, output: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, output, "")


def test_the_dbt_model_finds_what_the_view_finds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {one.file: one.text for one in BLOCKS if one.file}
    location = re.search(r'external_location: "(.*)"', files["sources.yml"])
    assert location is not None
    assert re.findall(r"^      - name: (\w+)$", files["sources.yml"], re.MULTILINE) == list(TABLES)
    model = re.sub(
        r"\{\{ source\('bulk_classify', '(\w+)'\) \}\}",
        lambda found: location[1].replace("{name}", found[1]),
        files["latest_scores.sql"],
    )
    monkeypatch.chdir(folder)
    with duckdb.connect("videos.duckdb", read_only=True) as database:
        missing = database.execute(f"SELECT count(*) FROM (FROM latest_scores EXCEPT ({model}))").fetchall()
        rows = database.execute(f"SELECT (SELECT count(*) FROM latest_scores), (SELECT count(*) FROM ({model}))")
        (counts,) = rows.fetchall()
    assert missing == [(0,)]
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("table", TABLES)
def test_every_column_is_explained_in_its_order_with_its_type(table: str) -> None:
    rows = re.split(r"^#", PAGE.partition(f"\n### Table `{table}`\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    explained = re.findall(r"^\| `(\w+)` \| `([A-Z ]+)` \| (.+) \|$", rows, re.MULTILINE)
    assert explained == [(one.name, one.kind, one.comment) for one in TABLES[table].columns]


def test_every_fact_of_an_export_is_explained_in_its_order() -> None:
    section = (ROOT / "docs/json.md").read_text("utf-8").partition("\n## `export`\n")[2].partition("\n## ")[0]
    explained = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert explained == [field.name for field in dataclasses.fields(Exported)]


def test_every_view_and_the_runs_are_explained() -> None:
    section = PAGE.partition("\n## DuckDB\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == ["runs", *VIEWS]
    assert RUNS.comment
