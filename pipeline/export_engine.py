"""DuckDB at the service of an export: rows go in through a pipe, so just the bytes that count are read, and no copy.

Rules: nothing is fetched from the network; memory is bounded, and what does not fit is spilled beside the target;
whatever DuckDB says against it becomes one line of ours. DuckDB is an extra, and is imported here only when needed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.committed import Committed
from pipeline.errors import RunHeld, StorageError, UsageError
from pipeline.export_tables import JOINED_TABLES
from pipeline.wording import escaped

if TYPE_CHECKING:
    import duckdb

SLICE_BYTES = 64 << 20
"""NDJSON that is sorted and written together: a quarter of a million rows, which sort in the memory that there is."""


class Engine:
    """An open database."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def execute(self, statement: str, *values: object) -> None:
        """Carry out a statement."""
        self._connection.execute(statement, values)

    def count(self, statement: str) -> int:
        """Carry out a statement that says how many rows it wrote."""
        return int(self.rows(statement)[0][0])

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        return self._connection.execute(query, values).fetchall()

    def join(self, run: Committed) -> None:
        """Let the rows that follow belong to this run."""
        for statement in JOINED_TABLES:
            self.execute(statement)
        self.execute("INSERT INTO run VALUES (?, ?)", run.job_name, run.score_source)
        for name, class_hash in run.class_hashes.items():
            self.execute("INSERT INTO class VALUES (?, ?)", name, class_hash)


@contextmanager
def engine(target: Path, *, database: Path | None = None) -> Iterator[Engine]:
    """A database in memory, or that of a file. Raises ``StorageError`` for what fails inside, naming the target.

    Raises ``UsageError`` where DuckDB is not installed, ``RunHeld`` where another process has the file open.
    """
    try:
        import duckdb  # noqa: PLC0415 - an optional extra
    except ImportError:
        raise UsageError("export needs DuckDB, which is an extra: pip install 'bulk-classify[analytics]'") from None
    spill = Path(f"{database}.spill") if database else target / ".spill"
    settings: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "memory_limit": "400MB",
        "threads": 2,  # each one takes buffers of its own, whatever the limit says
        "temp_directory": str(spill),
    }
    try:
        # An absolute path, because DuckDB takes what stands before a colon for the name of a service.
        with duckdb.connect(database.absolute() if database else ":memory:", config=settings) as connection:
            for left_behind in spill.glob("duckdb_temp*"):  # by a killed export; the target is ours alone
                left_behind.unlink(missing_ok=True)
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute("SET enable_progress_bar = false")  # it would go to stdout, terminal or not
            yield Engine(connection)
    except duckdb.Error as error:
        told = escaped(next(iter(str(error).splitlines()), ""))
        if "Could not set lock" in told:
            raise RunHeld(f"{target}: another process has it open; close it there first") from None
        raise StorageError(f"{target}: DuckDB cannot go on: {told}") from None
    except RuntimeError as error:
        if str(error) != "Query interrupted":  # what DuckDB makes of a Ctrl-C
            raise
        raise KeyboardInterrupt from None


@contextmanager
def piped(lines: Iterable[bytes], origin: Path) -> Iterator[str]:
    """A path at which these bytes can be read, once and from front to back; what fails in making them is raised.

    Raises ``StorageError`` that names their ``origin``, a file of a run directory, where DuckDB cannot read them.
    """
    import duckdb  # noqa: PLC0415 - an optional extra, which is there by now

    reader, writer = os.pipe()
    failures: list[Exception] = []
    feeding = threading.Thread(target=_feed, args=(writer, lines, failures), daemon=True)
    feeding.start()
    try:
        yield f"/dev/fd/{reader}"
    except (duckdb.ConversionException, duckdb.InvalidInputException):
        raise StorageError(
            f"{origin}: not the rows that were written; `bulk-classify verify {origin.parent}` tells what has changed"
        ) from None
    finally:
        os.close(reader)
        feeding.join()
    # The reader took the end that came too early for the end, so nobody else knows.
    for failure in failures:
        raise failure


def _feed(descriptor: int, lines: Iterable[bytes], failures: list[Exception]) -> None:
    try:
        with os.fdopen(descriptor, "wb") as pipe:
            for block in lines:
                pipe.write(block)
    except BrokenPipeError:
        pass  # the reader has stopped early, and says why
    except Exception as error:  # noqa: BLE001 - raised where the thread is waited for
        failures.append(error)
