"""Id lists: made from rows of which it is known what each shall give, written in any format and compression.

A list that is left whole must give its videos, and name its bad lines by their numbers. From a spoilt one every id must
be one, and must stand in what Python's own decompression and JSON find in the file.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from math import isfinite
from pathlib import Path
from random import Random
from string import ascii_letters, digits
from tempfile import TemporaryDirectory
from typing import Any, Literal

import duckdb
import zstandard

from pipeline.errors import InputError
from pipeline.ids import STANDARD_INPUT, read_videos
from pipeline.lines import LISTED_PROBLEMS
from pipeline.models import Video
from tests.fuzz.mutation import json_bytes, mutated, spoilt
from tests.fuzz.running import Reader, check_message, write

_ID = re.compile(r"[A-Za-z0-9_-]+")
_SUFFIXES = {"txt": (".txt", ".ids", ""), "csv": (".csv", ".txt", ""), "ndjson": (".ndjson", ".jsonl", "")}
_BAD_IDS = (
    "a b",
    "ü",
    "../x",
    "a\\b",
    "'a'",
    "a;b?",
    "<id>",
    "\u202ea",
    "\x1b[2J",
    "x" * 90 + ".",
    "a\ufeff",
    "\u00ad",
)
_BAD_DURATIONS = ("-1", "0", "inf", "1e999", "nan", "1:30", "0x10", "1_000", "٣")
_PLAIN_BOMB = 48 * 2**20
_BOMBS: tuple[tuple[bytes, int], ...] = (
    (b"a", _PLAIN_BOMB),
    (b"\0", _PLAIN_BOMB),
    (b"{", _PLAIN_BOMB),
    (b"\n", 2**18),
    (b"a\n", 2**14),
    (b'video_id\n"', 2**14),
)

_Row = tuple[str, str | float | None]
"""An id and a duration as they are written, right or not."""


@dataclass(frozen=True, slots=True)
class IdList:
    """A file, or (without a name) what comes by standard input; what it holds is known where it is whole."""

    name: str | None
    stored: bytes
    videos: tuple[Video, ...] | None = None
    bad_lines: tuple[int, ...] = ()
    is_bomb: bool = False


# ------------------------------------------------------------------------------------------------------------- making


def make(draw: Random, heavy: bool) -> IdList:
    """A list of any sort; a heavy one is a bomb."""
    if heavy and draw.random() < 0.7:
        filling, count = draw.choice(_BOMBS)
        compression = draw.choice(("gz", "zst"))
        return IdList(
            draw.choice((None, f"bomb.{compression}", f"bomb.csv.{compression}")),
            _bomb(filling, count, compression),
            is_bomb=True,
        )
    if draw.random() < 0.01:
        return _parquet(draw)
    kind = draw.choice(tuple(_SUFFIXES))
    rows = [_row(draw, with_duration=kind != "txt") for _ in range(draw.choice((0, 1, 2, 5, 9)))]
    plain, videos, bad_lines = {"txt": _txt, "csv": _csv, "ndjson": _ndjson}[kind](draw, rows)
    suffix = draw.choice(_SUFFIXES[kind])
    if not suffix and not videos and kind != "csv":
        suffix = _SUFFIXES[kind][0]  # nothing in it says what it is
    whole = draw.random() < 0.3
    if not whole and draw.random() < 0.75:
        plain = mutated(draw, plain, _another(draw))
    compression = draw.choice(("", "", "gz", "zst"))
    stored = _compressed(draw, plain, compression)
    if not whole and (stored is plain or draw.random() < 0.4):
        stored = mutated(draw, stored, _compressed(draw, plain, draw.choice(("gz", "zst"))))
    name = (
        None
        if not suffix and draw.random() < 0.7
        else f"list{suffix}{draw.choice(('', '.' + compression)) if compression else ''}"
    )
    if not whole and draw.random() < 0.1:
        name = draw.choice(("list.txt", "list.csv", "list.ndjson", "list.parquet", "list.CSV.GZ", "a\x1b[1m\nb.csv"))
    if whole and kind == "txt" and name in (None, "list") and not videos:
        whole = False
    return IdList(name, stored, videos, bad_lines) if whole else IdList(name, stored)


@cache
def _bomb(filling: bytes, count: int, compression: str) -> bytes:
    plain = filling * count
    return gzip.compress(plain, 9) if compression == "gz" else zstandard.ZstdCompressor(level=19).compress(plain)


def _id(draw: Random) -> str:
    return "".join(draw.choices(ascii_letters + digits + "_-", k=draw.choice((1, 3, 24))))


def _row(draw: Random, *, with_duration: bool) -> _Row:
    video_id = draw.choice(_BAD_IDS) if draw.random() < 0.15 else _id(draw)
    if not with_duration or draw.random() < 0.5:
        return video_id, None
    if draw.random() < 0.2:
        return video_id, draw.choice(_BAD_DURATIONS)
    return video_id, draw.choice((1.0, 0.5, 36_000.0, 1e-9, round(draw.uniform(0.1, 4000), 2)))


def _expected(row: _Row) -> Video | None:
    video_id, duration = row
    if not _ID.fullmatch(video_id) or isinstance(duration, str):
        return None
    return Video(video_id, duration)


def _end(draw: Random) -> str:
    return draw.choice(("\n", "\n", "\r\n"))


def _joined(draw: Random, lines: Sequence[str], end: str) -> bytes:
    mark = draw.choice(("", "", "\ufeff"))
    return (mark + end.join(lines) + draw.choice(("", end))).encode()


_Written = tuple[bytes, tuple[Video, ...], tuple[int, ...]]


def _outcomes(numbered: Iterable[tuple[int, _Row]]) -> tuple[tuple[Video, ...], tuple[int, ...]]:
    videos: list[Video] = []
    bad_lines: list[int] = []
    for number, row in numbered:
        video = _expected(row)
        if video is None:
            bad_lines.append(number)
        else:
            videos.append(video)
    return tuple(videos), tuple(bad_lines)


def _txt(draw: Random, rows: Sequence[_Row]) -> _Written:
    lines: list[str] = []
    numbered: list[tuple[int, _Row]] = []
    for row in rows:
        lines += draw.choice(((), (), ("",), ("# a comment",), ("  \t",)))
        lines.append(draw.choice(("", " ", "\t")) + row[0] + draw.choice(("", " ", "  # why", "\u00a0")))
        numbered.append((len(lines), row))
    return _joined(draw, lines, _end(draw)), *_outcomes(numbered)


def _csv(draw: Random, rows: Sequence[_Row]) -> _Written:
    written = io.StringIO()
    end = _end(draw)
    writer = csv.writer(written, delimiter=draw.choice(",;\t"), lineterminator=end, quoting=draw.choice((0, 1)))
    columns = ["id", "duration", *draw.choice(((), ("title",), ("title", "note")))]
    draw.shuffle(columns)
    names = {
        "id": draw.choice(("video_id", "Video ID", " VIDEO_ID ")),
        "duration": draw.choice(("duration", "Duration Seconds")),
    }
    writer.writerow([names.get(column, column) for column in columns])
    numbered: list[tuple[int, _Row]] = []
    for row in rows:
        numbered.append((written.getvalue().count("\n") + 1, row))
        cells = {
            "id": row[0],
            "duration": "" if row[1] is None else str(row[1]),
            "title": draw.choice(("", "a, b", 'say "a"', "two\nlines", "#")),
            "note": "",
        }
        writer.writerow([cells[column] for column in columns])
    return draw.choice((b"", b"\xef\xbb\xbf")) + written.getvalue().encode(), *_outcomes(numbered)


def _ndjson(draw: Random, rows: Sequence[_Row]) -> _Written:
    lines: list[bytes] = []
    numbered: list[tuple[int, _Row]] = []
    for row in rows:
        video_id, duration = row
        entry: dict[str, object] = {draw.choice(("video_id", "_id")): video_id}
        if duration is not None:
            if isinstance(duration, str):
                entry["duration"] = duration
            else:
                entry.update(
                    draw.choice(
                        (
                            {"duration": duration},
                            {"duration_seconds": duration},
                            {"metadata": {"duration": duration, "fps": 30}},
                        )
                    )
                )
        if draw.random() < 0.3:
            entry["title"] = draw.choice(("é\n", {"deep": [1, None]}, "video_id"))
        lines.append(json_bytes(draw, entry))
        numbered.append((len(lines), row))
    mark = draw.choice((b"", b"\xef\xbb\xbf"))
    return mark + _end(draw).encode().join(lines) + draw.choice((b"", b"\n")), *_outcomes(numbered)


def _another(draw: Random) -> bytes:
    """What may be spliced into a list: a line of another sort, or of JSON that is hardly an entry."""
    if draw.random() < 0.5:
        entry = {"video_id": _id(draw), "duration": 1.5, "metadata": {"duration": 2}}
        return b"\n" + json_bytes(draw, spoilt(draw, entry)) + b"\n"
    return draw.choice((b"\nvideo_id,duration\na,1\n", b'\n"a\nb",2\n', b"a" * 70_000 + b"\nb\n", b"\n" * 50))


def _compressed(draw: Random, plain: bytes, compression: str) -> bytes:
    """In one member or frame, or in two with something harmless between them."""
    if not compression:
        return plain
    if compression == "gz":
        compress: Callable[[bytes], bytes] = lambda part: gzip.compress(part, draw.choice((0, 1, 9)), mtime=0)  # noqa: E731
        between = draw.choice((b"", b"", b"\0" * 9))
    else:
        compress = zstandard.ZstdCompressor(level=draw.choice((1, 19)), write_checksum=draw.random() < 0.5).compress
        between = draw.choice((b"", b"", b"\x50\x2a\x4d\x18\x03\0\0\0abc"))
    cut = draw.choice((0, draw.randrange(len(plain) + 1)))
    return (compress(plain[:cut]) + between if cut else b"") + compress(plain[cut:])


# ------------------------------------------------------------------------------------------------------------ Parquet

_PARQUET_COLUMNS = (
    "'a-' || i AS video_id, i + 0.5 AS duration",
    "i AS video_id",
    "CASE WHEN i % 2 = 0 THEN 'b' || i END AS \"Video ID\", CAST(i AS VARCHAR) AS duration_seconds",
    "'x' AS other",
    "'a' AS video_id, 'b' AS \"VIDEO ID\"",
    "[i] AS video_id",
    "CAST('a' AS BLOB) AS video_id, DATE '2026-01-02' AS duration",
    "{'video_id': 'a'} AS video_id, true AS duration",
    "'a' || i AS video_id, CAST(CASE WHEN i = 2 THEN 'inf' ELSE '3' END AS DOUBLE) AS duration",
    "chr(CAST(i AS INT) + 8230) || chr(10) AS video_id",
)


@cache
def _parquets() -> tuple[tuple[bytes, tuple[Video, ...] | None, tuple[int, ...]], ...]:
    """Small files of every sort of column, and of those that are right, what they hold."""
    files: list[bytes] = []
    with TemporaryDirectory() as folder, duckdb.connect() as database:
        for columns in _PARQUET_COLUMNS:
            for codec in ("uncompressed", "snappy", "zstd"):
                path = Path(folder, "list.parquet")
                database.execute(
                    f"COPY (SELECT {columns} FROM range(1, 5) t(i)) TO '{path}' (FORMAT parquet, COMPRESSION {codec})"
                )
                files.append(path.read_bytes())
    known: dict[int, tuple[tuple[Video, ...], tuple[int, ...]]] = {
        0: (tuple(Video(f"a-{i}", i + 0.5) for i in range(1, 5)), ()),
        1: (tuple(Video(str(i)) for i in range(1, 5)), ()),
        2: ((Video("b2", 2.0), Video("b4", 4.0)), (1, 3)),
        8: (tuple(Video(f"a{i}", 3.0) for i in (1, 3, 4)), (2,)),
    }
    return tuple((body, *known.get(place // 3, (None, ()))) for place, body in enumerate(files))


def _parquet(draw: Random) -> IdList:
    body, videos, bad_lines = draw.choice(_parquets())
    name = draw.choice((None, "list.parquet", "list"))
    if draw.random() < 0.7:
        where = draw.choice((len(body), min(len(body), 200)))  # the footer, or the data
        body = body[:-where] + mutated(draw, body[-where:], draw.choice(_parquets())[0])
        videos, bad_lines = None, ()
    return IdList(name, _compressed(draw, body, draw.choice(("", "", "gz", "zst"))), videos, bad_lines)


# ----------------------------------------------------------------------------------------------------------- checking


@dataclass(frozen=True, slots=True)
class _Read:
    videos: tuple[Video, ...]
    skipped: tuple[str, ...]
    problems: tuple[str, ...]


def _read(case: IdList, folder: Path, on_bad_line: Literal["refuse", "skip"]) -> _Read:
    path = STANDARD_INPUT if case.name is None else str(folder / case.name)
    videos: list[Video] = []
    skipped: list[str] = []
    problems: tuple[str, ...] = ()
    try:
        stdin = io.BytesIO(case.stored)
        videos.extend(read_videos([path], on_bad_line=on_bad_line, on_skipped=skipped.append, stdin=stdin))
    except InputError as error:
        # Parquet that was copied is named by its copy, which is another one each time.
        problems = tuple(re.sub(r"/\S*/bulk-classify-\w+", "copy", line) for line in error.problems)
        assert problems
    return _Read(tuple(videos), tuple(skipped), problems)


def check(case: IdList, folder: Path) -> bool:
    """Read a list twice, with its bad lines refused and skipped, and hold both against each other and the file."""
    if case.name is not None:
        write(folder, case.name, case.stored)
    skipping, refusing = _read(case, folder, "skip"), _read(case, folder, "refuse")
    name = "standard input" if case.name is None else str(folder / case.name)
    name = name if name.isprintable() else repr(name)[1:-1]
    for line in skipping.skipped[: 2 * LISTED_PROBLEMS]:
        check_message(line, re.escape(name) + r":\d+: \S")
    for line in skipping.problems:
        check_message(line, re.escape(name) + r": \S")
    _check_agreement(skipping, refusing)
    for video in skipping.videos:
        assert _ID.fullmatch(video.video_id)
        duration = video.duration_seconds
        assert duration is None or (type(duration) is float and isfinite(duration) and duration > 0)
    if case.videos is not None:
        assert (skipping.videos, skipping.problems) == (case.videos, ())
        lines = [int(line.removeprefix(f"{name}:").partition(":")[0]) for line in skipping.skipped]
        assert lines == list(case.bad_lines)
    elif not skipping.problems and not case.is_bomb:
        _check_occurrence({video.video_id for video in skipping.videos}, case.stored)
    return not refusing.problems


def _check_agreement(skipping: _Read, refusing: _Read) -> None:
    """A bad line changes nothing but itself, and is a problem exactly where it is not skipped."""
    assert skipping.videos == refusing.videos
    assert not refusing.skipped
    assert len(skipping.problems) <= 1, "of one file, only that it cannot be read"
    found = skipping.skipped + skipping.problems
    assert refusing.problems[:LISTED_PROBLEMS] == found[:LISTED_PROBLEMS]
    assert len(refusing.problems) == min(len(found), LISTED_PROBLEMS + 1)


def _check_occurrence(video_ids: set[str], stored: bytes) -> None:
    plain = b"".join(_unpacked(stored))
    if b"PAR1" in plain[:4]:
        return  # Parquet packs its values once more
    missing = {one for one in video_ids if one.encode() not in plain}
    if missing:  # JSON may spell a letter \u0061
        missing -= set(chain.from_iterable(map(_texts_of_line, plain.splitlines())))
    assert not missing, "ids that the file does not hold"


def _unpacked(stored: bytes) -> Iterator[bytes]:
    member: Any
    while stored:
        if stored.startswith(b"\x1f\x8b"):
            member = zlib.decompressobj(wbits=31)
        elif re.match(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18", stored):
            member = zstandard.ZstdDecompressor().decompressobj()
        else:
            yield stored
            return
        yield member.decompress(stored)
        stored = member.unused_data.lstrip(b"\0")


def _texts_of_line(line: bytes) -> Iterator[str]:
    try:
        waiting = [json.loads(line.removeprefix(b"\xef\xbb\xbf"))]
    except (ValueError, RecursionError):
        return
    while waiting:
        match waiting.pop():
            case str(text):
                yield text
            case dict(entries):
                waiting += entries.values()
            case list(entries):
                waiting += entries


ID_LISTS = Reader(make, check, most_bytes=16 * 2**20)  # a third of what the bombs unpack to
