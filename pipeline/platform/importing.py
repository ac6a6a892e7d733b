"""Videos from files into an index: nothing enters before all of it was found right.

The files are read twice. First to their end, when every problem is told with its file and line; then again, when the
videos enter, some in each transaction. So nothing is held but the ids and the videos of one transaction, a server that
asks the same index is not kept waiting, and a kill leaves whole videos, which the same import replaces by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Generic, Protocol, TypeAlias, TypeVar

import msgspec

from pipeline.errors import InputError, UsageError
from pipeline.lines import BadFile, BadLine, Problems, lines_of, text_of
from pipeline.platform.store import Store
from pipeline.platform.videos import IndexedVideo, check_video

LONGEST_LINE = 4 * 1024 * 1024
"""Bytes of a line: a vector of thousands of numbers, or all texts of a long video."""

Report: TypeAlias = Callable[[str], None]

_VIDEOS_AT_ONCE = 64
_BYTES_AT_ONCE = 16 * 1024 * 1024


class _OfVideo(Protocol):
    @property
    def video_id(self) -> str: ...


_T = TypeVar("_T")
_V = TypeVar("_V", bound=_OfVideo)
_V_co = TypeVar("_V_co", bound=_OfVideo, covariant=True)


@dataclass(frozen=True, slots=True)
class Found(Generic[_V_co]):
    """A video that was read, and where: ``file:line``."""

    place: str
    video: _V_co


@dataclass(frozen=True, slots=True)
class Source(Generic[_V]):
    """What an import reads, and what it makes of it.

    ``read`` gives all videos from the beginning, and reports what is wrong. ``draft`` makes of one what can be checked,
    ``finished`` what enters; they differ in the vectors alone, which may take long to make.
    """

    read: Callable[[Report], Iterator[Found[_V]]]
    draft: Callable[[_V], IndexedVideo]
    finished: Callable[[_V], IndexedVideo]


def enter(store: Store, source: Source[_V], space: str) -> int:
    """Enter all videos of a source beside what the index has of them; how many.

    Raises ``InputError`` with every problem of the source, and ``UsageError`` where the index is of another space.
    Nothing has entered then, unless the files were changed meanwhile.
    """
    if store.space is not None:
        store.check_space(space, store.dimensions)
    problems = Problems()
    _check(source, problems)
    problems.raise_if_any()
    videos = (source.finished(found.video) for found in source.read(problems.add))
    count = sum(store.add_videos(some, space, replacing=None) for some in _in_parts(videos))
    problems.raise_if_any()
    return count


def _check(source: Source[_V], problems: Problems) -> None:
    """Read a source to its end, and take down what is wrong with its videos."""
    met: set[str] = set()
    for found in source.read(problems.add):
        if found.video.video_id in met:
            problems.add(
                f"{found.place}: video {found.video.video_id[:128]!r} has come before: all of it must stand together"
            )
        met.add(found.video.video_id)
        try:
            check_video(source.draft(found.video))
        except UsageError as error:
            problems.add(f"{found.place}: {error}")
    if not (met or problems.count):
        problems.add("the files hold no video")


def _in_parts(videos: Iterable[IndexedVideo]) -> Iterator[list[IndexedVideo]]:
    """The videos of one transaction at a time: few enough to hold."""
    part: list[IndexedVideo] = []
    size = 0
    for video in videos:
        part.append(video)
        size += sum(track.vectors.nbytes for track in video.tracks)
        if len(part) == _VIDEOS_AT_ONCE or size > _BYTES_AT_ONCE:
            yield part
            part, size = [], 0
    if part:
        yield part


# -------------------------------------------------------------------------------------------------- what sources share


def files_in(paths: Iterable[Path], suffixes: Sequence[str]) -> list[Path]:
    """The files that paths stand for: a folder for all files in and below it that are named as ``suffixes`` tell.

    Raises ``InputError`` where there is none.
    """
    files: list[Path] = []
    problems: list[str] = []
    for path in paths:
        found = [path]
        if path.is_dir():
            found = sorted(one for one in path.rglob("*") if one.is_file() and suffix_of(one) in suffixes)
        if not found:
            problems.append(f"{path}: no file in this folder is named {', '.join(f'*{suffix}' for suffix in suffixes)}")
        files += found
    if problems:
        raise InputError(problems)
    return files


def suffix_of(path: Path) -> str:
    """What a file's name ends with, in lower case, but for the mark of a compression."""
    name = path.name.lower()
    return Path(name.removesuffix(".gz").removesuffix(".zst")).suffix


def read_files(
    files: Iterable[Path], read: Callable[[Path, Report], Iterator[Found[_V]]], report: Report
) -> Iterator[Found[_V]]:
    """The videos of all files, one after the other; a file that cannot be read to its end is reported."""
    for file in files:
        try:
            yield from read(file, report)
        except BadFile as error:
            report(f"{file}: {error}")


def numbered_lines(file: Path, report: Report) -> Iterator[tuple[int, str]]:
    """The lines of a text file with their numbers, from 1; those that are no text are reported. Raises ``BadFile``."""
    return numbered(lines_of(str(file), LONGEST_LINE), file, report)


def numbered(lines: Iterable[bytes], file: Path, report: Report) -> Iterator[tuple[int, str]]:
    """The same for all lines of a file that is open already."""
    for number, line in enumerate(lines, 1):
        try:
            yield number, text_of(line, LONGEST_LINE)
        except BadLine as error:
            report(f"{file}:{number}: {error}")


def from_ndjson(
    lines: Iterable[tuple[int, str]], kind: type[_T], file: Path, report: Report
) -> Iterator[tuple[int, _T]]:
    """What numbered lines hold that are not blank, with their numbers; those that hold no such thing are reported."""
    decoder = msgspec.json.Decoder(kind)
    for number, line in lines:
        try:
            if line.strip():
                yield number, decoder.decode(line)
        except (msgspec.DecodeError, RecursionError) as error:
            report(f"{file}:{number}: {error}")


def by_video(rows: Iterable[tuple[int, _V]]) -> Iterator[tuple[int, list[_V]]]:
    """Numbered rows, of a video at a time where they stand together, with the number of the first."""
    for _, of_video in groupby(rows, key=lambda numbered: numbered[1].video_id):
        numbered = list(of_video)
        yield numbered[0][0], [row for _, row in numbered]
