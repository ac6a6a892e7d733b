"""What messages repeat: numbers so that one thing is one thing, and foreign texts so that they do no harm. Pure."""

from __future__ import annotations

LONGEST_TOLD = 500
"""Characters of what a server says that a message repeats."""
STRUCK = "[key]"
"""What stands where somebody has repeated our key."""
_SHORTEST_SECRET = 8


def counted(count: int, one: str, many: str = "") -> str:
    """So many of something, with a comma between thousands: ``1 chunk``, ``1,200 chunks``; ``many`` if not by an s."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def escaped(text: str) -> str:
    """A text on one line, with what a terminal would obey written as Python writes it."""
    return text if text.isprintable() else repr(text)[1:-1]


def printable(text: str) -> str:
    """A text on one line, with spaces in place of what a terminal would obey."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def is_secret(key: str) -> bool:
    """Whether an API key must be kept. One such as "x", which a local platform takes, is part of many a word."""
    return len(key) >= _SHORTEST_SECRET


def harmless(told: str, key: str | None) -> str:
    """What a server says, without our key and without what a terminal would obey, and not endless."""
    if key is not None and is_secret(key):
        told = told.replace(key, STRUCK)
    return printable(told[:LONGEST_TOLD])
