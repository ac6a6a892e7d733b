"""What a run shows while it goes on: one line, again and again. The line is pure; the console knows where it goes.

On a terminal the line is drawn over itself twice a second. Elsewhere, in a cron job's mail or a log, a line is written
every thirty seconds, so that a night leaves a readable trace and a hung run is told from a slow one.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TextIO

_TERMINAL_SECONDS = 0.5
_HEARTBEAT_SECONDS = 30.0


@dataclass(slots=True)
class Progress:
    """Counts of one process's part of a run. ``began_at`` in seconds of a clock that only rises."""

    videos: int
    settled: int
    failed: int
    posts_planned: int
    began_at: float
    settled_before: int
    posts: int = 0

    def line(self, now: float) -> str:
        """How the run stands, for people."""
        share = 100 * self.settled // self.videos if self.videos else 100
        parts = [f"{self.settled:,} of {self.videos:,} videos ({share} %)", f"{self.posts:,} POSTs sent"]
        if self.posts_planned:
            parts[-1] += f" of {self.posts_planned:,} planned"
        if self.failed:
            parts.append(f"{self.failed:,} failed")
        elapsed = now - self.began_at
        fresh = self.settled - self.settled_before
        if fresh and elapsed > 0 and self.settled < self.videos:
            parts.append(f"about {duration((self.videos - self.settled) * elapsed / fresh)} left")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """A length of time as people say it: ``45 s``, ``12 min``, ``3 h 20 min``."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


class Console:
    """Where people read along: messages, each a line, and below them the line of progress while there is one."""

    def __init__(self, stream: TextIO, *, quiet: bool = False) -> None:
        self._stream = stream
        self._quiet = quiet
        self._live = stream.isatty()
        self._drawn = False

    @property
    def seconds_between_lines(self) -> float:
        """How long to wait before the next line of progress."""
        return _TERMINAL_SECONDS if self._live else _HEARTBEAT_SECONDS

    def say(self, message: str) -> None:
        """Write a message."""
        if not self._quiet:
            self._erase()
            self._write(f"{message}\n")

    def show(self, line: str) -> None:
        """Draw the line of progress, over the last one on a terminal."""
        if self._quiet:
            return
        if self._live:
            self._erase()
            self._write(line[: shutil.get_terminal_size().columns - 1])
            self._drawn = True
        else:
            self._write(f"{line}\n")

    def _erase(self) -> None:
        if self._drawn:
            self._write("\r\x1b[K")
            self._drawn = False

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # nobody reads along any more; the run goes on
            self._quiet = True
