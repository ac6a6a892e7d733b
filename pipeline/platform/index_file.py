"""An index's file: a SQLite database of ours, its schema, and how it is opened, read and changed.

- A file is ours by SQLite's application id, and readable by its user version; anything else is refused by its name.
- One connection behind a lock serves every thread: reads take milliseconds, and nothing can be left open.
- Every change is a transaction, durable when it ends: a kill leaves what was before it or what is after it.
- SQLite's errors become ours here, and nowhere else.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from pipeline.errors import StorageError, UsageError

SCHEMA_VERSION = 2
"""The format that is written and read."""

_APPLICATION_ID = int.from_bytes(b"bulk", "big")
# A matrix is a chain of pages, so that large ones are read faster (measured: 6 ms for ten hours, of 4,096 bytes 12 ms).
_PAGE_BYTES = 32_768
_BUSY_SECONDS = 30
_SCHEMA = """
CREATE TABLE index_facts (
    index_id TEXT NOT NULL, name TEXT NOT NULL, space TEXT, dimensions INTEGER, created_at REAL NOT NULL,
    updated_at REAL NOT NULL
) STRICT;
CREATE TABLE video (
    video_key INTEGER PRIMARY KEY, video_id TEXT NOT NULL UNIQUE, filename TEXT NOT NULL,
    duration_seconds REAL NOT NULL, created_at REAL NOT NULL, updated_at REAL NOT NULL, revision TEXT NOT NULL
) STRICT;
CREATE TABLE track (
    video_key INTEGER NOT NULL REFERENCES video ON DELETE CASCADE, option TEXT NOT NULL, starts BLOB NOT NULL,
    ends BLOB NOT NULL, vectors BLOB NOT NULL, texts TEXT NOT NULL, PRIMARY KEY (video_key, option)
) STRICT;
CREATE INDEX option_of_track ON track (option, length(vectors));
CREATE TABLE calibration (option TEXT PRIMARY KEY, steepness REAL NOT NULL, midpoint REAL NOT NULL) STRICT;
CREATE TABLE prompt (
    prompt_key INTEGER PRIMARY KEY, space TEXT NOT NULL, text TEXT NOT NULL, vector BLOB NOT NULL, UNIQUE (space, text)
) STRICT;
"""


class IndexFile:
    """The open file of one index. Close it, or use it as a context manager. Its methods may be called from any thread.

    Every method raises ``StorageError`` where the file or the disk fails. ``clock`` gives seconds since the epoch.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, clock: Callable[[], float]) -> None:
        self.path = path
        self._connection = connection
        self._clock = clock
        self._lock = threading.RLock()

    @classmethod
    def create(cls, path: Path, index_id: str, name: str, *, clock: Callable[[], float] = time.time) -> Self:
        """A new, empty index. Raises ``UsageError`` where the file exists."""
        if path.exists():
            raise UsageError(f"{path} exists already: name another file, or remove it first")
        opened = cls(path, _connect(path), clock)
        try:
            with opened._guarded() as database:
                database.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
                database.execute("PRAGMA journal_mode = WAL")
            with opened._writing() as database:
                for statement in _SCHEMA.strip().split(";\n"):
                    database.execute(statement)
                now = clock()
                database.execute("INSERT INTO index_facts VALUES (?, ?, NULL, NULL, ?, ?)", (index_id, name, now, now))
                database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        except BaseException:
            opened.close()
            raise
        return opened

    @classmethod
    def open(cls, path: Path, *, clock: Callable[[], float] = time.time) -> Self:
        """An index that exists.

        Raises ``UsageError`` where there is no such file, and ``StorageError`` for a file that is not an index of ours
        or that another version of this program wrote.
        """
        if not path.is_file():
            raise UsageError(f"there is no index at {path}: `bulk-classify index create` makes one")
        opened = cls(path, _connect(path), clock)
        try:
            opened._check_format()
        except BaseException:
            opened.close()
            raise
        return opened

    def _check_format(self) -> None:
        with self._guarded() as database:
            ((application_id,),) = database.execute("PRAGMA application_id")
            ((version,),) = database.execute("PRAGMA user_version")
        if application_id != _APPLICATION_ID:
            raise StorageError(f"{self.path} is not an index of the local platform")
        if version != SCHEMA_VERSION:
            raise StorageError(f"{self.path} has format {version}, this program reads {SCHEMA_VERSION}: build it again")

    def close(self) -> None:
        """Close the file. A second time does nothing."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def bytes_on_disk(self) -> int:
        """The size of the file, and of what SQLite keeps beside it while it is open."""
        files = [Path(f"{self.path}{suffix}") for suffix in ("", "-wal", "-shm")]
        return sum(file.stat().st_size for file in files if file.exists())

    @contextmanager
    def _guarded(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._connection
            except sqlite3.Error as error:
                raise _translated(self.path, error) from None

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._guarded() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                database.execute("COMMIT")
            except BaseException:
                # A full disk may have ended the transaction already.
                if database.in_transaction:
                    database.execute("ROLLBACK")
                raise


def _connect(path: Path) -> sqlite3.Connection:
    try:
        return sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise _translated(path, error) from None


def _translated(path: Path, error: sqlite3.Error) -> StorageError:
    # Errors that Python itself raises, such as for a closed connection, have no code.
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
        return StorageError(f"{path} is not an index of the local platform")
    return StorageError(f"the index {path} cannot be read or written: {error}")
