"""Waking whoever waits for something to have changed, as often as it changes.

An ``anyio.Event`` is set once, so one for news is made anew each time; here only where somebody waits, because most
news wake nobody.
"""

from __future__ import annotations

import anyio


class News:
    """Whoever waits is woken by what is told next; nothing is kept for those who come later."""

    def __init__(self) -> None:
        self._awaited: anyio.Event | None = None

    def tell(self) -> None:
        """Wake everyone who waits now."""
        if self._awaited is not None:
            self._awaited.set()
            self._awaited = None

    async def wait(self) -> None:
        """Wait until something is told."""
        if self._awaited is None:
            self._awaited = anyio.Event()
        await self._awaited.wait()
