"""An index in one SQLite file.

- One matrix a track: reading the ten hours of a request is one row a track, not one a clip.
- One space an index. Vectors of two spaces have no cosine that means anything, so a second space is refused.
- A video enters whole or not at all; entering it again replaces it, so an import can be repeated. With it stands what
  its source calls this state of it (its revision), so that an import that goes on knows what it need not fetch.
- One connection behind a lock serves every thread: reads take milliseconds, and nothing can be left open.

A file is ours by SQLite's application id, and readable by its user version; anything else is refused by its name.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StorageError, UsageError
from pipeline.platform.videos import OPTIONS, Calibration, IndexedVideo, Track, Vectors, check_video
from pipeline.wire import IndexFacts, VideoFacts

SCHEMA_VERSION = 2
SortKey = Literal["created_at", "updated_at", "filename", "duration"]
SORT_COLUMNS: Mapping[str, str] = {
    "created_at": "created_at",
    "updated_at": "updated_at",
    "filename": "filename",
    "duration": "duration_seconds",
}
"""What videos may be listed by, and the column of each."""

_APPLICATION_ID = int.from_bytes(b"bulk", "big")
# A matrix is a chain of pages, so that large ones are read faster (measured: 6 ms for ten hours, of 4,096 bytes 12 ms).
_PAGE_BYTES = 32_768
_ARENA_BYTES = 2**25
_BUSY_SECONDS = 30
_CACHED_PROMPTS = 20_000
_BYTES_OF_START = 8
_NAME_OF_SPACE = re.compile(r"[A-Za-z0-9._-]{1,64}")
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
CREATE TABLE calibration (option TEXT PRIMARY KEY, steepness REAL NOT NULL, midpoint REAL NOT NULL) STRICT;
CREATE TABLE prompt (
    prompt_key INTEGER PRIMARY KEY, space TEXT NOT NULL, text TEXT NOT NULL, vector BLOB NOT NULL, UNIQUE (space, text)
) STRICT;
"""


@dataclass(frozen=True, slots=True)
class TrackCounts:
    """How much an index has of one option: videos with a track, and the clips of all of them."""

    videos: int
    clips: int


class Store:
    """An open index. Close it, or use it as a context manager. Its methods may be called from any thread.

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
        store = cls(path, _connect(path), clock)
        try:
            with store._guarded() as database:
                database.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
                database.execute("PRAGMA journal_mode = WAL")
            with store._writing() as database:
                for statement in _SCHEMA.strip().split(";\n"):
                    database.execute(statement)
                now = clock()
                database.execute("INSERT INTO index_facts VALUES (?, ?, NULL, NULL, ?, ?)", (index_id, name, now, now))
                database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def open(cls, path: Path, *, clock: Callable[[], float] = time.time) -> Self:
        """An index that exists.

        Raises ``UsageError`` where there is no such file, and ``StorageError`` for a file that is not an index of ours
        or that another version of this program wrote.
        """
        if not path.is_file():
            raise UsageError(f"there is no index at {path}: `bulk-classify index create` makes one")
        store = cls(path, _connect(path), clock)
        try:
            store._check_format()
        except BaseException:
            store.close()
            raise
        return store

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

    # -------------------------------------------------------------------------------------------------- what it says

    def facts(self) -> IndexFacts:
        """The index as the platform lists it."""
        with self._guarded() as database:
            ((index_id, name, created_at, updated_at),) = database.execute(
                "SELECT index_id, name, created_at, updated_at FROM index_facts"
            )
            ((count, seconds),) = database.execute("SELECT count(*), total(duration_seconds) FROM video")
            return IndexFacts(index_id, name, tuple(self.calibration()), count, seconds, created_at, updated_at)

    @property
    def space(self) -> str | None:
        """The space of the vectors; None while the index is empty."""
        with self._guarded() as database:
            ((space,),) = database.execute("SELECT space FROM index_facts")
        return space if space is None else str(space)

    @property
    def dimensions(self) -> int:
        """How many numbers a vector has; 0 while the index is empty."""
        with self._guarded() as database:
            ((dimensions,),) = database.execute("SELECT dimensions FROM index_facts")
        return dimensions or 0

    def check_space(self, space: str, dimensions: int) -> None:
        """Raise ``UsageError`` where vectors of this space cannot enter."""
        with self._guarded() as database:
            self._check_space(database, space, dimensions)

    def tracks(self) -> dict[str, TrackCounts]:
        """How many tracks of each option there are, and how many clips they have together."""
        with self._guarded() as database:
            rows = database.execute(
                f"SELECT option, count(*), total(length(starts)) / {_BYTES_OF_START} FROM track GROUP BY option"  # noqa: S608 - a constant
            )
            return {option: TrackCounts(videos, int(clips)) for option, videos, clips in rows}

    def revisions(self, video_ids: Sequence[str]) -> dict[str, str]:
        """What the source of each of these videos that are here called the state in which it entered."""
        with self._guarded() as database:
            rows = database.execute(
                "SELECT video_id, revision FROM video WHERE video_id IN (SELECT value FROM json_each(?))",
                (json.dumps(video_ids),),
            )
            return dict(rows.fetchall())

    def bytes_on_disk(self) -> int:
        """The size of the file, and of what SQLite keeps beside it while it is open."""
        files = [Path(f"{self.path}{suffix}") for suffix in ("", "-wal", "-shm")]
        return sum(file.stat().st_size for file in files if file.exists())

    def calibration(self, *, with_vectors: bool = False) -> dict[str, Calibration]:
        """The calibration of each option that the index has, or of those that have a vector which is not all zeros."""
        with self._guarded() as database:
            rows = database.execute(
                "SELECT option, steepness, midpoint FROM calibration"
                " WHERE NOT ? OR option IN (SELECT option FROM track WHERE length(vectors)) ORDER BY option",
                (with_vectors,),
            )
            return {option: Calibration(steepness, midpoint) for option, steepness, midpoint in rows}

    def imported_ids(self) -> set[str]:
        """The videos whose source tells its states of them (revisions)."""
        with self._guarded() as database:
            return {video_id for (video_id,) in database.execute("SELECT video_id FROM video WHERE revision != ''")}

    def score_source(self) -> str:
        """Whose scale the scores are on: ``local/<space>/<calibration>``."""
        with self._guarded():
            return f"local/{self.space or 'empty'}/{_calibration_name(self.calibration())}"

    def list_videos(
        self, *, page: int, page_limit: int, sort_by: SortKey = "created_at", descending: bool = True
    ) -> list[VideoFacts]:
        """One page, from 1, of the videos. Videos that compare equal keep the order in which they came."""
        column, direction = SORT_COLUMNS[sort_by], "DESC" if descending else "ASC"
        with self._guarded() as database:
            rows = database.execute(
                "SELECT video_id, filename, duration_seconds, created_at, updated_at FROM video"  # noqa: S608 - constants
                f" ORDER BY {column} {direction}, video_key LIMIT ? OFFSET ?",
                (page_limit, (page - 1) * page_limit),
            )
            return [VideoFacts(*row) for row in rows]

    def video(self, video_id: str) -> VideoFacts | None:
        """One video, or None where the index does not have it."""
        with self._guarded() as database:
            rows = database.execute(
                "SELECT video_id, filename, duration_seconds, created_at, updated_at FROM video WHERE video_id = ?",
                (video_id,),
            )
            return next((VideoFacts(*row) for row in rows), None)

    def durations(self, video_ids: Sequence[str] | None = None) -> dict[str, float]:
        """Seconds of each of these videos that the index has, in order of entry; without ids, of every video."""
        every = "SELECT video_id, duration_seconds FROM video"
        with self._guarded() as database:
            if video_ids is None:
                return dict(database.execute(every + " ORDER BY video_key"))
            named = " WHERE video_id IN (SELECT value FROM json_each(?)) ORDER BY video_key"
            return dict(database.execute(every + named, (json.dumps(video_ids),)))

    # ------------------------------------------------------------------------------------------------------ contents

    def load(self, video_ids: Sequence[str], options: Iterable[str]) -> list[IndexedVideo]:
        """These videos with their tracks of these options, in order of entry; ids that are not here are left out."""
        arena = _Arena()
        with self._guarded() as database:
            rows = database.execute(
                "SELECT video.video_key, option, video_id, filename, duration_seconds, starts, ends, texts, vectors"
                " FROM video LEFT JOIN track ON track.video_key = video.video_key"
                " AND option IN (SELECT value FROM json_each(?)) WHERE video_id IN (SELECT value FROM json_each(?))",
                (json.dumps(sorted(options)), json.dumps(video_ids)),
            )
            found = [(*row[:-1], None if row[-1] is None else arena.keep(row[-1])) for row in rows]
        # Not by ORDER BY, which would write every matrix into a sorter and read it back (measured: six times as long).
        found.sort(key=itemgetter(0, 1))
        return [
            IndexedVideo(
                video_id,
                filename,
                seconds,
                tuple(self._track(row[1], *row[5:]) for row in of_video if row[1] is not None),
            )
            for (video_id, filename, seconds), of_video in groupby(found, key=itemgetter(2, 3, 4))
        ]

    def _track(self, option: str, starts: bytes, ends: bytes, texts: str, vectors: NDArray[np.uint8]) -> Track:
        begins = np.frombuffer(starts, dtype="<f8")
        try:
            matrix = vectors.view("<f4").reshape(len(begins), -1) if len(vectors) else self._silence(len(begins))
            return Track(option, begins, np.frombuffer(ends, dtype="<f8"), matrix, tuple(json.loads(texts)))
        except ValueError as error:
            raise StorageError(f"{self.path} is damaged ({error}): build the index again") from None

    def _silence(self, clips: int) -> Vectors:
        """The vectors of a track that has none: it is stored without them."""
        return np.broadcast_to(np.float32(0), (clips, self.dimensions))

    def add_videos(
        self, videos: Iterable[IndexedVideo], space: str, *, replacing: Collection[str] | None = OPTIONS
    ) -> int:
        """Enter videos in one transaction; returns how many.

        A video that is there keeps its tracks of other options than those that are given for it and those of
        ``replacing``, and while it has such a track the longer of both durations. With ``None`` for ``replacing`` it
        always keeps the longer duration, and its file name and revision where it is given none.
        Raises ``UsageError``, and enters none of them, where a video cannot be indexed or its vectors are not of the
        index's space and dimensions.
        """
        count = 0
        with self._writing() as database:
            for video in videos:
                check_video(video)
                for track in video.tracks:
                    self._claim_space(database, space, track.vectors.shape[1])
                self._put(database, video, replacing)
                count += 1
            database.execute("UPDATE index_facts SET updated_at = ?", (self._clock(),))
        return count

    def remove(self, video_ids: Iterable[str]) -> list[str]:
        """Take videos out, in one transaction; those of them that were there.

        An option without a track has no calibration any more, and an index without one no space and no cached prompts.
        """
        with self._writing() as database:
            removed = [one for one in dict.fromkeys(video_ids) if self._remove(database, one)]
            if removed:
                database.execute("UPDATE index_facts SET updated_at = ?", (self._clock(),))
                database.execute("DELETE FROM calibration WHERE option NOT IN (SELECT option FROM track)")
            if removed and not database.execute("SELECT 1 FROM track LIMIT 1").fetchall():
                database.execute("UPDATE index_facts SET space = NULL, dimensions = NULL")
                # The next vectors may be of the same name and of other dimensions.
                database.execute("DELETE FROM prompt")
        return removed

    def _remove(self, database: sqlite3.Connection, video_id: str) -> bool:
        rows = database.execute("DELETE FROM video WHERE video_id = ? RETURNING video_key", (video_id,)).fetchall()
        database.executemany("DELETE FROM track WHERE video_key = ?", rows)
        return bool(rows)

    def _check_space(self, database: sqlite3.Connection, space: str, dimensions: int) -> bool:
        """Whether the index is of this space already; raises ``UsageError`` where it is of another."""
        ((held, held_dimensions),) = database.execute("SELECT space, dimensions FROM index_facts")
        if held is None and not _NAME_OF_SPACE.fullmatch(space):
            raise UsageError(f"a space is named with 1 to 64 letters, digits, '.', '_' and '-', not {space!r}")
        if held is not None and held != space:
            raise UsageError(
                f"{self.path} holds vectors of the space {held!r}; vectors of {space!r} cannot be compared with them: "
                "put them into an index of their own (`bulk-classify index create`)"
            )
        if held is not None and held_dimensions != dimensions:
            raise UsageError(f"vectors of the space {held!r} have {held_dimensions} dimensions here, not {dimensions}")
        return held is not None

    def _claim_space(self, database: sqlite3.Connection, space: str, dimensions: int) -> None:
        if not self._check_space(database, space, dimensions):
            database.execute("UPDATE index_facts SET space = ?, dimensions = ?", (space, dimensions))

    def _put(self, database: sqlite3.Connection, video: IndexedVideo, replacing: Collection[str] | None) -> None:
        now = self._clock()
        replaced = {*(replacing or ()), *(track.option for track in video.tracks)}
        kept = database.execute(
            "SELECT 1 FROM track JOIN video USING (video_key) WHERE video_id = ?"
            " AND option NOT IN (SELECT value FROM json_each(?)) LIMIT 1",
            (video.video_id, json.dumps([*replaced])),
        ).fetchall()
        name, seconds, revision = "excluded.filename", "excluded.duration_seconds", "excluded.revision"
        if kept or replacing is None:
            seconds = f"max(duration_seconds, {seconds})"
        if replacing is None:
            name, revision = (
                f"coalesce(nullif({one}, ''), {one.removeprefix('excluded.')})" for one in (name, revision)
            )
        ((video_key,),) = database.execute(
            "INSERT INTO video (video_id, filename, duration_seconds, created_at, updated_at, revision)"  # noqa: S608 - constants
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (video_id) DO UPDATE"
            f" SET filename = {name}, duration_seconds = {seconds},"
            f" updated_at = excluded.updated_at, revision = {revision} RETURNING video_key",
            (video.video_id, video.filename, video.duration_seconds, now, now, video.revision),
        ).fetchall()
        database.executemany(
            "DELETE FROM track WHERE video_key = ? AND option = ?", ((video_key, option) for option in replaced)
        )
        for track in video.tracks:
            database.execute(
                "INSERT INTO track VALUES (?, ?, ?, ?, ?, ?)",
                (
                    video_key,
                    track.option,
                    track.starts.astype("<f8").tobytes(),
                    track.ends.astype("<f8").tobytes(),
                    track.vectors.astype("<f4").tobytes() if track.vectors.any() else b"",
                    json.dumps(track.texts),
                ),
            )
            default = Calibration()
            database.execute(
                "INSERT OR IGNORE INTO calibration VALUES (?, ?, ?)",
                (track.option, default.steepness, default.midpoint),
            )

    def set_calibration(self, option: str, calibration: Calibration) -> None:
        """Calibrate an option: scores are on another scale from now on. Raises ``UsageError`` for a falling curve."""
        if not (0 < calibration.steepness < math.inf and math.isfinite(calibration.midpoint)):
            raise UsageError(f"a calibration needs a steepness above 0 and a finite midpoint, not {calibration}")
        with self._writing() as database:
            database.execute(
                "INSERT OR REPLACE INTO calibration VALUES (?, ?, ?)",
                (option, calibration.steepness, calibration.midpoint),
            )

    def cached_prompts(self, space: str, texts: Sequence[str]) -> dict[str, Vectors]:
        """The vectors of those texts that were embedded before."""
        with self._guarded() as database:
            rows = database.execute(
                "SELECT text, vector FROM prompt WHERE space = ? AND text IN (SELECT value FROM json_each(?))",
                (space, json.dumps(texts)),
            )
            return {text: np.frombuffer(vector, dtype="<f4") for text, vector in rows}

    def cache_prompts(self, space: str, vectors: Mapping[str, Vectors]) -> None:
        """Keep the vectors of texts, and of all texts only the latest 20,000."""
        with self._writing() as database:
            database.executemany(
                "INSERT OR REPLACE INTO prompt (space, text, vector) VALUES (?, ?, ?)",
                [(space, text, vector.astype("<f4").tobytes()) for text, vector in vectors.items()],
            )
            database.execute(
                "DELETE FROM prompt WHERE prompt_key <= (SELECT max(prompt_key) FROM prompt) - ?", (_CACHED_PROMPTS,)
            )

    # -------------------------------------------------------------------------------------------------- transactions

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


class _Arena:
    """Blobs side by side in few large arrays.

    As separate objects they cost the kernel a fault for every 4 KiB; numpy asks for large pages for a large array, and
    what SQLite returns is freed at once and used for the next row (measured for 24 MB: 18 ms, so 8 ms).
    """

    def __init__(self) -> None:
        self._free = np.empty(0, dtype=np.uint8)

    def keep(self, blob: bytes) -> NDArray[np.uint8]:
        if len(blob) > len(self._free):
            self._free = np.empty(max(len(blob), _ARENA_BYTES), dtype=np.uint8)
        kept, self._free = self._free[: len(blob)], self._free[-(-len(blob) // 64) * 64 :]
        kept[:] = np.frombuffer(blob, dtype=np.uint8)
        return kept


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


def _calibration_name(calibration: Mapping[str, Calibration]) -> str:
    """Short and stable: the values themselves where all options share them, else a digest of them."""
    names = {option: f"a{curve.steepness:.6g}-m{curve.midpoint:.6g}" for option, curve in sorted(calibration.items())}
    if len(set(names.values())) == 1:
        return next(iter(names.values()))
    return "mixed-" + hashlib.sha256(json.dumps(names).encode()).hexdigest()[:12]
