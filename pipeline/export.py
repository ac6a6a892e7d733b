"""What ``export`` does: the committed rows of run directories, added to a folder of files or to a DuckDB file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.committed import checked_manifest
from pipeline.errors import Interrupted, UsageError
from pipeline.export_database import DatabaseTarget, database_target
from pipeline.export_folder import FolderTarget, folder_target
from pipeline.wording import counted

Form = Literal["parquet", "csv", "duckdb"]


@dataclass(frozen=True, slots=True)
class Exported:
    """What one export added. ``files`` are named from ``target`` on; ``rows`` are counted by table.

    Of the failures, which are replaced, all that now stand are counted, where they have changed.
    """

    target: str
    format: Form
    runs: Sequence[str]
    files: Sequence[str]
    rows: Mapping[str, int]


def export(folders: Sequence[Path], target: Path, form: Literal["parquet", "csv"] | None) -> Exported:
    """Add what these runs have committed since the last export to the target: a folder, or a file ``….duckdb``.

    Raises ``UsageError`` for what is no run directory and for a target that is something else, before anything is
    written; ``RunHeld`` where the target is in use, ``Interrupted`` at Ctrl-C, and ``StorageError``.
    """
    chosen = form_of(target, form)
    runs = {checked_manifest(folder).run_id: folder for folder in folders}
    try:
        with _opened(target, chosen) as opened:
            for folder in folders:
                opened.add(folder)
    except KeyboardInterrupt:
        raise Interrupted(f"stopped; what {target} holds is whole, and the same command adds the rest") from None
    return Exported(str(target), chosen, list(runs), opened.files, opened.rows)


def form_of(target: Path, form: Literal["parquet", "csv"] | None) -> Form:
    """What is written to a target. Raises ``UsageError`` where that is not said or said twice, or cannot be named."""
    path = str(target.absolute())
    try:
        path.encode()
    except UnicodeEncodeError:
        raise UsageError(f"--to {path!a}: not a path in UTF-8, as DuckDB needs; give another one") from None
    if target.suffix == ".duckdb":
        if form is not None:
            raise UsageError(f"--to {target} is a DuckDB file: leave --format out")
        return "duckdb"
    if form is None:
        raise UsageError(
            f"--to {target}: say --format parquet or csv for a folder, or name a file that ends in .duckdb"
        )
    return form


def _opened(target: Path, form: Form) -> AbstractContextManager[FolderTarget | DatabaseTarget]:
    return database_target(target) if form == "duckdb" else folder_target(target, form)


def in_words(exported: Exported) -> Iterator[str]:
    """The facts for people, a line each."""
    rows = ", ".join(counted(number, table.removesuffix("s")) for table, number in exported.rows.items())
    if exported.files:
        yield f"exported to {exported.target}: {rows}; {counted(len(exported.files), 'file')} written"
    else:
        yield f"{exported.target} is up to date: nothing was committed since the last export"
