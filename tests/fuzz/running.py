"""The loop over cases, and what holds for every error of ours."""

from __future__ import annotations

import re
import time
import traceback
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Generic, TypeVar

LONGEST_MESSAGE = 1_000
"""Characters that a line of an error may have."""
WEIGHED = 500
"""Each so many cases, one is made to be heavy, and what it allocates is measured."""
_MAX_FINDINGS = 20
_SHOWN = 4_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reader(Generic[T]):
    """What is fuzzed.

    ``make`` draws a case, which shall be a heavy one or not; ``check`` reads it, with a folder for its files, and tells
    whether a value came out (else it was an error of ours). Whatever ``check`` raises is a finding. ``most_bytes`` is
    what it may hold at once, whatever a case unpacks to.
    """

    make: Callable[[Random, bool], T]
    check: Callable[[T, Path], bool]
    most_bytes: int


@dataclass(slots=True)
class Tally:
    """What came of some cases. ``findings`` has one text for each place that failed, with the case to repeat it."""

    values: int = 0
    errors: int = 0
    failures: int = 0
    peak_bytes: int = 0
    slowest_seconds: float = 0.0
    slowest_case: int = 0
    findings: dict[str, str] = field(default_factory=dict)

    @property
    def cases(self) -> int:
        """How many were tried."""
        return self.values + self.errors + self.failures

    def add(self, other: Tally) -> None:
        """Count other cases in."""
        self.values += other.values
        self.errors += other.errors
        self.failures += other.failures
        self.peak_bytes = max(self.peak_bytes, other.peak_bytes)
        if other.slowest_seconds > self.slowest_seconds:
            self.slowest_seconds, self.slowest_case = other.slowest_seconds, other.slowest_case
        self.findings = other.findings | self.findings


def fuzz(reader: Reader[T], seed: int, numbers: Iterable[int], folder: Path) -> Tally:
    """Try the cases with these numbers."""
    tally = Tally()
    for number in numbers:
        heavy = number % WEIGHED == 0
        case = reader.make(Random(f"{seed}/{number}"), heavy)
        began = time.process_time()
        try:
            came = _weighed(reader, case, folder, tally) if heavy else reader.check(case, folder)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
            tally.failures += 1
            place = "|".join(f"{at.filename}:{at.lineno}" for at in traceback.extract_tb(error.__traceback__)[-2:])
            if place not in tally.findings and len(tally.findings) < _MAX_FINDINGS:
                tally.findings[place] = f"case {number} of seed {seed}: {_finding(case, error)}"
        else:
            tally.values += came
            tally.errors += not came
        taken = time.process_time() - began
        if taken > tally.slowest_seconds and not heavy:
            tally.slowest_seconds, tally.slowest_case = taken, number
    return tally


def _finding(case: object, error: Exception) -> str:
    shown = repr(case)
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}… ({len(shown)} characters)"
    return f"{shown}\n{''.join(traceback.format_exception(error, limit=-6))}"


def _weighed(reader: Reader[T], case: T, folder: Path, tally: Tally) -> bool:
    tracemalloc.start()
    try:
        came = reader.check(case, folder)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    tally.peak_bytes = max(tally.peak_bytes, peak)
    assert peak <= reader.most_bytes, f"{peak} bytes held at once"
    return came


def write(folder: Path, name: str, body: bytes) -> Path:
    """Write a case's file anew: to cut an old one to nothing makes some filesystems sync."""
    path = folder / name
    path.unlink(missing_ok=True)
    path.write_bytes(body)
    return path


def check_message(line: str, begins: str = "", *, longest: int = LONGEST_MESSAGE) -> None:
    """One line that a terminal can be trusted with, that says where, and that ends."""
    assert line, "an error without words"
    assert line.isprintable(), f"not printable: {line[:300]!r}"
    assert len(line) <= longest, f"{len(line)} characters: {line[:300]!r}"
    assert re.match(begins, line), f"says not where: {line[:300]!r}"
