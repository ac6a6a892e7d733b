"""The ledger's file: a SQLite database of ours, its schema, and how it is opened, changed and asked.

Rules: every change happens inside ``atomic()``; WAL mode with ``synchronous=FULL``, so that what ``atomic()`` has left
behind survives a power cut; SQLite's errors become ours here, and nowhere else.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

from pipeline.errors import StorageError
from pipeline.rows import ROW_FILES
from pipeline.rundir import create_private

_APPLICATION_ID = 0x62636C31  # "bcl1"
_SCHEMA_VERSION = 2

_SCHEMA = """
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE video (
    video INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    duration REAL,                      -- seconds, NULL where unknown
    state INTEGER NOT NULL DEFAULT 0,   -- VideoState
    chunk INTEGER,                      -- the chunk that has it, or that settled it
    gone INTEGER NOT NULL DEFAULT 0     -- 1: the last listing of a whole index did not have it
);
CREATE INDEX video_of_chunk ON video (chunk);
CREATE TABLE failure (
    video INTEGER PRIMARY KEY REFERENCES video,
    code TEXT NOT NULL,
    message TEXT NOT NULL,
    http_status INTEGER,
    retryable INTEGER NOT NULL,
    failed_at TEXT NOT NULL
);
CREATE TABLE chunk (
    chunk INTEGER PRIMARY KEY,
    state INTEGER NOT NULL DEFAULT 0,   -- ChunkState
    parent INTEGER REFERENCES chunk,
    reason TEXT NOT NULL,               -- why its first POST is sent
    shortfalls INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX chunk_open ON chunk (chunk) WHERE state < 2;
CREATE TABLE post (
    post INTEGER PRIMARY KEY,
    chunk INTEGER NOT NULL REFERENCES chunk,
    prompt_group INTEGER NOT NULL,
    reason TEXT NOT NULL,
    state INTEGER NOT NULL DEFAULT 0,   -- PostState
    billed INTEGER,                     -- 1 yes, 0 no, NULL unknown
    intended_at REAL NOT NULL,          -- seconds since the epoch
    http_status INTEGER,
    burnt TEXT                          -- the budget of its chunk that its failure was counted in
);
CREATE INDEX post_burnt ON post (chunk) WHERE burnt IS NOT NULL;
CREATE INDEX post_open ON post (post) WHERE state = 0;
CREATE TABLE walk (
    walk INTEGER PRIMARY KEY,
    chunk INTEGER NOT NULL REFERENCES chunk,
    prompt_group INTEGER NOT NULL,
    next_token TEXT,
    ended INTEGER NOT NULL,             -- 0 goes on, 1 complete, 2 with fewer than it promised, 3 failed, 4 refused
    asked TEXT                          -- JSON list of video ids; NULL: all of the chunk that had no answer then
);
CREATE INDEX walk_of_chunk ON walk (chunk);
CREATE TABLE page (
    page INTEGER PRIMARY KEY,
    walk INTEGER NOT NULL REFERENCES walk,
    arrived_at REAL NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX page_of_walk ON page (walk);
CREATE TABLE index_walk (               -- a walk over a whole index: no page of it is kept, but what it has shown
    walk INTEGER PRIMARY KEY,
    chunk INTEGER NOT NULL REFERENCES chunk,
    prompt_group INTEGER NOT NULL,
    last_video INTEGER NOT NULL,        -- its silence is about the videos up to this one, which were known then
    next_token TEXT,
    state INTEGER NOT NULL,             -- WalkState
    flaw TEXT NOT NULL,
    arrived_at REAL NOT NULL            -- of its newest page, seconds since the epoch
);
CREATE INDEX index_walk_of_chunk ON index_walk (chunk);
CREATE TABLE shown (
    walk INTEGER NOT NULL REFERENCES index_walk,
    id TEXT NOT NULL,                   -- as the platform says it: it need not be a video of ours
    answer BLOB,                        -- NULL where none is held: it is settled, or nothing of ours
    UNIQUE (walk, id)
);
CREATE TABLE window (
    one INTEGER PRIMARY KEY CHECK (one = 1), used INTEGER NOT NULL, resets_at REAL NOT NULL, most INTEGER,
    closed_until REAL NOT NULL
);
CREATE TABLE file (file INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, length INTEGER NOT NULL DEFAULT 0);
CREATE TABLE segment (
    segment INTEGER PRIMARY KEY,
    file INTEGER NOT NULL REFERENCES file,
    chunk INTEGER NOT NULL REFERENCES chunk,
    offset INTEGER NOT NULL,
    length INTEGER NOT NULL,
    crc INTEGER NOT NULL
);
"""


class LedgerFile:
    """The open file of one ledger. Raises ``StorageError`` for whatever SQLite cannot do, and for a file of others.

    Where it is a copy, messages name the file that it is ``copy_of``.
    """

    def __init__(self, path: Path, *, read_only: bool = False, copy_of: Path | None = None) -> None:
        self.path = copy_of or path
        with _translated(path):
            mode = "ro" if read_only else "rw"
            if not read_only:
                create_private(path)
            self._connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare(read_only=read_only)
            except BaseException:
                self._connection.close()
                raise

    def _prepare(self, *, read_only: bool) -> None:
        run = self._connection.execute
        run("PRAGMA busy_timeout = 10000")
        run("PRAGMA cache_size = -16384")  # KiB; a million ids in random order need more than the default 2 MB
        run("PRAGMA foreign_keys = OFF")  # the references are for the reader; the code keeps them
        (application,) = run("PRAGMA application_id").fetchone()
        (version,) = run("PRAGMA user_version").fetchone()
        if application == version == 0 and not read_only and not run("SELECT 1 FROM sqlite_schema").fetchone():
            self._connection.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; BEGIN; {_SCHEMA}")
            self._connection.executemany("INSERT INTO file (file, name) VALUES (?, ?)", enumerate(ROW_FILES))
            run(f"PRAGMA application_id = {_APPLICATION_ID}")
            run(f"PRAGMA user_version = {_SCHEMA_VERSION}")
            run("COMMIT")
        elif application != _APPLICATION_ID:
            raise StorageError(f"{self.path}: not a ledger of bulk-classify; use another --out")
        elif version != _SCHEMA_VERSION:
            raise StorageError(
                f"{self.path}: written by another version (format {version}, not {_SCHEMA_VERSION}); use that one"
            )
        (sound,) = run("PRAGMA quick_check(1)").fetchone()  # a fifth of a second for a million videos
        if sound != "ok":
            raise StorageError(f"{self.path}: damaged ({sound.splitlines()[-1]}); put the file back from a copy")
        run("PRAGMA synchronous = FULL")
        run("PRAGMA fullfsync = ON")  # macOS: without it a sync stops at the drive's cache

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what was committed stays."""
        with _translated(self.path):
            self._connection.close()

    def copy_to(self, path: Path) -> None:
        """Write the ledger as it stands now to another file, also while another process works on it."""
        with _translated(self.path), closing(sqlite3.connect(path)) as copy:
            self._connection.backup(copy)

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """All changes inside become durable together when the context ends, or none of them where it raises."""
        with _translated(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All queries inside see one state, whatever another process commits meanwhile."""
        with _translated(self.path):
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.execute("ROLLBACK")

    # ------------------------------------------------------------------------------------------------------- facts

    def fact(self, name: str) -> str | None:
        """A remembered fact of the whole run, such as its score source."""
        row = self._one("SELECT value FROM fact WHERE name = ?", name)
        return None if row is None else str(row[0])

    def remember(self, name: str, value: str) -> None:
        """Set a fact."""
        self._run("INSERT INTO fact VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", name, value)

    def forget(self, *names: str) -> None:
        """Take back facts, as far as they are there."""
        self._run("DELETE FROM fact WHERE name IN (SELECT value FROM json_each(?))", json.dumps(names))

    # ----------------------------------------------------------------------------------------------------- queries

    def _each(self, query: str, *values: object) -> Iterator[tuple[Any, ...]]:
        with _translated(self.path):
            rows = self._connection.execute(query, values)
        while True:
            with _translated(self.path):  # not around the yield: what the reader raises is the reader's
                row = rows.fetchone()
            if row is None:
                return
            yield row

    def _all(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with _translated(self.path):
            return self._connection.execute(query, values).fetchall()

    def _one(self, query: str, *values: object) -> tuple[Any, ...] | None:
        with _translated(self.path):
            row: tuple[Any, ...] | None = self._connection.execute(query, values).fetchone()
            return row

    def _count(self, query: str, *values: object) -> int:
        with _translated(self.path):
            return int(self._connection.execute(query, values).fetchone()[0])

    def _run(self, query: str, *values: object) -> None:
        self._connection.execute(query, values)

    def _many(self, query: str, rows: Iterable[Sequence[object]]) -> int:
        """Run a statement for each row; how many rows of the table it changed, all together."""
        return max(self._connection.executemany(query, rows).rowcount, 0)

    def _change(self, query: str, *values: object) -> int:
        """Run a statement; how many rows of the table it changed."""
        return self._connection.execute(query, values).rowcount

    def _insert(self, query: str, *values: object) -> int:
        return int(self._connection.execute(query, values).lastrowid or 0)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """SQLite's errors as ours. An integrity error is a bug, and stays one."""
    try:
        yield
    except sqlite3.IntegrityError:
        raise
    except sqlite3.Error as error:
        raise StorageError(f"{path}: {error}") from error
