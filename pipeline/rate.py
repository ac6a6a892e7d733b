"""How many requests leave in a second: all that are allowed, and never one more.

aiolimiter spaces the requests evenly. By itself its bucket cannot do both: filled with a second's worth it lets nearly
twice the rate into the first second, and filled with a single request it loses whatever the event loop wakes up too
late, a fifth at 500 a second. So the bucket holds what is lost in ``_CATCH_UP_SECONDS``, and behind it stands a record
of the departures: in a second and a margin no more leave than are allowed in a second, whatever was made good.

A request that needs a new connection leaves later than it may, by a handshake; so whoever sends it says when it has
left, and until then it may leave at any moment. The margin covers the jitter between leaving here and arriving there,
which only the platform sees. It widens at each refusal, and narrows slowly.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio
from aiolimiter import AsyncLimiter

_CATCH_UP_SECONDS = 0.05  # longer than an event loop on a busy machine oversleeps
_MARGIN_SECONDS = 0.008  # jitter on loopback is a few milliseconds
_WIDENING_SECONDS = 0.01
_WIDEST_MARGIN_SECONDS = 0.5
_NARROWING = _WIDENING_SECONDS / 1_000  # in a second: at one request a second, a refusal in a thousand is risked


@dataclass(frozen=True, slots=True)
class Timer:
    """A steady clock, in seconds from anywhere, how to wait by it, and how to space requests by it."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    limiter: Callable[[float, float], AsyncLimiter] = AsyncLimiter


STEADY = Timer()
"""The event loop's own clock: asyncio's is this one, and asked through the loop it takes ten times as long."""


@dataclass(slots=True)
class Departure:
    """When a request left, by the timer; until that is told, when it might at the earliest."""

    moment: float
    is_told: bool = False

    def tell(self, moment: float) -> None:
        """Say when the request has left; or, where it never will, that nothing is left to wait for."""
        if not self.is_told:
            self.moment, self.is_told = moment, True


class Rate:
    """Lets so many requests a second leave, 0.001 at least. ``margin`` is in seconds.

    What the rate is counted in is a second, or for rates that are not whole the time of the whole requests in one.
    """

    def __init__(self, requests_per_second: float, timer: Timer = STEADY) -> None:
        whole = max(1, int(requests_per_second))
        capacity = 1 + requests_per_second * _CATCH_UP_SECONDS
        self._timer = timer
        self._limiter = timer.limiter(capacity, capacity / requests_per_second)
        self._period = whole / requests_per_second
        self._departures: deque[Departure] = deque(maxlen=whole)
        self._widened_to = _MARGIN_SECONDS
        self._widened_at = timer.now()
        self._next, self._next_post = anyio.Lock(), anyio.Lock()

    @property
    def margin(self) -> float:
        """By how much longer than allowed the period is taken."""
        narrowed = self._widened_to - _NARROWING * (self._timer.now() - self._widened_at)
        return max(narrowed, _MARGIN_SECONDS)

    def widen(self) -> None:
        """Take the period longer from now on: a request has arrived too early."""
        self._widened_to = min(self.margin + _WIDENING_SECONDS, _WIDEST_MARGIN_SECONDS)
        self._widened_at = self._timer.now()

    async def post(self) -> Departure:
        """Wait until a POST may leave. At most one waits in the way of the pages."""
        async with self._next_post:
            return await self.page()

    async def page(self) -> Departure:
        """Wait until a page may be asked for."""
        async with self._next:
            await self._limiter.acquire()
            while (rest := self._rest()) > 0:
                await self._timer.sleep(rest)
            departure = Departure(self._timer.now())
            self._departures.append(departure)
            return departure

    def _rest(self) -> float:
        """Seconds until one more may leave within the period."""
        if len(self._departures) < self._departures.maxlen:  # type: ignore[operator]
            return 0.0
        oldest, now = self._departures[0], self._timer.now()
        return (oldest.moment if oldest.is_told else now) + self._period + self.margin - now
