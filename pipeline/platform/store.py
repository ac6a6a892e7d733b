"""An index in one SQLite file: what it holds of videos, and how that is entered and read.

- One matrix a track: reading the ten hours of a request is one row a track, not one a clip. A track without any vector
  but zeros is stored without them.
- One space an index. Vectors of two spaces have no cosine that means anything, so a second space is refused.
- A video enters whole or not at all; entering it again replaces it, so an import can be repeated. With it stands what
  its source calls this state of it (its revision), so that an import that goes on knows what it need not fetch.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StorageError, UsageError
from pipeline.platform.index_file import IndexFile
from pipeline.platform.videos import OPTIONS, Calibration, IndexedVideo, Track, Vectors, check_video
from pipeline.wire_lists import IndexFacts, VideoFacts

SortKey = Literal["created_at", "updated_at", "filename", "duration"]
SORT_COLUMNS: Mapping[str, str] = {
    "created_at": "created_at",
    "updated_at": "updated_at",
    "filename": "filename",
    "duration": "duration_seconds",
}
"""What videos may be listed by, and the column of each."""
FilterKey = Literal["id", "name", "duration", "created_at", "updated_at"]
_FILTER_COLUMNS: Mapping[FilterKey, str] = {
    "id": "video_id",
    "name": "filename",
    "duration": "duration_seconds",
    "created_at": "created_at",
    "updated_at": "updated_at",
}

_ARENA_BYTES = 2**25
_CACHED_PROMPTS = 20_000
_BYTES_OF_START, _BYTES_OF_NUMBER = 8, 4
_NAME_OF_SPACE = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Within:
    """That a video's id, file name, duration or moment lies from ``first`` to ``last``, both included."""

    key: FilterKey
    first: str | float
    last: str | float


@dataclass(frozen=True, slots=True)
class TrackCounts:
    """How much an index has of one option: videos with a track, and the clips of all of them."""

    videos: int
    clips: int


class Store(IndexFile):
    """An open index."""

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

    def calibration(self, *, with_vectors: bool = False) -> dict[str, Calibration]:
        """The calibration of each option that the index has, or of those that have a vector which is not all zeros."""
        with self._guarded() as database:
            rows = database.execute(
                "SELECT option, steepness, midpoint FROM calibration WHERE EXISTS (SELECT 1 FROM track"
                " WHERE track.option = calibration.option AND length(vectors) >= ?) ORDER BY option",
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
        self,
        *,
        page: int,
        page_limit: int,
        sort_by: SortKey = "created_at",
        descending: bool = True,
        within: Sequence[Within] = (),
    ) -> tuple[list[VideoFacts], int]:
        """One page, from 1, of the videos within some bounds, and how many there are on all pages.

        Videos that compare equal keep the order in which they came.
        """
        column, direction = SORT_COLUMNS[sort_by], "DESC" if descending else "ASC"
        bounded = " AND ".join(["1", *(f"{_FILTER_COLUMNS[one.key]} BETWEEN ? AND ?" for one in within)])
        bounds = [bound for one in within for bound in (one.first, one.last)]
        with self._guarded() as database:
            ((count,),) = database.execute(f"SELECT count(*) FROM video WHERE {bounded}", bounds)  # noqa: S608 - constants
            rows = database.execute(
                "SELECT video_id, filename, duration_seconds, created_at, updated_at FROM video"  # noqa: S608 - constants
                f" WHERE {bounded} ORDER BY {column} {direction}, video_key LIMIT ? OFFSET ?",
                (*bounds, page_limit, (page - 1) * page_limit),
            )
            return [VideoFacts(*row) for row in rows], count

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
                "SELECT video.video_key, option, video_id, filename, duration_seconds, starts, ends, texts,"
                " (SELECT dimensions FROM index_facts), vectors"
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
                tuple(self._track(row[1], row[5:7], *row[7:]) for row in of_video if row[1] is not None),
            )
            for (video_id, filename, seconds), of_video in groupby(found, key=itemgetter(2, 3, 4))
        ]

    def _track(
        self, option: str, times: Sequence[bytes], texts: str, dimensions: int, vectors: NDArray[np.uint8]
    ) -> Track:
        starts, ends = (np.frombuffer(column, dtype="<f8") for column in times)
        try:
            matrix = vectors.view("<f4").reshape(len(starts), -1)
            if not len(vectors):
                matrix = np.broadcast_to(np.float32(0), (len(starts), dimensions))
            return Track(option, starts, ends, matrix, tuple(json.loads(texts)))
        except ValueError as error:
            raise StorageError(f"{self.path} is damaged ({error}): build the index again") from None

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

    def calibrate(self, curves: Mapping[str, Calibration]) -> None:
        """Calibrate options, all at once: their scores are on another scale from now on.

        Raises ``UsageError`` for a curve that does not rise; then all stay as they are.
        """
        for curve in curves.values():
            if not (0 < curve.steepness < math.inf and math.isfinite(curve.midpoint)):
                raise UsageError(f"a calibration needs a steepness above 0 and a finite midpoint, not {curve}")
        with self._writing() as database:
            database.executemany(
                "INSERT OR REPLACE INTO calibration VALUES (?, ?, ?)",
                [(option, curve.steepness, curve.midpoint) for option, curve in curves.items()],
            )

    def cached_prompts(self, space: str, texts: Sequence[str]) -> dict[str, Vectors]:
        """The vectors of those texts that were embedded before, if they have as many numbers as the index's vectors."""
        with self._guarded() as database:
            rows = database.execute(
                "SELECT text, vector FROM prompt WHERE space = ? AND text IN (SELECT value FROM json_each(?))"
                " AND length(vector) = ? * (SELECT dimensions FROM index_facts)",
                (space, json.dumps(texts), _BYTES_OF_NUMBER),
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


def _calibration_name(calibration: Mapping[str, Calibration]) -> str:
    """Short and stable: the values themselves where all options share them, else a digest of them."""
    names = {option: f"a{curve.steepness:.6g}-m{curve.midpoint:.6g}" for option, curve in sorted(calibration.items())}
    if len(set(names.values())) == 1:
        return next(iter(names.values()))
    return "mixed-" + hashlib.sha256(json.dumps(names).encode()).hexdigest()[:12]
