"""Classes kept outside the configuration: CSV, JSON or TOML, told apart by the file's name.

This reads shapes only. Each class comes out as the table that a configuration would hold, labelled with where it stands
(file and line where the format tells, else file and number), and whoever asked checks it as any other class. What a
format would quietly lose is refused here: a comma that splits a prompt, a name that a JSON object has twice.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

from pipeline.config_keys import shown, shown_path
from pipeline.config_sources import read_text, read_toml
from pipeline.errors import ConfigError

Labelled = tuple[str, object]
"""Where a class stands, and what stands there."""

_COLUMNS = ("class_name", "prompt")


def read_class_file(path: Path) -> list[Labelled]:
    """Every class of a file, in its order. Raises ``ConfigError`` with all problems of its form."""
    readers = {".csv": _csv_classes, ".json": _json_classes, ".toml": _toml_classes}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ConfigError([f"{shown_path(path)}: a file of classes is named *.csv, *.json or *.toml"])
    return reader(path)


def _csv_classes(path: Path) -> list[Labelled]:
    """A prompt a row; the rows of a class need not stand together, and the first says where the class stands."""
    prompts: dict[str, list[str]] = {}
    first_lines: dict[str, int] = {}
    problems: list[str] = []
    for line, cells in _csv_rows(path):
        if isinstance(cells, str):
            problems.append(f"{shown_path(path)}:{line}: {cells}")
        else:
            name, prompt = cells
            first_lines.setdefault(name, line)
            prompts.setdefault(name, []).append(prompt)
    if problems:
        raise ConfigError(problems)
    return [
        (f"{shown_path(path)}:{first_lines[name]}: class {shown(name)}", {"name": name, "prompts": listed})
        for name, listed in prompts.items()
    ]


def _csv_rows(path: Path) -> Iterator[tuple[int, tuple[str, str] | str]]:
    """Each row's line with its name and prompt, or with what is wrong there."""
    text = read_text(path)
    first_line = text.partition("\n")[0].strip()
    delimiter = ";" if ";" in first_line and "," not in first_line else ","  # as spreadsheets of some countries write
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [cell.strip().lower() for cell in next(rows, [])]
        if any(header.count(column) != 1 for column in _COLUMNS):
            seen = f"its first line is {shown(first_line)}" if first_line else "it is empty"
            yield 1, f"expected a header with the columns {','.join(_COLUMNS)}, and {seen}"
            return
        at = [header.index(column) for column in _COLUMNS]
        for row in rows:
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if len(cells) != len(header):
                needs_quotes = "a comma" if delimiter == "," else "a semicolon"
                yield (
                    rows.line_num,
                    f"{len(cells)} cells under {len(header)} columns; {needs_quotes} in a prompt needs quotes",
                )
            elif not (cells[at[0]] and cells[at[1]]):
                yield rows.line_num, f"{' and '.join(_COLUMNS)} must not be empty"
            else:
                yield rows.line_num, (cells[at[0]], cells[at[1]])
    except csv.Error as error:
        yield rows.line_num, f"not valid CSV: {error}"


def _json_classes(path: Path) -> list[Labelled]:
    """``{"name": ["prompt", …]}``, or the contract's ``[{"name": …, "prompts": […]}]``."""
    text = read_text(path)
    try:
        # An object becomes a tuple of its pairs, so that a name that stands there twice is seen twice.
        found = json.loads(text, object_pairs_hook=tuple)
    except json.JSONDecodeError as error:
        raise ConfigError([f"{shown_path(path)}:{error.lineno}: not valid JSON: {error.msg}"]) from None
    except (ValueError, RecursionError):
        raise ConfigError([f"{shown_path(path)}: not valid JSON: nested too deeply, or a number too long"]) from None
    if isinstance(found, tuple):
        return _numbered(path, [{"name": name, "prompts": prompts} for name, prompts in found])
    if isinstance(found, list):
        return _numbered(path, [dict(entry) if isinstance(entry, tuple) else entry for entry in found])
    raise ConfigError([f"{shown_path(path)}: expected an object of lists, or a list of classes"])


def _toml_classes(path: Path) -> list[Labelled]:
    """``[[classes]]``, and nothing else."""
    table = read_toml(path)
    classes = table.get("classes")
    if table.keys() != {"classes"} or not isinstance(classes, list):
        raise ConfigError([f"{shown_path(path)}: expected [[classes]], each with name and prompts, and nothing else"])
    return _numbered(path, classes)


def _numbered(path: Path, classes: list[object]) -> list[Labelled]:
    return [(f"{shown_path(path)}: class #{number}", entry) for number, entry in enumerate(classes, 1)]
