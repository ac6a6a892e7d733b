"""Exports: every committed row once, typed, with what belongs to its run; whatever ends the export before."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import anyio
import duckdb
import msgspec
import pyarrow.parquet
import pytest

from pipeline.config_keys import ClassSection
from pipeline.errors import RunHeld, StorageError, UsageError
from pipeline.export import Exported, export
from pipeline.export_database import RUNS, VIEWS
from pipeline.export_folder import folder_target
from pipeline.export_tables import FAILED, GROWING, TABLES, names
from pipeline.ledger import SCORE_SOURCE, Ledger
from pipeline.manifest import read_manifest, write_manifest
from pipeline.models import ClassScore, Clip, DetailedScores, Result
from pipeline.packing import Packer
from pipeline.rows import ROW_FILES, SCORES, ClipRow, FailureRow, ScoreRow, VideoRow
from pipeline.rundir import LEDGER, held
from tests.builders import RUN_ID, End, config, end, opened, rows_in, small_run
from tests.runs import KEY, ROOT, Desk, library
from tests.servers.contract import ContractServer, RequestSeen
from tests.test_kills import committing, take_in

FORMS = ("parquet", "csv", "duckdb")
every_form = pytest.mark.parametrize("form", FORMS)


def exported(folders: Path | Iterable[Path], target: Path, form: str) -> Exported:
    some = [folders] if isinstance(folders, Path) else list(folders)
    return export(some, target, None if form == "duckdb" else form)  # type: ignore[arg-type]


def target_of(folder: Path, form: str) -> Path:
    return folder / f"export.{form}"


def rows_of(target: Path, table: str) -> list[dict[str, Any]]:
    """The rows of an exported table, as anybody would read them; moments as text, as the NDJSON has them."""
    form = target.suffix[1:]
    if form == "duckdb":
        with duckdb.connect(target, read_only=True) as database:
            return _told(database, table)
    files = f"'{target}/{table}/*.{form}'"
    kinds = ", ".join(f"'{one.name}': '{one.kind}'" for one in TABLES[table].columns)
    source = f"read_parquet({files})" if form == "parquet" else f"read_csv({files}, columns = {{{kinds}}})"
    rows = _told(_in_memory(), source)
    if form == "csv":
        texts = [one.name for one in TABLES[table].columns if one.kind == "VARCHAR"]
        rows = [row | {name: row[name] and row[name].removeprefix("'") for name in texts} for row in rows]
    return rows


@cache
def _in_memory() -> duckdb.DuckDBPyConnection:
    """One for all tests: to make one takes as long as to read the files of a small export."""
    return duckdb.connect()


def _told(database: duckdb.DuckDBPyConnection, source: str) -> list[dict[str, Any]]:
    database.execute("SET TimeZone = 'UTC'")
    described = database.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
    terms = [
        f"strftime({name}, '%Y-%m-%dT%H:%M:%S.%gZ')" if kind.startswith("TIMESTAMP") else f'"{name}"'
        for name, kind, *_ in described
    ]
    found = database.execute(f"SELECT {', '.join(terms)} FROM {source}").fetchall()
    return [dict(zip([one[0] for one in described], row, strict=True)) for row in found]


def in_order(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Rows that can be compared: a number is one, whether the platform sent it with a point or not."""
    return sorted(json.dumps({name: _as_number(value) for name, value in row.items()}, sort_keys=True) for row in rows)


def _as_number(value: object) -> object:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def joined(folder: Path, table: str, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the run's files with what an export adds to them, from what the run's own files say."""
    manifest = read_manifest(folder)
    stored = json.loads((folder / "run.json").read_bytes())["fingerprint"]["classes"]
    with Ledger(folder / LEDGER, read_only=True) as ledger:
        source = ledger.fact(SCORE_SOURCE)
    whole = []
    for row in rows:
        more = {"class_hash": stored.get(row["class_name"])} if table in {"scores", "clips"} else {}
        whole.append({**row, **more, "job_name": manifest.config.name, "score_source": source})
    return whole


def committed_rows(folder: Path, name: str) -> list[Mapping[str, Any]]:
    """The rows of a file up to its committed length."""
    with Ledger(folder / LEDGER, read_only=True) as ledger:
        length = dict(zip(ROW_FILES, ledger.file_lengths(), strict=True))[name]
    return [json.loads(line) for line in (folder / name).read_bytes()[:length].splitlines()]


def check_whole(target: Path, *folders: Path) -> None:
    """The target holds all rows that these runs have committed, each once, and no other."""
    for table, name in GROWING.items():
        expected = [row for one in folders for row in joined(one, table, committed_rows(one, name))]
        assert in_order(rows_of(target, table)) == in_order(expected), table
    failed = []
    for one in folders:
        with Ledger(one / LEDGER, read_only=True) as ledger:
            rows = [msgspec.structs.asdict(row) for row in ledger.failure_rows(read_manifest(one).run_id)]
        failed += joined(one, FAILED, rows)
    assert in_order(rows_of(target, FAILED)) == in_order(failed)


def remember_source(folder: Path, source: str = "twelvelabs/v1.2") -> None:
    with Ledger(folder / LEDGER) as ledger, ledger.atomic():
        ledger.remember(SCORE_SOURCE, source)


def another_run(folder: Path, run_id: str, name: str) -> None:
    """A run of two videos with an id, a name and a job of its own."""
    small_run(folder)
    job = config(include_clips=True, classes=(ClassSection(name="class 0", prompts=("x",)),))
    manifest = dataclasses.replace(
        read_manifest(folder), run_id=run_id, config=msgspec.structs.replace(job, name=name), score_source=None
    )
    write_manifest(folder, manifest)
    remember_source(folder, f"local/{name}")
    for path in (folder / row_file for row_file in ROW_FILES):
        path.write_bytes(path.read_bytes().replace(RUN_ID.encode(), run_id.encode()))


# --------------------------------------------------------------------------------------------------------- what it says


@pytest.mark.parametrize(
    ("table", "row"), [("scores", ScoreRow), ("clips", ClipRow), ("videos", VideoRow), ("failures", FailureRow)]
)
def test_a_table_has_every_key_of_its_rows_in_order(table: str, row: type[msgspec.Struct]) -> None:
    assert names(TABLES[table].row) == list(row.__struct_fields__)


@every_form
def test_every_row_is_exported_once_with_what_belongs_to_its_run(tmp_path: Path, form: str) -> None:
    run, target = tmp_path / "run", target_of(tmp_path, form)
    small_run(run)
    remember_source(run)
    done = exported(run, target, form)
    check_whole(target, run)
    counts = {table: len(rows_in(run / name)) for table, name in GROWING.items()} | {FAILED: 1}
    assert (done.rows, done.runs, done.format) == (counts, [RUN_ID], form)
    assert {row["score_source"] for row in rows_of(target, "scores")} == {"twelvelabs/v1.2"}


def test_several_runs_of_different_jobs_stand_side_by_side(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    small_run(one)
    another_run(other, "20260203T000000Z-fedcba", "b-job")
    for form in FORMS:
        target = target_of(tmp_path, form)
        assert exported([one, other, one], target, form).runs == [RUN_ID, "20260203T000000Z-fedcba"]
        check_whole(target, one, other)
        hashes = {(row["job_name"], row["class_name"]): row["class_hash"] for row in rows_of(target, "scores")}
        assert hashes["run", "class 0"] is None, "no class of the job's"
        assert hashes["b-job", "class 0"] is not None


def test_ids_that_look_like_numbers_stay_text_and_scores_stay_floats(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with opened(run) as one:
        one.take_in("000123", "1e5", a_chunk=2)
        one.commit(end(1, matched=["000123"], silent=["1e5"]))
    exported(run, tmp_path / "out.parquet", "parquet")
    schema = pyarrow.parquet.read_table(tmp_path / "out.parquet/scores").schema
    assert {field.name: str(field.type) for field in schema} == {
        **dict.fromkeys(["video_id", "class_name", "run_id", "class_hash", "job_name", "score_source"], "string"),
        **dict.fromkeys(["score", "duration_ratio", "max_score", "avg_score", "normalized_score"], "double"),
        **dict.fromkeys(["clip_count", "chunk_id"], "int64"),
        "classified_at": "timestamp[us, tz=UTC]",
    }
    assert sorted(row["video_id"] for row in rows_of(tmp_path / "out.parquet", "videos")) == ["000123", "1e5"]


def test_an_empty_run_has_empty_files_of_the_right_columns(tmp_path: Path) -> None:
    with opened(tmp_path / "run") as run:
        run.take_in("a")
    exported(tmp_path / "run", tmp_path / "out.parquet", "parquet")
    for table in TABLES:
        read = pyarrow.parquet.read_table(tmp_path / "out.parquet" / table)
        assert (read.num_rows, read.column_names) == (0, names(TABLES[table].columns))


# ---------------------------------------------------------------------------------------------------- only what counts


@every_form
def test_bytes_behind_the_committed_length_are_never_read(tmp_path: Path, form: str) -> None:
    run, target = tmp_path / "run", target_of(tmp_path, form)
    small_run(run)
    for name in ROW_FILES:
        with (run / name).open("ab") as file:
            file.write(b'{"video_id":"torn","class_na')
    exported(run, target, form)
    check_whole(target, run)


@every_form
def test_a_second_export_adds_only_what_was_committed_since(tmp_path: Path, form: str) -> None:
    run, target = tmp_path / "run", target_of(tmp_path, form)
    small_run(run)
    exported(run, target, form)
    before = files_of(target)
    assert set(exported(run, target, form).rows.values()) == {0}
    if form != "duckdb":
        assert files_of(target) == before
    with opened(run) as one:
        one.take_in("x", "y", a_chunk=2)
        one.commit(end(5, matched=["x"], failed=["y"]))
    assert exported(run, target, form).rows["videos"] == 1
    check_whole(target, run)
    if form != "duckdb":
        kept = {name: content for name, content in before.items() if not name.startswith(FAILED)}
        assert kept.items() <= files_of(target).items()


@every_form
def test_a_video_that_a_retry_brings_leaves_the_failures(tmp_path: Path, form: str) -> None:
    run, target = tmp_path / "run", target_of(tmp_path, form)
    small_run(run)
    exported(run, target, form)
    assert [row["video_id"] for row in rows_of(target, FAILED)] == ["e"]
    with opened(run) as one:
        first = one.ledger.next_chunk_number()
        with one.ledger.atomic():
            assert one.ledger.take_again([], Packer(videos_of_unknown_duration=1, first_chunk=first), every=True) == 1
        meanwhile = exported(run, target, form)
        assert (bool(meanwhile.files), rows_of(target, FAILED)) == (True, []), "open again, and no news of a row"
        one.commit(end(first, matched=["e"]))
    exported(run, target, form)
    check_whole(target, run)
    states = [row["video_id"] for table in ("videos", FAILED) for row in rows_of(target, table)]
    assert sorted(states) == list("abcdef"), "each in exactly one state"


def files_of(target: Path) -> dict[str, bytes]:
    return {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}


# ---------------------------------------------------------------------------------------------------------- killed runs


class Exporter:
    """The program in ``exporter.py``, over its pipes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __call__(self, target: Path, *, killed_at: int = 0, slice_bytes: int = 4_000) -> tuple[int, int]:
        """Export, killed at a step where one is named; the exit code, and the steps where it was not."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{killed_at} {slice_bytes} {target}\n")
        self._process.stdin.flush()
        exit_code, steps = self._process.stdout.readline().split()
        return int(exit_code), int(steps)


@contextmanager
def exporting(*folders: Path) -> Iterator[Exporter]:
    command = [sys.executable, "-m", "tests.exporter", *map(str, folders)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        try:
            yield Exporter(process)
        finally:
            process.stdin.close()


@every_form
def test_an_export_killed_at_any_step_leaves_whole_rows_and_the_next_one_completes_it(
    tmp_path: Path, form: str
) -> None:
    run = tmp_path / "run"
    small_run(run)
    whole = {name: set(in_order(joined(run, table, rows_in(run / name)))) for table, name in GROWING.items()}
    with exporting(run) as exporter:
        exit_code, steps = exporter(target_of(tmp_path / "undisturbed", form))
        assert exit_code == 0
        for place in range(6):
            target = target_of(tmp_path / f"killed {place}", form)
            target.parent.mkdir()
            exit_code, _ = exporter(target, killed_at=1 + place * (steps - 1) // 5)
            assert exit_code == -9 or (place == 5 and exit_code == 0), "DuckDB's last steps are not always as many"
            if form == "parquet":
                for table, name in GROWING.items():
                    found = in_order(seen(target, table))
                    assert len(found) == len(set(found))
                    assert set(found) <= whole[name]
            assert exporter(target)[0] == 0
            check_whole(target, run)
            assert [path.name for path in target.parent.rglob("*draft*")] == []


def seen(target: Path, table: str) -> list[dict[str, Any]]:
    return rows_of(target, table) if list((target / table).glob("*.parquet")) else []


@pytest.mark.parametrize("form", ["parquet", "duckdb"])
def test_exports_of_a_run_that_goes_on_both_killed_again_and_again_end_with_every_row_once(
    tmp_path: Path, form: str
) -> None:
    run, target = tmp_path / "run", target_of(tmp_path, form)
    take_in(run, chunks=100)
    with committing(run) as committer, exporting(run) as exporter:
        for place in range(5):
            process = committer.begin_life()
            ended = committer.listen(5)
            exporter(target, killed_at=place * 70, slice_bytes=50_000)
            if ended is None:
                with suppress(ProcessLookupError):  # it may be ready by now
                    os.kill(process, signal.SIGKILL)
                committer.listen()
        for _ in ("parents", "children"):
            committer.begin_life()
            assert committer.listen() == 0
        assert exporter(target, slice_bytes=50_000)[0] == 0
    check_whole(target, run)


async def test_exports_while_the_run_command_is_at_work_see_what_it_has_committed(desk: Desk) -> None:
    videos = library(40)
    counts: list[int] = []

    def export_meanwhile(seen: RequestSeen) -> None:
        if seen.kind == "post" and seen.number in {3, 7}:  # others are answered, and the run waits for this answer
            counts.append(exported(desk.out, desk.folder / "out.parquet", "parquet").rows["videos"])

    async with ContractServer(videos, key=KEY, faults=export_meanwhile) as server:
        desk.write_ids(videos)
        desk.write_config(server.url, limits__max_videos_per_post=4, limits__concurrency=1)
        finished = await desk.command("run", desk.config)
        assert finished.exit_code == 0, finished.stderr
    assert len(counts) == 2
    counts.append(exported(desk.out, desk.folder / "out.parquet", "parquet").rows["videos"])
    assert sum(counts) == 40
    assert all(counts), "each export found something new"
    check_whole(desk.folder / "out.parquet", desk.out)


# ------------------------------------------------------------------------------------------------------------- refused


def test_a_folder_that_is_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    small_run(tmp_path / "run")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters/a.txt").write_text("dear")
    with pytest.raises(UsageError, match="holds something else"):
        exported(tmp_path / "run", tmp_path / "letters", "parquet")
    assert files_of(tmp_path / "letters") == {"a.txt": b"dear"}
    with pytest.raises(UsageError, match="holds something else"):
        exported(tmp_path / "run", tmp_path / "run", "csv")
    exported(tmp_path / "run", tmp_path / "out", "csv")
    with pytest.raises(UsageError, match=r"holds an export to csv .* parquet .* needs another folder"):
        exported(tmp_path / "run", tmp_path / "out", "parquet")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with pytest.raises(StorageError, match="link"):
        exported(tmp_path / "run", tmp_path / "link", "csv")


def test_a_file_that_is_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    small_run(tmp_path / "run")
    letter, foreign, link = tmp_path / "letter.duckdb", tmp_path / "foreign.duckdb", tmp_path / "link.duckdb"
    letter.write_bytes(b"a letter, and no database")
    with pytest.raises(UsageError, match="not a DuckDB file"):
        exported(tmp_path / "run", letter, "duckdb")
    assert letter.read_bytes() == b"a letter, and no database"
    with duckdb.connect(foreign) as database:
        database.execute("CREATE TABLE scores (a INTEGER)")
    with pytest.raises(UsageError, match="not an export of this version"):
        exported(tmp_path / "run", foreign, "duckdb")
    link.symlink_to(foreign)
    with pytest.raises(UsageError, match="symbolic link"):
        exported(tmp_path / "run", link, "duckdb")


def test_what_is_no_run_directory_or_has_a_link_in_it_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    small_run(tmp_path / "run")
    with pytest.raises(UsageError, match="not a run directory"):
        exported([tmp_path / "run", tmp_path / "absent"], tmp_path / "out", "parquet")
    (tmp_path / "run" / SCORES).rename(tmp_path / "elsewhere")
    (tmp_path / "run" / SCORES).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="holds no links"):
        exported(tmp_path / "run", tmp_path / "out", "parquet")
    assert not (tmp_path / "out").exists()


@every_form
def test_an_older_copy_of_a_run_and_one_that_lost_rows_are_refused(tmp_path: Path, form: str) -> None:
    run, older, target = tmp_path / "run", tmp_path / "older", target_of(tmp_path, form)
    with opened(run) as one:
        one.take_in("a", "b")
        one.commit(end(1, matched=["a"]))
    shutil.copytree(run, older)
    with opened(run) as one:
        one.commit(end(2, matched=["b"]))
    exported(run, target, form)
    with pytest.raises(StorageError, match="older copy"):
        exported(older, target, form)
    os.truncate(run / SCORES, 10)
    with pytest.raises(StorageError, match="bytes of committed rows are missing"):
        exported(run, target, form)


def test_a_file_that_was_taken_away_from_an_export_is_missed(tmp_path: Path) -> None:
    small_run(tmp_path / "run")
    with folder_target(tmp_path / "out", "csv", slice_bytes=300) as target:
        target.add(tmp_path / "run")
    first, *_ = sorted((tmp_path / "out/scores").iterdir())
    first.unlink()
    with pytest.raises(StorageError, match=r"begins at 0 is not there"):
        exported(tmp_path / "run", tmp_path / "out", "csv")


def test_damaged_rows_end_the_export_with_one_line_and_no_file_of_theirs(tmp_path: Path) -> None:
    run = tmp_path / "run"
    small_run(run)
    content = (run / SCORES).read_bytes()
    (run / SCORES).write_bytes(b"}" + content[1:])
    with pytest.raises(StorageError) as caught:
        exported(run, tmp_path / "out", "parquet")
    said = f"{run / SCORES}: not the rows that were written; `bulk-classify verify {run}` tells what has changed"
    assert str(caught.value) == said
    assert list((tmp_path / "out/scores").iterdir()) == []


def test_a_target_in_use_is_refused(tmp_path: Path) -> None:
    small_run(tmp_path / "run")
    (tmp_path / "out").mkdir()
    with held(tmp_path / "out"), pytest.raises(RunHeld, match="another process is at work in it"):
        exported(tmp_path / "run", tmp_path / "out", "parquet")


def export_with_files_of(blocks: int, desk: Desk, to: str) -> subprocess.CompletedProcess[bytes]:
    """An export where no file can be longer than so many blocks of 512 bytes, as where the disk is full."""
    return subprocess.run(
        ["sh", "-c", f"ulimit -f {blocks}; exec {sys.executable} -m pipeline export out {to}"],
        check=False,
        capture_output=True,
        cwd=desk.folder,
        env={
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",  # such a file would be cut off too
            "PATH": os.environ["PATH"],
            "HOME": str(desk.folder),
        },
    )


@every_form
def test_a_full_disk_ends_with_74_and_one_line_and_the_next_export_completes_it(desk: Desk, form: str) -> None:
    small_run(desk.out)
    target = target_of(desk.folder, form)
    if form == "duckdb":
        exported(desk.out, target, form)
        with opened(desk.out) as one:
            one.take_in(*(f"v{number}" for number in range(3_000)), a_chunk=3_000)
            one.commit(end(5, matched=[f"v{number}" for number in range(3_000)]))
    to = f"--to {target} {'' if form == 'duckdb' else '--format ' + form}"
    limit = 1 if form != "duckdb" else target.stat().st_size // 512  # of a file, in blocks of 512 bytes
    finished = export_with_files_of(limit, desk, to)
    assert (finished.returncode, len(finished.stderr.splitlines())) == (74, 1), finished.stderr
    exported(desk.out, target, form)
    check_whole(target, desk.out)


@pytest.mark.parametrize("blocks", [20, 200, 400])
def test_a_disk_that_is_full_while_a_database_is_made_leaves_nothing_that_would_hinder_the_next(
    desk: Desk, blocks: int
) -> None:
    small_run(desk.out)
    target = target_of(desk.folder, "duckdb")
    finished = export_with_files_of(blocks, desk, f"--to {target}")
    assert (finished.returncode, len(finished.stderr.splitlines())) == (74, 1), finished.stderr
    assert list(desk.folder.glob(".*draft*")) == []
    exported(desk.out, target, "duckdb")
    check_whole(target, desk.out)


def test_the_command_tells_its_facts_and_wants_to_know_the_form(desk: Desk) -> None:
    small_run(desk.out)
    told = anyio.run(desk.command, "export", "out", "--to", "tables", "--format", "csv", "--json")
    facts = json.loads(told.stdout)
    assert list(facts) == [field.name for field in dataclasses.fields(Exported)]
    assert facts["rows"]["failures"] == 1
    assert len(facts["files"]) == len(TABLES)
    again = anyio.run(desk.command, "export", "out", "--to", "tables", "--format", "csv")
    assert (again.exit_code, again.stdout) == (0, "tables is up to date: nothing was committed since the last export\n")
    for options in (["--to", "tables"], ["--to", "x.duckdb", "--format", "csv"]):
        refused = anyio.run(desk.command, "export", "out", *options)
        assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)


@every_form
def test_ctrl_c_ends_with_130_and_one_line_and_the_next_export_completes_it(tmp_path: Path, form: str) -> None:
    run, target = tmp_path / "run", target_of(tmp_path, form)
    small_run(run)
    # It comes when rows go in, which is when DuckDB is at work.
    interrupted = """
import os, signal, sys, threading
signal.signal(signal.SIGINT, signal.default_int_handler)
def stop(frame, event, argument):
    if frame.f_code.co_name == "blocks":
        threading.setprofile(None)
        sys.setprofile(None)
        os.kill(os.getpid(), signal.SIGINT)
threading.setprofile(stop)
from pipeline.cli import main
main()
"""
    options = [] if form == "duckdb" else ["--format", form]
    done = subprocess.run(
        [sys.executable, "-c", interrupted, "export", run, "--to", target, *options],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        check=False,
    )
    said = f"error: stopped; what {target} holds is whole, and the same command adds the rest\n"
    assert (done.returncode, done.stderr) == (130, said)
    exported(run, target, form)
    check_whole(target, run)


@every_form
def test_a_target_that_is_not_utf_8_is_refused_and_a_run_directory_may_be_so(tmp_path: Path, form: str) -> None:
    run, target = tmp_path / os.fsdecode(b"run \xff"), target_of(tmp_path, form)
    try:
        small_run(run)
    except StorageError:  # a file system that takes no such name
        run = tmp_path / "run"
        small_run(run)
    with pytest.raises(UsageError, match="not a path in UTF-8"):
        exported(run, tmp_path / os.fsdecode(b"\xff") / target.name, form)
    assert list(tmp_path.iterdir()) == [run]
    exported(run, target, form)
    check_whole(target, run)


def test_a_database_that_another_export_makes_meanwhile_is_added_to(tmp_path: Path) -> None:
    run, target = tmp_path / "run", tmp_path / "out.duckdb"
    small_run(run)

    def make_it_too(frame: FrameType, _event: str, _argument: object) -> None:
        if frame.f_code.co_name == "hardlink_to":
            sys.setprofile(None)
            exported(run, target, "duckdb")

    sys.setprofile(make_it_too)
    try:
        added = exported(run, target, "duckdb")
    finally:
        sys.setprofile(None)
    assert set(added.rows.values()) == {0}
    check_whole(target, run)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.duckdb", "run"]


def test_without_duckdb_one_line_says_what_to_install(tmp_path: Path) -> None:
    small_run(tmp_path / "run")
    hidden = "import sys; sys.modules['duckdb'] = None; from pipeline.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", hidden, "export", "run", "--to", "out", "--format", "csv"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    needed = "error: export needs DuckDB, which is an extra: pip install 'bulk-classify[analytics]'\n"
    assert (done.returncode, done.stderr) == (2, needed)


# ------------------------------------------------------------------------------------------------------ CSV and DuckDB


def test_csv_neutralises_text_that_a_spreadsheet_would_take_for_a_formula_and_no_number(tmp_path: Path) -> None:
    texts = ["=1+1", "+1", "-1", "@a", "\tb", "\rc", "'d", "\uff1de", 'say "f", g', "h\r\ni", "ordinary"]
    classes = tuple(
        ClassScore(text, -0.5, 0.5, (Clip(0, 1, 5, "visual", text, None),), DetailedScores(1, 1, 1)) for text in texts
    )
    with opened(tmp_path / "run") as run:
        run.take_in("-7", a_chunk=1)
        run.commit(End(end(1, matched=["-7"]).settlement, [Result("-7", classes)]))
    exported(tmp_path / "run", tmp_path / "out.csv", "csv")
    (written,) = (tmp_path / "out.csv/scores").iterdir()
    content = written.read_bytes()
    assert content.startswith(b"video_id,class_name,score,")
    with written.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    starts = ("=", "+", "-", "@", "\t", "\r", "'", "\uff1d")
    assert sorted(row["class_name"] for row in rows) == sorted(
        f"'{text}" if text.startswith(starts) else text for text in texts
    )
    assert {(row["video_id"], row["score"]) for row in rows} == {("'-7", "-0.5")}
    assert content.count(b"\r\n") == len(texts) + 2, "every line, and the one inside a text"
    check_whole(tmp_path / "out.csv", tmp_path / "run")


def test_every_table_view_and_column_of_a_database_has_a_comment(tmp_path: Path) -> None:
    small_run(tmp_path / "run")
    exported(tmp_path / "run", tmp_path / "out.duckdb", "duckdb")
    with duckdb.connect(tmp_path / "out.duckdb", read_only=True) as database:
        tables = dict(database.execute("SELECT table_name, comment FROM duckdb_tables()").fetchall())
        views = dict(database.execute("SELECT view_name, comment FROM duckdb_views() WHERE NOT internal").fetchall())
        columns = database.execute(
            "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE table_name IN (FROM (VALUES "
            + ", ".join(f"('{name}')" for name in tables)
            + "))"
        ).fetchall()
    assert tables == {name: table.comment for name, table in {**TABLES, "runs": RUNS}.items()}
    assert views == {name: comment for name, (comment, _) in VIEWS.items()}
    assert sorted(columns) == sorted(
        (name, one.name, one.comment) for name, table in {**TABLES, "runs": RUNS}.items() for one in table.columns
    )


def test_the_views_of_a_database_say_what_their_comments_say(tmp_path: Path) -> None:
    one, other, target = tmp_path / "one", tmp_path / "other", tmp_path / "out.duckdb"
    small_run(one)
    another_run(other, "20260203T000000Z-fedcba", "b-job")
    for folder in (one, other):
        remember_source(folder)
    exported([one, other], target, "duckdb")
    scores = rows_of(target, "scores")
    latest = rows_of(target, "latest_scores")
    key = ("score_source", "video_id", "class_hash", "class_name")
    assert len(latest) == len({tuple(row[name] for name in key) for row in scores})
    states = [(row["run_id"], row["video_id"], row["status"]) for row in rows_of(target, "video_states")]
    assert len(states) == len(set(states)) == 12
    summary = {(row["run_id"], row["class_name"]): row["videos"] for row in rows_of(target, "class_summary")}
    assert summary[RUN_ID, "class 0"] == len(
        [row for row in scores if row["run_id"] == RUN_ID and row["class_name"] == "class 0"]
    )
    assert [(row["code"], row["videos"]) for row in rows_of(target, "failure_summary")] == [("video_refused", 1)] * 2
