"""Labels for a calibration: which stretch of which video matches a prompt, and which does not.

CSV with a header, or NDJSON, told apart by the first character; compressed or not. A line has ``video_id``, ``option``,
``prompt`` and ``label`` (1 or 0), and may have ``start`` and ``end`` in seconds; without them it is about the whole
video. All bad lines are told at once, each with its number.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from pipeline.errors import InputError
from pipeline.lines import BadFile, BadLine, lines_of, text_of
from pipeline.wire import Option

MAX_LISTED = 20
"""Bad lines that a message lists; of the others it tells the count."""
_LONGEST_MESSAGE = 300
_NEEDED = ("video_id", "option", "prompt", "label")
_KNOWN = (*_NEEDED, "start", "end")


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    video_id: Annotated[str, Meta(min_length=1, max_length=128)]
    option: Option
    prompt: Annotated[str, Meta(min_length=1)]
    label: Annotated[int, Meta(ge=0, le=1)]
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True, slots=True)
class Label:
    """Whether a video matches a prompt somewhere between two moments, in seconds; ``place`` is its file and line."""

    place: str
    video_id: str
    option: str
    prompt: str
    matches: bool
    start: float
    end: float


def read_labels(path: Path) -> list[Label]:
    """The labels of a file. Raises ``InputError`` with its bad lines, or with why it cannot be read."""
    labels: list[Label] = []
    problems: list[str] = []
    try:
        for line, row in _rows(path):
            found = _label(f"{path}:{line}", row)
            if isinstance(found, Label):
                labels.append(found)
            else:
                problems.append(f"{path}:{line}: {_harmless(found)}")
    except BadFile as error:
        problems.append(f"{path}: {error}")
    refuse_any(problems)
    if not labels:
        raise InputError([f"{path}: holds no labels"])
    return labels


def _harmless(text: str) -> str:
    """What a parser says, which may repeat a value: not endless, and without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:_LONGEST_MESSAGE])


def refuse_any(problems: list[str]) -> None:
    """Raise ``InputError`` with these lines, or with the first of them and their count; nothing where there is none."""
    if problems:
        more = [f"{len(problems):,} bad lines in all"] if len(problems) > MAX_LISTED else []
        raise InputError(problems[:MAX_LISTED] + more)


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Each row's line and what it holds: an object, or a text that says what is wrong with it."""
    lines = lines_of(str(path))
    first = next(lines, b"")
    read = _from_json if first.lstrip().startswith(b"{") else _from_csv
    yield from read(chain([first], lines))


def _from_json(lines: Iterable[bytes]) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield number, msgspec.json.decode(text_of(line))
            except (ValueError, RecursionError, BadLine) as error:
                yield number, str(error)


def _from_csv(lines: Iterable[bytes]) -> Iterator[tuple[int, Any]]:
    rows = csv.reader((f"{text_of(line)}\n" for line in lines), strict=True)
    try:
        header = [cell.strip() for cell in next(rows, [])]
        missing = [name for name in _NEEDED if name not in header]
        unknown = [name for name in header if name not in _KNOWN]
        if missing or unknown or len(set(header)) < len(header):
            raise BadFile(f"the header has {', '.join(_NEEDED)}, and may have start and end, each once")
        for row in rows:
            if not row:
                continue
            if len(row) != len(header):
                yield rows.line_num, f"{len(row)} cells under a header of {len(header)}"
            else:
                cells = zip(header, (cell.strip() for cell in row), strict=True)
                yield rows.line_num, {name: cell for name, cell in cells if cell}
    except csv.Error as error:
        raise BadFile(f"line {rows.line_num}: {error}") from None
    except BadLine as error:
        raise BadFile(f"line {rows.line_num + 1}: {error}") from None


def _label(place: str, row: Any) -> Label | str:
    if isinstance(row, str):
        return row
    try:
        one = msgspec.convert(row, _Row, strict=False)
    except msgspec.ValidationError as error:
        return str(error)
    start, end = one.start if one.start is not None else 0.0, one.end if one.end is not None else math.inf
    if not 0 <= start < end:  # so that a NaN fails it too
        return f"start {start:g} and end {end:g} are no stretch of a video"
    return Label(place, one.video_id, one.option, one.prompt, one.label == 1, start, end)
