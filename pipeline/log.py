"""Structured events, one JSON object a line: what happened to a run, for people and programs to read later.

An event has a name that stays, and facts that are plain values. Nothing here knows a secret, so nothing can tell one:
whoever logs passes ids, counts and messages of ours, never headers and never a request.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Self

import orjson

from pipeline.errors import StorageError
from pipeline.wording import printable

Level = Literal["debug", "info", "warning", "error"]
LEVELS: tuple[Level, ...] = ("debug", "info", "warning", "error")


def utc(epoch_seconds: float) -> str:
    """RFC 3339 in UTC with milliseconds, as every moment in our files is written."""
    moment = datetime.fromtimestamp(epoch_seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Log:
    """Writes events at or above a level to one file, each with one call, so that lines never mix.

    Raises ``StorageError`` for a file that cannot be opened; a write that fails later is dropped, for a full disk is
    the sink's to report. ``clock`` gives seconds since the epoch; ``told`` gets every written event as a line for
    people, where somebody reads along.
    """

    def __init__(
        self, path: Path, *, level: Level, clock: Callable[[], float], told: Callable[[str], None] | None = None
    ) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror}") from error
        self._lowest = LEVELS.index(level)
        self._clock = clock
        self._told = told

    def event(self, name: str, level: Level = "info", **facts: object) -> None:
        """Write one event."""
        if LEVELS.index(level) < self._lowest:
            return
        entry = {"at": utc(self._clock()), "level": level, "event": name, **facts}
        with suppress(OSError):
            os.write(self._descriptor, _line(entry))
        if self._told is not None:
            self._told(f"{level}: {name} {_in_words(facts)}".rstrip())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def _in_words(facts: Mapping[str, object]) -> str:
    told = " ".join(f"{name}={str(value).strip()}" for name, value in facts.items() if value is not None)
    return printable(told)


def _line(entry: dict[str, object]) -> bytes:
    try:
        return orjson.dumps(entry, default=str, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # a number beyond 64 bits, or a file name that is not Unicode
        return json.dumps(entry, default=str).encode() + b"\n"
