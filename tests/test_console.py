"""Where people read along: what a terminal is sent, byte for byte, and what anything else is."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import select
import struct
import termios
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TextIO

import pytest

from pipeline.console import Console, Look, look_of, marked
from pipeline.progress import Line, Piece

LIVE = Look(is_live=True)


@dataclass(frozen=True, slots=True)
class Screen:
    """The other end of a terminal."""

    reading: int
    stream: TextIO

    def resize(self, columns: int, rows: int = 24) -> None:
        fcntl.ioctl(self.reading, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def shown(self, expected: str) -> str:
        """What was sent, as soon as it is as long as what is expected."""
        said = b""
        while len(said) < len(expected.encode()):
            readable, _, _ = select.select([self.reading], [], [], 60)
            assert readable, f"nothing follows {said!r}"
            said += os.read(self.reading, 1024)
        return said.decode()


@contextmanager
def screen(columns: int = 80, rows: int = 24, encoding: str = "utf-8") -> Iterator[Screen]:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w", encoding=encoding) as terminal:
        one = Screen(ours, terminal)
        one.resize(columns, rows)
        yield one
    os.close(ours)


def lines(*texts: str) -> list[Line]:
    return [(Piece(text),) for text in texts]


def drawn(*texts: str, back: str = "") -> str:
    return "\x1b[?7l" + "\r\n".join(f"\r{text}\x1b[K" for text in texts) + f"\x1b[J\r{back}\x1b[?7h"


def test_a_view_is_drawn_over_itself_from_its_first_line_and_gives_way_to_messages() -> None:
    with screen() as one:
        console = Console(one.stream, look=LIVE)
        console.say("began")
        console.draw(lambda _: lines("videos 1", "POSTs 1"), str)
        console.draw(lambda _: lines("videos 2", "POSTs 1"), str)
        console.say("done")
        console.erase()
        expected = (
            "began\r\n"
            + drawn("videos 1", "POSTs 1", back="\x1b[1A")
            + drawn("videos 2", "POSTs 1", back="\x1b[1A")
            + "\r\x1b[Jdone\r\n"
        )
        assert one.shown(expected) == expected
        assert console.seconds_between_lines == 0.5


def test_each_drawing_is_for_the_width_that_the_terminal_has_at_that_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable COLUMNS tells how wide it was once."""
    monkeypatch.setenv("COLUMNS", "999")
    asked: list[int] = []

    def view(columns: int) -> list[Line]:
        asked.append(columns)
        return []

    with screen(80) as one:
        console = Console(one.stream, look=LIVE)
        for columns in (80, 40, 200, 3, 0):
            one.resize(columns)
            console.draw(view, str)
    assert asked == [79, 39, 199, 20, 79]  # narrower ones are cut by the terminal; none has no size


def test_a_view_never_scrolls_what_is_above_away() -> None:
    with screen(rows=3) as one:
        Console(one.stream, look=LIVE).draw(lambda _: lines("a", "b", "c", "d"), str)
        expected = drawn("a", "b", back="\x1b[1A")
        assert one.shown(expected) == expected


def test_a_long_message_is_broken_between_words_but_for_what_is_to_be_typed() -> None:
    with screen(20) as one:
        console = Console(one.stream, look=LIVE)
        console.say("a message of more than twenty letters")
        console.say("next: bulk-classify resume runs/overnight")
        expected = "a message of more\r\n  than twenty\r\n  letters\r\nnext: bulk-classify resume runs/overnight\r\n"
        assert one.shown(expected) == expected


def test_one_line_of_progress_is_cut_where_the_terminal_ends() -> None:
    with screen(21) as one:
        Console(one.stream, look=LIVE).show("x" * 100)
        expected = drawn("x" * 19 + "…")
        assert one.shown(expected) == expected


def test_a_terminal_that_cannot_show_our_letters_gets_others_as_wide() -> None:
    with screen(encoding="ascii") as one:
        Console(one.stream, look=LIVE).draw(lambda _: lines("██░…"), str)
        expected = drawn("##-.")
        assert one.shown(expected) == expected


def test_away_from_a_terminal_every_drawing_is_a_line_of_its_own() -> None:
    stream = io.StringIO()
    console = Console(stream)
    console.say("began")
    console.show("1 of 2")
    console.draw(lambda _: lines("never"), lambda: "2 of 2")
    console.erase()
    console.say("done")
    assert stream.getvalue() == "began\n1 of 2\n2 of 2\ndone\n"
    assert (console.seconds_between_lines, console.is_live) == (30.0, False)


def test_a_quiet_console_says_nothing_and_is_not_verbose() -> None:
    stream = io.StringIO()
    console = Console(stream, look=LIVE, quiet=True, verbose=True)
    console.say("a")
    console.show("b")
    assert (stream.getvalue(), console.verbose, console.is_live) == ("", False, False)


@pytest.mark.parametrize("gone", [ValueError, BrokenPipeError])
def test_when_nobody_reads_along_any_more_the_run_goes_on(gone: type[Exception]) -> None:
    class Broken(io.StringIO):
        def write(self, _: str) -> int:
            raise gone

    console = Console(Broken())
    console.say("a")
    console.show("b")


# -------------------------------------------------------------------------------------------------------------- colours


def test_colours_are_of_pieces_and_of_the_first_word_of_a_message() -> None:
    stream = io.StringIO()
    console = Console(stream, look=Look(is_live=True, is_coloured=True))
    console.say("warning: careful: now")
    console.say("what: ever")
    console.draw(lambda _: [(Piece("12", "bad"), Piece(" of 30"))], str)
    assert stream.getvalue() == (
        "\x1b[33mwarning:\x1b[0m careful: now\nwhat: ever\n" + drawn("\x1b[31m12\x1b[0m of 30").replace("\r\n", "\n")
    )
    assert marked("error: no", Look()) == "error: no"


@pytest.mark.parametrize(
    ("environment", "terminal", "elsewhere"),
    [
        ({}, Look(), Look()),
        ({"TERM": "xterm"}, Look(True, True), Look()),
        ({"TERM": "dumb"}, Look(), Look()),
        ({"TERM": "xterm", "NO_COLOR": "1"}, Look(True, False), Look()),
        ({"TERM": "xterm", "NO_COLOR": ""}, Look(True, True), Look()),
        ({"TERM": "xterm", "CLICOLOR": "0"}, Look(True, False), Look()),
        ({"TERM": "xterm", "FORCE_COLOR": "1"}, Look(True, True), Look(False, True)),
        ({"TERM": "xterm", "FORCE_COLOR": "0"}, Look(True, True), Look()),
        ({"TERM": "xterm", "CLICOLOR_FORCE": "1", "CLICOLOR": "0"}, Look(True, True), Look(False, True)),
        ({"TERM": "xterm", "FORCE_COLOR": "1", "NO_COLOR": "1"}, Look(True, False), Look()),
    ],
)
def test_what_a_stream_is_good_for_follows_the_usual_variables(
    environment: dict[str, str], terminal: Look, elsewhere: Look
) -> None:
    with screen() as one, closing(io.StringIO()) as pipe:
        assert (look_of(one.stream, environment), look_of(pipe, environment)) == (terminal, elsewhere)
