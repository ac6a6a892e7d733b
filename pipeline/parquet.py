"""Rows of a Parquet file, by DuckDB, which is an extra: a block of rows in memory, and one clear line for a failure."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.lines import BadFile
from pipeline.wording import escaped

if TYPE_CHECKING:
    import duckdb

_SOURCE = "FROM read_parquet(?, hive_partitioning = false)"  # columns named by the path (a=b/) are not the file's
# Nothing is fetched from the network.
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "memory_limit": "512MB",
    "threads": 1,
}


class ParquetFile:
    """An open Parquet file. ``columns`` are the names of its columns, in their order."""

    def __init__(self, database: duckdb.DuckDBPyConnection, path: Path) -> None:
        self._database = database
        self._parameters = [glob.escape(str(path.resolve()))]
        described = database.execute(f"DESCRIBE SELECT * {_SOURCE}", self._parameters).fetchall()
        self.columns: Sequence[str] = [row[0] for row in described]

    def rows(self, columns: Mapping[str, tuple[str, str]], *, at_once: int = 2_048) -> Iterator[dict[str, Any]]:
        """Every row, as the given names with the values of their columns cast to their SQL types."""
        selected = ", ".join(f"{_quoted(column)}::{kind}" for column, kind in columns.values())
        found = self._database.execute(f"SELECT {selected} {_SOURCE}", self._parameters)
        while block := found.fetchmany(at_once):
            for row in block:
                yield dict(zip(columns, row, strict=True))


@contextmanager
def open_parquet(path: Path) -> Iterator[ParquetFile]:
    """A Parquet file to read. Raises ``BadFile`` for one that DuckDB cannot read, and where DuckDB is not installed."""
    try:
        import duckdb  # noqa: PLC0415 - an optional extra
    except ImportError:
        raise BadFile("Parquet is read by DuckDB, which is an extra: pip install 'bulk-classify[analytics]'") from None
    try:
        with duckdb.connect(config=_SETTINGS) as database:
            database.execute("SET enable_progress_bar = false")  # it would go to stdout, terminal or not
            yield ParquetFile(database, path)
    except duckdb.Error as error:
        raise BadFile(f"DuckDB cannot read it: {escaped(str(error).splitlines()[0])}") from None


def _quoted(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'
