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

from pipeline.lines import BadFile, BadLine, Problems, lines_of, text_of
from pipeline.platform.importing import LONGEST_LINE, Report, from_ndjson, numbered
from pipeline.wire import Option
from pipeline.wording import counted

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
    problems = Problems()
    labels = list(_labels(path, problems.add))
    if not (labels or problems.count):
        problems.add(f"{path}: holds no labels")
    problems.raise_if_any()
    return labels


def _labels(path: Path, report: Report) -> Iterator[Label]:
    try:
        for number, row in _rows(path, report):
            try:
                yield _label(f"{path}:{number}", row)
            except ValueError as error:
                report(f"{path}:{number}: {error}")
    except BadFile as error:
        report(f"{path}: {error}")


def _rows(path: Path, report: Report) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each row's line and what it holds."""
    lines = lines_of(str(path), LONGEST_LINE)
    first = next(lines, b"")
    every = chain([first], lines)
    if first.lstrip().startswith(b"{"):
        return from_ndjson(numbered(every, path, report), dict[str, Any], path, report)
    return _from_csv(every, path, report)


def _from_csv(lines: Iterable[bytes], path: Path, report: Report) -> Iterator[tuple[int, dict[str, Any]]]:
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
                report(f"{path}:{rows.line_num}: {counted(len(row), 'cell')} under a header of {len(header)}")
            else:
                cells = zip(header, (cell.strip() for cell in row), strict=True)
                yield rows.line_num, {name: cell for name, cell in cells if cell}
    except csv.Error as error:
        raise BadFile(f"line {rows.line_num}: {error}") from None
    except BadLine as error:
        raise BadFile(f"line {rows.line_num + 1}: {error}") from None


def _label(place: str, row: dict[str, Any]) -> Label:
    """Raises ``ValueError`` (of which msgspec's own error is one) for what is no label."""
    one = msgspec.convert(row, _Row, strict=False)
    start, end = one.start if one.start is not None else 0.0, one.end if one.end is not None else math.inf
    if not 0 <= start < end:  # so that a NaN fails it too
        raise ValueError(f"start {start:g} and end {end:g} are no stretch of a video")
    return Label(place, one.video_id, one.option, one.prompt, one.label == 1, start, end)
