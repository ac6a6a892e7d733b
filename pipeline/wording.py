"""Numbers as messages say them, so that one thing is one thing. Pure."""

from __future__ import annotations


def counted(count: int, one: str, many: str = "") -> str:
    """So many of something, with a comma between thousands: ``1 chunk``, ``1,200 chunks``; ``many`` if not by an s."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
