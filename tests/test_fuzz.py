"""The first cases of the fuzzed readers; ``scripts/fuzz`` runs half a million of each. And that the checks do check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner

from tests.fuzz.command import READERS, main
from tests.fuzz.id_lists import IdList
from tests.fuzz.pages import Answers
from tests.fuzz.running import Reader, Tally, check_message, fuzz

CASES = {"ids": 1_000, "pages": 2_500, "config": 1_000}


@pytest.mark.parametrize("name", READERS)
def test_hostile_input_gives_a_right_value_or_an_error_of_ours(name: str, tmp_path: Path) -> None:
    tally = fuzz(READERS[name], 0, range(CASES[name]), tmp_path)
    assert not tally.findings, "\n".join(tally.findings.values())
    assert tally.cases == CASES[name]
    assert min(tally.values, tally.errors) > CASES[name] // 10, "cases hardly reach both ends"


@pytest.mark.parametrize("name", READERS)
def test_a_case_is_the_same_whenever_it_is_made(name: str) -> None:
    def make(number: int) -> object:
        return READERS[name].make(Random(f"7/{number}"), False)

    assert [make(number) for number in range(50)] == [make(number) for number in range(50)]


def _without_videos(case: object) -> object:
    return replace(case, videos=(), bad_lines=()) if isinstance(case, IdList) and case.videos else None


def _another_total(case: object) -> object:
    return replace(case, total=case.total + 1) if isinstance(case, Answers) and case.total is not None else None


@pytest.mark.parametrize(("name", "falsified"), [("ids", _without_videos), ("pages", _another_total)])
def test_a_value_that_is_not_the_one_written_is_found(
    name: str, falsified: Callable[[object], object], tmp_path: Path
) -> None:
    reader = READERS[name]
    cases = (falsified(reader.make(Random(number), False)) for number in range(100))
    false = next(case for case in cases if case is not None)
    with pytest.raises(AssertionError):
        reader.check(false, tmp_path)


def test_whatever_a_reader_raises_is_a_finding_once_with_the_case_that_repeats_it(tmp_path: Path) -> None:
    def check(case: int, _: Path) -> bool:
        return bool(1 / (case % 3))

    tally = fuzz(Reader(lambda draw, _: draw.randrange(100), check, 2**20), 5, range(1, 41), tmp_path)
    (finding,) = tally.findings.values()
    number = next(number for number in range(1, 41) if Random(f"5/{number}").randrange(100) % 3 == 0)
    assert finding.startswith(f"case {number} of seed 5: ")
    assert "ZeroDivisionError" in finding
    assert (tally.cases, tally.failures) == (
        40,
        sum(Random(f"5/{one}").randrange(100) % 3 == 0 for one in range(1, 41)),
    )


def test_a_case_that_holds_too_much_at_once_is_a_finding(tmp_path: Path) -> None:
    def made(draw: Random, heavy: bool) -> int:
        return 2**20 if heavy else 1

    def check(case: int, _: Path) -> bool:
        return bool(bytearray(case))

    assert len(fuzz(Reader(made, check, 2**20), 1, range(2), tmp_path).findings) == 1
    assert not fuzz(Reader(made, check, 2**21), 1, range(2), tmp_path).findings


@pytest.mark.parametrize("line", ["", "a\nb", "a\x1b[1m", "x" * 1_001, "nowhere"])
def test_a_message_that_no_terminal_should_be_given_is_none_of_ours(line: str) -> None:
    check_message("file: why", "file: ")
    with pytest.raises(AssertionError):
        check_message(line, "file: |a|x")


def test_tallies_add_up() -> None:
    total = Tally(
        values=1, errors=2, failures=1, peak_bytes=5, slowest_seconds=1.0, slowest_case=7, findings={"a": "first"}
    )
    total.add(
        Tally(
            values=3,
            errors=4,
            failures=1,
            peak_bytes=4,
            slowest_seconds=2.0,
            slowest_case=9,
            findings={"a": "b", "c": "d"},
        )
    )
    assert total == Tally(4, 6, 2, 5, 2.0, 9, {"a": "first", "c": "d"})
    assert total.cases == 12


def test_the_long_form_runs_slices_in_processes_and_says_what_came(tmp_path: Path) -> None:
    ended = CliRunner().invoke(main, ["--cases", "30", "--seed", "3", "--reader", "pages", "--processes", "1"])
    assert ended.exit_code == 0, ended.output
    assert ended.output.startswith("pages: 30 cases of seed 3 in ")
