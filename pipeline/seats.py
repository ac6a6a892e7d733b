"""How many requests are under way at once: never more than ``limits.concurrency``, and pages go first.

A request holds a seat from the moment it may leave until its answer is whole. What a worker does before and after (a
place in the quota, the intent of a POST on disk, the rows of an answer) needs none, so no seat is empty while the disk
is waited for.
"""

from __future__ import annotations

from collections import deque
from math import inf

import anyio


class Seats:
    """So many seats, or as many as are wanted where there are 0."""

    def __init__(self, seats: int) -> None:
        self._free: float = seats or inf
        self._posts: deque[anyio.Event] = deque()
        self._pages: deque[anyio.Event] = deque()

    def take(self) -> bool:
        """Take a seat where one is free; whether one was."""
        is_free = self._free > 0  # then nobody waits
        self._free -= is_free
        return is_free

    async def wait(self, *, for_page: bool) -> None:
        """Wait for a seat where none is free; whoever wants one for a page gets it before those who want to POST."""
        waiting, given = self._pages if for_page else self._posts, anyio.Event()
        waiting.append(given)
        try:
            await given.wait()
        except BaseException:
            if given.is_set():
                self.leave()
            else:
                waiting.remove(given)
            raise

    def leave(self) -> None:
        """Give a seat back, and so to whoever has waited longest for one."""
        if waiting := self._pages or self._posts:
            waiting.popleft().set()
        else:
            self._free += 1
