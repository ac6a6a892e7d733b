"""The line of progress by its value, and where it is written."""

from __future__ import annotations

import io
import os
import pty
from contextlib import closing

import pytest

from pipeline.progress import Console, Progress, duration


def progress(**changes: int | float) -> Progress:
    facts: dict[str, int | float] = {
        "videos": 12_000,
        "settled": 3_100,
        "failed": 0,
        "posts_planned": 240,
        "began_at": 50.0,
        "settled_before": 100,
        "posts": 62,
    }
    return Progress(**(facts | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "3,100 of 12,000 videos (25 %), 62 POSTs sent of 240 planned, about 5 min left"),
        (
            {"failed": 1_234},
            "3,100 of 12,000 videos (25 %), 62 POSTs sent of 240 planned, 1,234 failed, about 5 min left",
        ),
        ({"posts_planned": 0}, "3,100 of 12,000 videos (25 %), 62 POSTs sent, about 5 min left"),
        ({"settled_before": 3_100}, "3,100 of 12,000 videos (25 %), 62 POSTs sent of 240 planned"),
        ({"settled": 12_000}, "12,000 of 12,000 videos (100 %), 62 POSTs sent of 240 planned"),
        ({"settled": 11_999}, "11,999 of 12,000 videos (99 %), 62 POSTs sent of 240 planned, about 0 s left"),
        ({"videos": 0, "settled": 0}, "0 of 0 videos (100 %), 62 POSTs sent of 240 planned"),
        ({"began_at": 150.0}, "3,100 of 12,000 videos (25 %), 62 POSTs sent of 240 planned"),
    ],
)
def test_the_line_says_how_the_run_stands(changes: dict[str, int | float], line: str) -> None:
    assert progress(**changes).line(150.0) == line


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (45, "45 s"),
        (89, "89 s"),
        (90, "2 min"),
        (150, "2 min"),
        (5_340, "89 min"),
        (5_400, "1 h 30 min"),
        (12_000, "3 h 20 min"),
        (86_400, "24 h 0 min"),
    ],
)
def test_a_length_of_time_is_told_as_people_say_it(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_away_from_a_terminal_every_message_is_a_line_of_its_own() -> None:
    stream = io.StringIO()
    console = Console(stream)
    console.say("began")
    console.show("1 of 2")
    console.show("2 of 2")
    console.say("done")
    assert stream.getvalue() == "began\n1 of 2\n2 of 2\ndone\n"
    assert console.seconds_between_lines == 30.0


def test_on_a_terminal_the_line_is_drawn_over_itself_and_gives_way_to_messages() -> None:
    ours, theirs = pty.openpty()
    with closing(os.fdopen(ours, "rb", buffering=0)) as screen, os.fdopen(theirs, "w") as terminal:
        console = Console(terminal)
        assert console.seconds_between_lines == 0.5
        console.say("began")
        console.show("1 of 2")
        console.show("2 of 2")
        console.say("done")
        expected = b"began\r\n1 of 2\r\x1b[K2 of 2\r\x1b[Kdone\r\n"
        shown = b""
        while len(shown) < len(expected):
            shown += screen.read(1024)
        assert shown == expected


def test_a_line_longer_than_the_terminal_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    ours, theirs = pty.openpty()
    with closing(os.fdopen(ours, "rb", buffering=0)) as screen, os.fdopen(theirs, "w") as terminal:
        Console(terminal).show("x" * 100)
        assert screen.read(1024) == b"x" * 19


def test_a_quiet_console_says_nothing() -> None:
    stream = io.StringIO()
    console = Console(stream, quiet=True)
    console.say("a")
    console.show("b")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("gone", [ValueError, BrokenPipeError])
def test_when_nobody_reads_along_any_more_the_run_goes_on(gone: type[Exception]) -> None:
    class Broken(io.StringIO):
        def write(self, _: str) -> int:
            raise gone

    console = Console(Broken())
    console.say("a")
    console.show("b")
