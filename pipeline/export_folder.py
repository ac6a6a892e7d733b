"""An export to a folder of Parquet or CSV files: a subfolder a table, and in it files that never change.

A file's name says what is in it: the run, and which bytes of the run's own file of rows. So the names in the folder are
all that has to be known to add only what was committed since, however the last export ended, and nothing is written
twice. A file is made under another name, synced, and renamed into its place. The failures of a run are one file, which
is replaced where they have changed; first of all, so that no video ever stands in two tables.
"""

from __future__ import annotations

import filecmp
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from pipeline.committed import Committed, blocks, committed, opened_rows, slices
from pipeline.errors import RunHeld, StorageError, UsageError
from pipeline.export_engine import SLICE_BYTES, Engine, engine, piped
from pipeline.export_tables import FAILED, GROWING, TABLES, quoted, selection
from pipeline.rundir import (
    LEDGER,
    create_private,
    held,
    make_private,
    replace_file,
    sync_content,
    sync_folder,
    translated,
)

MARKER = "export.json"
_FORMAT = 1
_OPTIONS = {
    "parquet": "FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false",
    "csv": "FORMAT csv, HEADER true, NEW_LINE e'\\r\\n', USE_TMP_FILE false",  # RFC 4180 ends lines so
}


class _Marker(msgspec.Struct):
    """What an export's folder says of itself."""

    format: int
    files: str


class FolderTarget:
    """A folder that takes exports of one form. ``files`` are those that were written, ``rows`` how many, by table."""

    def __init__(self, folder: Path, form: str, database: Engine, slice_bytes: int) -> None:
        self._folder = folder
        self._form = form
        self._database = database
        self._slice_bytes = slice_bytes
        self.files: list[str] = []
        self.rows = dict.fromkeys(TABLES, 0)

    def add(self, run_folder: Path) -> None:
        """Add what a run has committed since the last time."""
        with committed(run_folder) as (run, failures):
            self._database.join(run)
            self._write(FAILED, f"{run.run_id}.{self._form}", failures, run.folder / LEDGER)
        for table, rows_name in GROWING.items():
            with opened_rows(run.folder / rows_name, run.lengths[rows_name]) as descriptor:
                for start, stop in self._missing(run, table, descriptor):
                    # Fifteen digits, so that files sort as their rows follow on each other.
                    name = f"{run.run_id}-{start:015}-{stop:015}.{self._form}"
                    self._write(table, name, blocks(descriptor, start, stop), run.folder / rows_name)

    def _missing(self, run: Committed, table: str, descriptor: int) -> Iterator[tuple[int, int]]:
        """The byte ranges that are still to be exported. Where there is no file at all, the first may be empty."""
        ranges = sorted(self._exported(run.run_id, table))
        length = run.lengths[GROWING[table]]
        end = 0
        for start, stop in ranges:
            if start != end:
                raise StorageError(
                    f"{self._folder / table}: the file of {run.run_id} that begins at {end} is not there; "
                    "put it back, or export to another folder"
                )
            end = stop
        if end > length:
            raise StorageError(
                f"{self._folder / table}: holds more of {run.run_id} than {run.folder} does, which is an older copy"
            )
        if not ranges and not length:
            yield 0, 0
        yield from slices(descriptor, end, length, self._slice_bytes)

    def _exported(self, run_id: str, table: str) -> Iterator[tuple[int, int]]:
        name = re.compile(rf"{re.escape(run_id)}-(\d{{15}})-(\d{{15}})\.{self._form}")
        with translated(self._folder):
            for path in (self._folder / table).iterdir():
                if found := name.fullmatch(path.name):
                    yield int(found[1]), int(found[2])

    def _write(self, table: str, name: str, lines: Iterable[bytes], origin: Path) -> None:
        path = self._folder / table / name
        draft = self._folder / f".draft.{self._form}"
        with translated(draft):
            draft.unlink(missing_ok=True)
        create_private(draft)
        with piped(lines, origin) as source:
            query = selection(TABLES[table], source, as_text=self._form == "csv")
            rows = self._database.count(f"COPY ({query}) TO {quoted(str(draft))} ({_OPTIONS[self._form]})")
        with translated(path):
            if path.exists() and filecmp.cmp(draft, path, shallow=False):
                draft.unlink()
                return
            _make_durable(draft)
            draft.replace(path)
            sync_folder(path.parent)
        self.files.append(f"{table}/{name}")
        self.rows[table] += rows


@contextmanager
def folder_target(folder: Path, form: str, *, slice_bytes: int = SLICE_BYTES) -> Iterator[FolderTarget]:
    """A folder to add runs to, made where there is none, and held against other exports meanwhile.

    Raises ``UsageError`` for a folder that holds something else, ``RunHeld`` where another export is at work in it.
    """
    with translated(folder):
        make_private(folder)
    with _held(folder):
        _claim(folder, form)
        with engine(folder) as database:
            yield FolderTarget(folder, form, database, slice_bytes)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    try:
        with held(folder):
            yield
    except RunHeld:
        raise RunHeld(f"{folder}: another process is at work in it; wait for it or stop it first") from None


def _claim(folder: Path, form: str) -> None:
    """Make a folder one for exports of this form, unless it is one. Raises ``UsageError`` for any other."""
    marker = folder / MARKER
    with translated(folder):
        if not marker.is_file():
            if any(not path.name.startswith(f".{MARKER}") for path in folder.iterdir()):  # a kill may leave its draft
                raise UsageError(f"{folder}: holds something else than an export; give a folder that is empty or new")
            replace_file(marker, msgspec.json.encode(_Marker(_FORMAT, form)) + b"\n")
        try:
            found = msgspec.json.decode(marker.read_bytes(), type=_Marker)
        except msgspec.MsgspecError:
            raise UsageError(f"{marker}: not what bulk-classify writes; give a folder that is empty or new") from None
        if found != _Marker(_FORMAT, form):
            raise UsageError(
                f"{folder}: holds an export to {found.files} (format {found.format}); this one, to {form} "
                f"(format {_FORMAT}), needs another folder"
            )
        for table in TABLES:
            make_private(folder / table)
            if not stat.S_ISDIR((folder / table).lstat().st_mode):
                raise UsageError(f"{folder / table}: not a directory, or a symbolic link")


def _make_durable(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        sync_content(descriptor)
    finally:
        os.close(descriptor)
