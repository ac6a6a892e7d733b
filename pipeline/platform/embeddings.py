"""Videos from vectors that somebody else has made: Parquet or NDJSON, a clip a row, all rows of a video together.

A row has ``video_id``, ``start_seconds``, ``end_seconds`` and ``vector``; it may have ``option`` (else the user says
it), ``text`` (what is said or shown, for ``exact_match``), ``duration_seconds`` (of the video) and ``filename``. What
else it has is not looked at. Vectors are brought to length 1, which no cosine sees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta

from pipeline.lines import BadFile
from pipeline.parquet import open_parquet
from pipeline.platform.importing import (
    Found,
    Report,
    Source,
    by_video,
    from_ndjson,
    numbered_lines,
    read_files,
    suffix_of,
)
from pipeline.platform.videos import IndexedVideo, Track, Vectors, normalised
from pipeline.wire import Option
from pipeline.wording import counted

SUFFIXES = (".parquet", ".ndjson", ".jsonl")
"""How the files are named that a folder is searched for."""

_ROWS_AT_ONCE = 256  # a vector is thousands of objects before it is an array
_TYPES = {
    "video_id": "VARCHAR",
    "start_seconds": "DOUBLE",
    "end_seconds": "DOUBLE",
    "vector": "DOUBLE[]",
    "option": "VARCHAR",
    "text": "VARCHAR",
    "duration_seconds": "DOUBLE",
    "filename": "VARCHAR",
}
_NEEDED = ("video_id", "start_seconds", "end_seconds", "vector")


class _Row(msgspec.Struct, frozen=True):
    video_id: Annotated[str, Meta(min_length=1)]
    start_seconds: float
    end_seconds: float
    vector: Annotated[list[float], Meta(min_length=1)]
    option: Option | None = None
    text: str | None = None
    duration_seconds: float | None = None
    filename: str | None = None


class _Clip(NamedTuple):
    """A row that is right, its vector in length 1."""

    video_id: str
    option: str
    vector: Vectors
    row: _Row


@dataclass(frozen=True, slots=True)
class Vouched:
    """What is known of vectors beside what their rows tell.

    ``dimensions`` is how many numbers each has (0: as many as the first), ``option`` counts where a row tells none, and
    ``durations`` (seconds by video id) before what rows tell.
    """

    dimensions: int = 0
    option: str | None = None
    durations: Mapping[str, float] = field(default_factory=dict)


def vector_source(files: Sequence[Path], vouched: Vouched = Vouched()) -> Source[IndexedVideo]:
    """The videos of files of vectors."""

    def as_it_is(video: IndexedVideo) -> IndexedVideo:
        return video

    return Source(lambda report: read_files(files, _Reader(vouched).read, report), draft=as_it_is, finished=as_it_is)


class _Reader:
    """Reads files one after the other; all their vectors must have as many numbers as the first."""

    def __init__(self, vouched: Vouched) -> None:
        self._vouched = vouched
        self._dimensions = vouched.dimensions

    def read(self, file: Path, report: Report) -> Iterator[Found[IndexedVideo]]:
        if suffix_of(file) == ".parquet":
            rows = _parquet_rows(file, report)
        else:
            rows = from_ndjson(numbered_lines(file, report), _Row, file, report)
        for number, clips in by_video(self._clips(rows, file, report)):
            yield Found(f"{file}:{number}", self._video(clips))

    def _clips(self, rows: Iterator[tuple[int, _Row]], file: Path, report: Report) -> Iterator[tuple[int, _Clip]]:
        for number, row in rows:
            try:
                yield number, self._clip(row)
            except ValueError as error:
                report(f"{file}:{number}: {error}")

    def _clip(self, row: _Row) -> _Clip:
        option = row.option or self._vouched.option
        if option is None:
            raise ValueError("the row has no option, and --option does not tell it")
        self._dimensions = self._dimensions or len(row.vector)
        if len(row.vector) != self._dimensions:
            raise ValueError(f"the vector has {counted(len(row.vector), 'number')}, and others have {self._dimensions}")
        vector = normalised(np.array([row.vector], dtype=np.float64))[0]
        return _Clip(row.video_id, option, vector, msgspec.structs.replace(row, vector=[]))

    def _video(self, clips: Sequence[_Clip]) -> IndexedVideo:
        video_id, rows = clips[0].video_id, [clip.row for clip in clips]
        told = (row.duration_seconds for row in rows if row.duration_seconds is not None)
        seconds = self._vouched.durations.get(video_id) or next(told, max(row.end_seconds for row in rows))
        filename = next((row.filename for row in rows if row.filename), "")
        options = dict.fromkeys(clip.option for clip in clips)
        tracks = (_track(option, [clip for clip in clips if clip.option == option]) for option in options)
        return IndexedVideo(video_id, filename, seconds, tuple(tracks))


def _track(option: str, clips: Sequence[_Clip]) -> Track:
    texts = [(clip.row.start_seconds, clip.row.end_seconds, clip.row.text or "") for clip in clips]
    track = Track.of(option, texts, np.stack([clip.vector for clip in clips]))
    return track if any(track.texts) else replace(track, texts=())


def _parquet_rows(file: Path, report: Report) -> Iterator[tuple[int, _Row]]:
    """The rows with their numbers, from 1."""
    with open_parquet(file) as table:
        missing = [name for name in _NEEDED if name not in table.columns]
        if missing:
            raise BadFile(f"it has no column {' and no column '.join(missing)}")
        columns = {name: (name, kind) for name, kind in _TYPES.items() if name in table.columns}
        for number, row in enumerate(table.rows(columns, at_once=_ROWS_AT_ONCE), 1):
            try:
                yield number, msgspec.convert(row, _Row)
            except msgspec.ValidationError as error:
                report(f"{file}:{number}: {error}")
