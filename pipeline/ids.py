"""Id lists, from files of any sort, as one stream of videos.

A list is read in blocks and never held: at most a line (64 KiB) and a block are in memory. Its name and its first bytes
say what it is. It yields the right videos, and one clear line for each that is wrong: a bad line is named and reading
goes on behind it, so that all are known at once; a file that cannot be read to its end (missing, truncated, corrupt) is
an error even where bad lines may be skipped, for nobody knows what it would have held. Duplicates pass: the ledger
takes each id once.
"""

from __future__ import annotations

import csv
import glob
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import chain
from math import inf
from pathlib import Path, PurePath
from typing import BinaryIO, Literal

import msgspec

from pipeline.errors import InputError
from pipeline.lines import (
    LONGEST_LINE,
    UTF8_MARK,
    BadFile,
    BadLine,
    Problems,
    blocks_of,
    compression_of,
    opened,
    peek,
    reason_of,
    split_lines,
    text_of,
    without_mark,
)
from pipeline.models import Video
from pipeline.parquet import open_parquet
from pipeline.wording import counted, escaped

STANDARD_INPUT = "-"

_PARQUET_MARK = b"PAR1"
# The temporary copy of Parquet that comes compressed or through a pipe: a bomb must not fill the disk.
_LARGEST_PARQUET_COPY = 1 << 30

_ID = re.compile(r"[A-Za-z0-9_-]+")
_COMMENT = re.compile(r"(?:^|\s)#.*", re.DOTALL)
_NUMBER = re.compile(r"\+?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")

_Format = Literal["txt", "csv", "ndjson", "parquet"]
_FORMATS: dict[str, _Format] = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson", ".parquet": "parquet"}
_LineReport = Callable[[int, str], None]


def expand(patterns: Sequence[str], base: Path) -> list[str]:
    """The files that paths and globs (``*``, ``?``, ``[…]``, ``**``), relative to ``base``, stand for.

    ``-`` is standard input. The files of one glob are sorted; a file that is named twice is listed once. Raises
    ``InputError`` that names every pattern without a file, and where it was looked for.
    """
    files: dict[str, str] = {}
    problems: list[str] = []
    for pattern in patterns:
        found = [pattern] if pattern == STANDARD_INPUT else _matches(pattern, base)
        if not found:
            problems.append(f"no file is, or matches, {pattern!r} in {escaped(str(base.absolute()))}")
        for path in found:
            files.setdefault(path if path == STANDARD_INPUT else os.path.realpath(path), path)
    if problems:
        raise InputError(problems)
    return list(files.values())


def _matches(pattern: str, base: Path) -> list[str]:
    plain = base / pattern
    try:
        if plain.exists():
            return [str(plain)]
        # Not Path.glob: it refuses absolute patterns, and takes hidden files for matches.
        names = glob.glob(pattern, root_dir=base, recursive=True)  # noqa: PTH207
        return sorted(str(base / name) for name in names if not (base / name).is_dir())
    except OSError:
        return [str(plain)]  # opening it will say what is wrong with it
    except ValueError:
        return []  # a NUL


def read_videos(
    paths: Iterable[str],
    *,
    on_bad_line: Literal["refuse", "skip"],
    on_skipped: Callable[[str], None],
    stdin: BinaryIO,
) -> Iterator[Video]:
    """The videos of all files, one after the other; ``-`` reads ``stdin``, which must be buffered.

    Under ``skip`` each bad line goes to ``on_skipped``, and that is all. What is wrong beyond that is collected while
    everything is read, and then raised as one ``InputError`` with the first twenty problems and their total: whoever
    took the videos must drop them then.
    """
    problems = Problems()
    for path in paths:
        name = "standard input" if path == STANDARD_INPUT else escaped(path)
        report = partial(_report_line, problems.add if on_bad_line == "refuse" else on_skipped, name)
        try:
            if path == STANDARD_INPUT:
                yield from _videos(stdin, None, report)
            else:
                with opened(path) as stream:
                    yield from _videos(stream, Path(path), report)
        except BadFile as error:
            problems.add(f"{name}: {error}")
    problems.raise_if_any()


def _report_line(report: Callable[[str], None], name: str, line: int, reason: str) -> None:
    report(f"{name}:{line}: {reason}")


def _videos(stream: BinaryIO, path: Path | None, report: _LineReport) -> Iterator[Video]:
    stored_head, stored = peek(blocks_of(stream))
    compression = compression_of(stored_head)
    head, blocks = peek(compression(stored)) if compression else (stored_head, stored)
    kind = _format_of(path, head)
    if kind == "parquet" and not head.startswith(_PARQUET_MARK):
        raise BadFile("this is not a Parquet file")
    if kind == "parquet" and path and path.is_file() and not compression:
        yield from _parquet_videos(path, report)
    elif kind == "parquet":
        yield from _copied_parquet_videos(blocks, report)
    else:
        read_lines = {"txt": _txt_videos, "csv": _csv_videos, "ndjson": _ndjson_videos}[kind]
        yield from read_lines(split_lines(without_mark(head, blocks)), report)


def _format_of(path: Path | None, head: bytes) -> _Format:
    name = path.name.lower() if path else ""
    suffix = PurePath(name.removesuffix(".gz").removesuffix(".zst")).suffix
    if suffix in _FORMATS:
        return _FORMATS[suffix]
    if suffix != ".txt" and head.startswith(_PARQUET_MARK):
        return "parquet"
    first_line = head.removeprefix(UTF8_MARK).lstrip().partition(b"\n")[0].decode(errors="replace")
    if first_line.startswith("{"):
        return "ndjson"
    # A .txt file may have a header too: no video is called video_id.
    return "csv" if _delimiter_of(first_line) and not first_line.startswith("#") else "txt"


# ------------------------------------------------------------------------------------------------ from lines to videos


def _txt_videos(lines: Iterator[bytes], report: _LineReport) -> Iterator[Video]:
    for number, line in enumerate(lines, 1):
        try:
            text = text_of(line)
            if "#" in text:
                text = _COMMENT.sub("", text)
            if text := text.strip():
                yield Video(_video_id(text))
        except BadLine as error:
            report(number, str(error))


def _csv_videos(lines: Iterator[bytes], report: _LineReport) -> Iterator[Video]:
    record = _Record(lines)
    rows, header = _csv_header(record)
    id_column, duration_column = _columns(header)
    while True:
        record.begin()
        try:
            row = next(rows, None)
            if row is None:
                return
            if row:
                record.check(row, len(header))
                duration = None if duration_column is None else _duration_of_text(row[duration_column])
                yield Video(_video_id(row[id_column].strip()), duration)
        except (csv.Error, BadLine) as error:
            report(record.first_line, f"{_reason(error)}{record.extent()}")


def _csv_header(record: _Record) -> tuple[Iterator[list[str]], list[str]]:
    try:
        first_line = next((line for line in record if line.strip()), "")
        delimiter = _delimiter_of(first_line)
        if not delimiter:
            seen = f"its first line is {_shown(first_line.strip())}" if first_line else "it is empty"
            raise BadFile(f"a csv file needs a header with video_id, and {seen}")
        rows = csv.reader(chain((first_line,), record), delimiter=delimiter, strict=True)
        header = next(rows)
        record.check(header, len(header))
    except (csv.Error, BadLine) as error:
        raise BadFile(f"the header is broken: {_reason(error)}{record.extent()}") from None
    return rows, header


def _reason(error: Exception) -> str:
    return str(error).replace("\t", r"\t")  # csv repeats the delimiter, which may be a tab


class _Record:
    """The lines of one csv record at a time, for ``csv.reader``, which asks for another while a quote is open.

    A line that cannot be read does not end a record, or what stands in quotes behind it would be taken for rows. Only
    length does: an open quote must not swallow the file.
    """

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = enumerate(lines, 1)
        self.begin()

    def begin(self) -> None:
        self.first_line = self._last_line = self._length = 0
        self._problem = ""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self._last_line, line = next(self._lines)
        self.first_line = self.first_line or self._last_line
        self._length += len(line)
        if self._length > LONGEST_LINE:
            raise BadLine("longer than 64 KiB" + (": is a quote left open?" if self._length > len(line) else ""))
        try:
            return text_of(line) + "\n"
        except BadLine as error:
            self._problem = self._problem or str(error)
            return line.decode(errors="replace") + "\n"

    def check(self, row: list[str], width: int) -> None:
        """Raise ``BadLine`` where a line could not be read, or has not the fields of the header."""
        if self._problem:
            raise BadLine(self._problem)
        if len(row) < width or any(row[width:]):
            raise BadLine(f"has {counted(len(row), 'field')}, and the header has {width}")

    def extent(self) -> str:
        """Where a record of several lines stands."""
        return f" (lines {self.first_line} to {self._last_line})" if self._last_line > self.first_line else ""


def _delimiter_of(line: str) -> str | None:
    """What makes a line a header that has video_id; None where nothing does."""
    for delimiter in ",;\t":
        try:
            if "video_id" in map(_column_name, next(csv.reader((line,), delimiter=delimiter), ())):
                return delimiter
        except csv.Error:
            continue
    return None


def _column_name(written: str) -> str:
    return "_".join(written.lower().split())


def _columns(header: Iterable[str]) -> tuple[int, int | None]:
    """The positions of the id and of the duration, where there is one."""
    names = [_column_name(name) for name in header]
    durations = [name for name in ("duration_seconds", "duration") if name in names]
    for name in ("video_id", *durations[:1]):
        if names.count(name) != 1:
            raise BadFile(f"needs one column {name}, and has {names.count(name)}")
    return names.index("video_id"), names.index(durations[0]) if durations else None


class _Metadata(msgspec.Struct):
    duration: float | None = None


class _Listed(msgspec.Struct):
    video_id: str | None = None
    listed_id: str | None = msgspec.field(name="_id", default=None)
    duration_seconds: float | None = None
    duration: float | None = None
    metadata: _Metadata | None = None


def _ndjson_videos(lines: Iterator[bytes], report: _LineReport) -> Iterator[Video]:
    decoder = msgspec.json.Decoder(_Listed)
    for number, line in enumerate(lines, 1):
        try:
            text = text_of(line)
            if text.strip():
                yield _listed_video(decoder.decode(text))
        except (BadLine, msgspec.DecodeError) as error:
            report(number, str(error))
        except RecursionError:
            report(number, "the JSON is nested too deeply")


def _listed_video(listed: _Listed) -> Video:
    """The object that ``ids --index`` writes, one of an index as the platform lists it, or a simpler one."""
    video_id = listed.listed_id if listed.video_id is None else listed.video_id
    if video_id is None:
        raise BadLine("the object has no video_id")
    metadata = listed.metadata or _Metadata()
    for seconds in (listed.duration_seconds, listed.duration, metadata.duration):
        if seconds is not None:
            return Video(_video_id(video_id), _duration(seconds))
    return Video(_video_id(video_id))


def _parquet_videos(path: Path, report: _LineReport) -> Iterator[Video]:
    with open_parquet(path) as table:
        id_column, duration_column = _columns(table.columns)
        # As text, so that whatever type a column has, one rule decides what is right.
        columns = {"video_id": (table.columns[id_column], "VARCHAR")}
        if duration_column is not None:
            columns["duration"] = (table.columns[duration_column], "VARCHAR")
        for number, row in enumerate(table.rows(columns), 1):
            try:
                yield Video(_video_id(row["video_id"] or ""), _duration_of_text(row.get("duration") or ""))
            except BadLine as error:
                report(number, str(error))


def _copied_parquet_videos(blocks: Iterator[bytes], report: _LineReport) -> Iterator[Video]:
    """Of Parquet that comes compressed or through a pipe; DuckDB reads files only."""
    length = 0
    with ExitStack() as opened:
        try:
            copy = opened.enter_context(tempfile.NamedTemporaryFile(prefix="bulk-classify-", suffix=".parquet"))
            for block in blocks:
                length += len(block)
                if length > _LARGEST_PARQUET_COPY:
                    raise BadFile("over 1 GiB of compressed or piped Parquet: name a plain file")
                copy.write(block)
            copy.flush()
        except OSError as error:
            raise BadFile(f"its temporary copy failed: {reason_of(error)}") from None
        yield from _parquet_videos(Path(copy.name), report)


# ------------------------------------------------------------------------------------------------------------- values


def _video_id(text: str) -> str:
    if _ID.fullmatch(text):
        return text
    if not text:
        raise BadLine("the video id is empty")
    raise BadLine(f"not a video id (letters, digits, _ and - only): {_shown(text)}")


def _duration_of_text(text: str) -> float | None:
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return _duration(float(text), text)
    if text and text.lower() != "null":
        raise _no_duration(text)
    return None


def _duration(seconds: float, written: str = "") -> float:
    if not 0 < seconds < inf:
        raise _no_duration(written or str(seconds))
    return seconds


def _no_duration(written: str) -> BadLine:
    return BadLine(f"a duration is a positive number of seconds, not {_shown(written)}")


def _shown(text: str) -> str:
    return ascii(text[:40]) + ("…" if len(text) > 40 else "")
