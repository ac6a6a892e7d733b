"""An export to one DuckDB file: a table each, views over them, and a comment on every table, view and column.

All that one export adds is one transaction, and how far each run has been exported is in it, in ``runs``: so whatever
ends it, the file has all of it or nothing. A file that is new is made under another name, with its empty tables, and
then put in its place, because DuckDB cannot open what a kill leaves of a file that is being made.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.committed import Committed, blocks, committed, opened_rows, slices
from pipeline.errors import StorageError, UsageError
from pipeline.export_engine import SLICE_BYTES, Engine, engine, piped
from pipeline.export_tables import FAILED, GROWING, TABLES, Column, Table, names, quoted, selection
from pipeline.rundir import LEDGER, make_private, sync_folder, translated

RUNS = Table(
    "A row for each run that was exported, and how far",
    (
        Column("run_id", "VARCHAR", "the run"),
        Column("job_name", "VARCHAR", "name in the config of the run"),
        Column("score_source", "VARCHAR", "whose scale the scores are on; null until the first answer"),
        Column("directory", "VARCHAR", "the run directory, as it was last given"),
        *(
            Column(f"{table}_bytes", "BIGINT", f"the bytes of {name} that are in {table}")
            for table, name in GROWING.items()
        ),
        Column("exported_at", "TIMESTAMP WITH TIME ZONE", "when something was last looked for"),
    ),
    (),
    "run_id",
)

VIEWS = {
    "latest_scores": (
        "The newest row of each video and class, over all runs: one for each score_source, video_id and class_hash",
        (
            "SELECT * FROM scores QUALIFY row_number() OVER (PARTITION BY score_source, video_id, "
            "class_hash, class_name ORDER BY classified_at DESC, run_id DESC) = 1"
        ),
    ),
    "class_summary": (
        "For each class of each run: how many videos matched, and how well",
        (
            "SELECT score_source, job_name, run_id, class_name, class_hash, count(*) AS videos, "
            "avg(score) AS mean_score, median(score) AS median_score, max(score) AS best_score, "
            "avg(duration_ratio) AS mean_duration_ratio FROM scores GROUP BY ALL"
        ),
    ),
    "video_states": (
        "Every video of each run that has come to an end, in exactly one state: scored, no_match or failed",
        (
            "SELECT run_id, video_id, status, NULL AS code FROM videos "
            "UNION ALL SELECT run_id, video_id, 'failed', code FROM failures"
        ),
    ),
    "failure_summary": (
        "For each run: how many videos failed, by code",
        (
            "SELECT run_id, code, retryable, count(*) AS videos, max(failed_at) AS last_failed_at "
            "FROM failures GROUP BY ALL"
        ),
    ),
}
"""The views by name, each with what it is and its query."""


class DatabaseTarget:
    """A DuckDB file inside its transaction. ``files`` is that file if it was changed, ``rows`` how many were added."""

    def __init__(self, path: Path, database: Engine, slice_bytes: int) -> None:
        self._path = path
        self._database = database
        self._slice_bytes = slice_bytes
        self._is_changed = False
        self.rows = dict.fromkeys(TABLES, 0)

    @property
    def files(self) -> list[str]:
        """The file's name, where this export added rows or took failures out."""
        return [self._path.name] if self._is_changed or any(self.rows.values()) else []

    def add(self, run_folder: Path) -> None:
        """Add what a run has committed since the last time."""
        with committed(run_folder) as (run, failures):
            self._database.join(run)
            self._replace_failures(run, failures)
        counted = ", ".join(f"{table}_bytes" for table in GROWING)
        ends = self._database.rows(f"SELECT {counted} FROM runs WHERE run_id = ?", run.run_id)
        for (table, name), end in zip(GROWING.items(), ends[0] if ends else (0, 0, 0), strict=True):
            self._add_rows(run, table, name, end)
        self._database.execute("DELETE FROM runs WHERE run_id = ?", run.run_id)
        self._database.execute(
            "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, now())",
            run.run_id,
            run.job_name,
            run.score_source,
            os.fsencode(run.folder).decode(errors="replace"),  # it need not be UTF-8, as DuckDB's text is
            *(run.lengths[name] for name in GROWING.values()),
        )

    def _replace_failures(self, run: Committed, failures: Iterable[bytes]) -> None:
        with piped(failures, run.folder / LEDGER) as source:
            query = selection(TABLES[FAILED], source, as_text=False)
            self._database.execute(f"CREATE OR REPLACE TEMP TABLE standing AS {query}")
        stored = f"FROM {FAILED} WHERE run_id = ?"
        differ = f"(FROM standing EXCEPT {stored}) UNION ALL ({stored} EXCEPT FROM standing)"
        if self._database.rows(f"SELECT count(*) FROM ({differ})", run.run_id, run.run_id)[0][0]:
            self._is_changed = True
            self._database.execute(f"DELETE {stored}", run.run_id)
            self.rows[FAILED] += self._database.count(f"INSERT INTO {FAILED} FROM standing")

    def _add_rows(self, run: Committed, table: str, name: str, end: int) -> None:
        length = run.lengths[name]
        if end > length:
            raise StorageError(
                f"{self._path}: holds more of {run.run_id} than {run.folder} does, which is an older copy"
            )
        with opened_rows(run.folder / name, length) as descriptor:
            for start, stop in slices(descriptor, end, length, self._slice_bytes):
                self._insert(table, blocks(descriptor, start, stop), run.folder / name)

    def _insert(self, table: str, lines: Iterable[bytes], origin: Path) -> None:
        with piped(lines, origin) as source:
            query = selection(TABLES[table], source, as_text=False)
            self.rows[table] += self._database.count(f"INSERT INTO {table} {query}")


@contextmanager
def database_target(path: Path, *, slice_bytes: int = SLICE_BYTES) -> Iterator[DatabaseTarget]:
    """A DuckDB file to add runs to, made where there is none; it is as before where the context raises.

    Raises ``UsageError`` for a file that is something else, ``RunHeld`` where another process has it open.
    """
    with translated(path):
        make_private(path.parent)
        if not os.path.lexists(path):
            _make(path)
        if not stat.S_ISREG(path.lstat().st_mode):
            raise UsageError(f"{path}: not a regular file, or a symbolic link")
        with path.open("rb") as file:
            if file.read(12)[8:] != b"DUCK":  # where DuckDB's files have it, behind a checksum
                raise UsageError(f"{path}: not a DuckDB file; give another one")
    with engine(path, database=path) as database:
        _refuse_foreign(path, database)
        with translated(path):
            _sweep(path)
        database.execute("BEGIN")
        yield DatabaseTarget(path, database, slice_bytes)
        database.execute("COMMIT")


def _make(path: Path) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.draft")
    try:
        with suppress(FileExistsError, FileNotFoundError):  # another export was faster, and may have swept our draft
            with engine(path, database=draft) as database:
                draft.chmod(0o600)
                _lay_out(database)
                database.execute("CHECKPOINT")  # closing does it too, but says nothing where the disk is full
            path.hardlink_to(draft)
        sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)
        draft.with_name(f"{draft.name}.wal").unlink(missing_ok=True)


def _lay_out(database: Engine) -> None:
    for name, table in {**TABLES, "runs": RUNS}.items():
        columns = ", ".join(f'"{one.name}" {one.kind}' for one in table.columns)
        database.execute(f"CREATE TABLE {name} ({columns})")
        database.execute(f"COMMENT ON TABLE {name} IS {quoted(table.comment)}")
        for one in table.columns:
            database.execute(f'COMMENT ON COLUMN {name}."{one.name}" IS {quoted(one.comment)}')
    for name, (comment, query) in VIEWS.items():
        database.execute(f"CREATE VIEW {name} AS {query}")
        database.execute(f"COMMENT ON VIEW {name} IS {quoted(comment)}")


def _sweep(path: Path) -> None:
    """Take away what a killed export has left of a file that it was making."""
    for beside in path.parent.iterdir():
        if beside.name.startswith(f".{path.name}.") and ".draft" in beside.name and beside.is_file():
            beside.unlink(missing_ok=True)


def _refuse_foreign(path: Path, database: Engine) -> None:
    """An older or a foreign database would take no row, or take it for another one's."""
    found = database.rows(
        "SELECT table_name, list(column_name ORDER BY column_index) FROM duckdb_columns() "
        "WHERE database_name = current_database() AND schema_name = 'main' AND NOT internal GROUP BY table_name"
    )
    columns = dict(found)
    for name, table in {**TABLES, "runs": RUNS}.items():
        if columns.get(name) != names(table.columns):
            raise UsageError(f"{path}: a DuckDB file, but not an export of this version; give another one")
