"""Where people read along: messages, each a line, and below them the live view while a run goes on.

On a terminal the view is drawn over itself twice a second. Between two drawings the cursor rests on the view's first
line: however the terminal has broken the lines when its width changed, all of the old view is then below the cursor,
and goes with what is erased there. Each drawing is one write, line by line over the old ones, so nothing flickers; and
the terminal is told not to break lines meanwhile, so a letter that is wider there than we think breaks nothing.

Elsewhere, in a cron job's mail or a pipe, a line is written every thirty seconds, so that a night leaves a readable
trace and a hung run is told from a slow one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import TextIO

from pipeline.progress import Line, Piece, Style, cells, shortened

_TERMINAL_SECONDS = 0.5
_HEARTBEAT_SECONDS = 30.0
_FEWEST_COLUMNS = 20
_USUAL_SIZE = os.terminal_size((80, 24))
_COLOURS: Mapping[Style, str] = {"good": "32", "bad": "31", "wait": "33", "faint": "2"}
# For terminals whose encoding does not have them. One letter each, or a line would be wider than it was meant.
_PLAIN_LETTERS = str.maketrans({"█": "#", "░": "-", "…": "."})
_NO_BREAKS, _BREAKS = "\x1b[?7l", "\x1b[?7h"
_TO_LINE_END, _TO_SCREEN_END = "\x1b[K", "\x1b[J"


@dataclass(frozen=True, slots=True)
class Look:
    """What a stream is good for: drawing over itself (``is_live``), and colours."""

    is_live: bool = False
    is_coloured: bool = False


def look_of(stream: TextIO, environment: Mapping[str, str]) -> Look:
    """What a stream is good for, by what it is and by the usual variables.

    ``NO_COLOR`` switches colours off, ``FORCE_COLOR`` and ``CLICOLOR_FORCE`` on wherever the stream goes,
    ``CLICOLOR=0`` off on terminals, in this order (https://no-color.org, https://bixense.com/clicolors); empty counts
    as not set, and ``0`` forces nothing. On a terminal that is dumb, or does not say what it is, nothing is drawn.
    """
    is_terminal = stream.isatty() and environment.get("TERM", "dumb") not in {"", "dumb"}
    if environment.get("NO_COLOR"):
        return Look(is_terminal, is_coloured=False)
    is_forced = any(environment.get(name, "") not in {"", "0"} for name in ("FORCE_COLOR", "CLICOLOR_FORCE"))
    return Look(is_terminal, is_coloured=is_forced or (is_terminal and environment.get("CLICOLOR") != "0"))


class Console:
    """A stream for people, standard error as a rule. ``quiet`` writes nothing; ``verbose`` lets events be told too."""

    def __init__(self, stream: TextIO, *, look: Look | None = None, quiet: bool = False, verbose: bool = False) -> None:
        self._stream = stream
        self._look = look or Look(stream.isatty())
        self._quiet = quiet
        self.verbose = verbose and not quiet
        self._rows = 0  # of the view that is drawn
        self._is_plain = not _can_write("█░…", stream)

    @property
    def seconds_between_lines(self) -> float:
        """How long to wait before the next line of progress."""
        return _TERMINAL_SECONDS if self._look.is_live else _HEARTBEAT_SECONDS

    @property
    def is_live(self) -> bool:
        """Whether a view is drawn over itself."""
        return self._look.is_live and not self._quiet

    def say(self, message: str) -> None:
        """Write a message."""
        if not self._quiet:
            self._write(f"{self._erased()}{marked(self._broken(message), self._look)}\n")

    def show(self, line: str) -> None:
        """Draw one line of progress, over the last one on a terminal."""
        self.draw(lambda columns: [(Piece(shortened(line, columns)),)], lambda: line)

    def draw(self, view: Callable[[int], Sequence[Line]], heartbeat: Callable[[], str]) -> None:
        """Draw a view for so many columns over the last one, or, away from a terminal, write its heartbeat."""
        if self._quiet:
            return
        if not self._look.is_live:
            self._write(f"{heartbeat()}\n")
            return
        columns, rows = self._size()
        lines = list(view(max(columns - 1, _FEWEST_COLUMNS)))[: max(rows - 1, 1)]
        drawn = "\n".join(f"\r{self._painted(line)}{_TO_LINE_END}" for line in lines)
        back = f"\x1b[{len(lines) - 1}A" if len(lines) > 1 else ""
        self._write(f"{_NO_BREAKS}{drawn}{_TO_SCREEN_END}\r{back}{_BREAKS}")
        self._rows = len(lines)

    def erase(self) -> None:
        """Take the view away."""
        if self._rows:
            self._write(self._erased())

    def _erased(self) -> str:
        drawn, self._rows = self._rows, 0
        return f"\r{_TO_SCREEN_END}" if drawn else ""

    def _broken(self, message: str) -> str:
        """A message, on a terminal broken between words; but for what is to be typed."""
        columns = self._size().columns
        if not self._look.is_live or cells(message) <= columns or message.startswith("next"):
            return message
        return fill(message, columns, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)

    def _size(self) -> os.terminal_size:
        """The terminal's own word: ``COLUMNS`` does not follow when the window changes."""
        try:
            size = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            return _USUAL_SIZE
        return size if size.columns and size.lines else _USUAL_SIZE

    def _painted(self, line: Iterable[Piece]) -> str:
        text = "".join(
            _coloured(piece.text, piece.style) if piece.style and self._look.is_coloured else piece.text
            for piece in line
        )
        return text.translate(_PLAIN_LETTERS) if self._is_plain else text

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # nobody reads along any more; the run goes on
            self._quiet = True
        except RuntimeError:  # a signal is met within a write: what it says is lost, and nothing else
            pass


_GRAVITY: Mapping[str, Style] = {"error": "bad", "warning": "wait", "next": "good"}


def marked(message: str, look: Look) -> str:
    """A message whose first word, ``error`` or the like, is coloured where the stream takes colours."""
    word, colon, rest = message.partition(":")
    style = _GRAVITY.get(word)
    return message if style is None or not look.is_coloured else f"{_coloured(word + colon, style)}{rest}"


def _coloured(text: str, style: Style) -> str:
    return f"\x1b[{_COLOURS[style]}m{text}\x1b[0m"


def _can_write(letters: str, stream: TextIO) -> bool:
    try:
        letters.encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
