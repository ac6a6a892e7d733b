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

from pipeline.export import Exported, export
from pipeline.export_database import RUNS, VIEWS
from pipeline.export_tables import TABLES
from tests.builders import end, opened
from tests.pages import DOCS, ROOT, Block, blocks

ODD_IDS = ["000123", "1e5", "NA", "null", "-7", "--8", "true", "2026-01-02"]
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


@pytest.fixture(scope="module")
def folder_of_odd_ids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exports as the page makes them, of a run whose ids look like something else."""
    folder = tmp_path_factory.mktemp("odd ids")
    with opened(folder / "run") as run:
        run.take_in(*ODD_IDS, a_chunk=len(ODD_IDS))
        run.commit(end(1, matched=ODD_IDS))
    export([folder / "run"], folder / "tables", "parquet")
    export([folder / "run"], folder / "tables-csv", "csv")
    return folder


@pytest.mark.parametrize("program", [one for one, _ in PROGRAMS if re.search("^scores = ", one, re.MULTILINE)])
def test_the_programs_of_the_page_read_ids_that_look_like_something_else_as_they_are(
    folder_of_odd_ids: Path, program: str
) -> None:
    read = f"{program}\nscores = scores.collect() if hasattr(scores, 'collect') else scores\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"{read}print(*sorted(set(scores['video_id'])))"],
        cwd=folder_of_odd_ids,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].split() == sorted(ODD_IDS)


def test_the_query_of_csv_reads_such_ids_as_they_are(folder_of_odd_ids: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (query,) = (one for one in QUERIES if "read_csv" in one)
    monkeypatch.chdir(folder_of_odd_ids)
    with duckdb.connect() as database:
        assert {video_id for video_id, _ in database.execute(query).fetchall()} == set(ODD_IDS)


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
