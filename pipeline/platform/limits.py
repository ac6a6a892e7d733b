"""The platform's tariffs, kept as strictly as the platform keeps them.

Version 1.1 counts calls in a sliding second; version 1.2 counts POSTs in a window that opens with the first one, and
tells the counts in headers. What is refused counts as nothing. Pure: a clock goes in, an admission comes out.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Call = Literal["post", "page"]
"""A classify POST, or a GET of a further page."""

_DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Tariff:
    """A set of limits; 0 is none. ``calls_per_second`` counts POSTs and pages, ``posts_per_window`` only POSTs."""

    calls_per_second: int = 0
    posts_per_window: int = 0
    window_seconds: int = _DAY_SECONDS


TARIFFS: Mapping[str, Tariff] = {
    "none": Tariff(),
    "v1.1": Tariff(calls_per_second=1),
    "v1.2-free": Tariff(posts_per_window=20),
    "v1.2-developer": Tariff(posts_per_window=1200),
}
"""The tariffs by the names that the command line and the settings use."""


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a call may pass, and the headers that its answer carries in either case."""

    admitted: bool
    headers: Mapping[str, str] = field(default_factory=dict)


class Limits:
    """One account under one tariff. ``clock`` gives seconds since the epoch. Not for several threads."""

    def __init__(self, tariff: Tariff, clock: Callable[[], float]) -> None:
        self._tariff = tariff
        self._clock = clock
        self._recent: deque[float] = deque(maxlen=tariff.calls_per_second)
        self._used = 0
        self._reset_at = 0

    def admit(self, call: Call) -> Admission:
        """Decide on a call that arrives now, and count it if it is admitted."""
        now = self._clock()
        if not self._within_rate(now):
            return Admission(admitted=False)
        if call == "page" or not self._tariff.posts_per_window:
            return Admission(admitted=True)
        if now >= self._reset_at:
            self._used, self._reset_at = 0, math.ceil(now) + self._tariff.window_seconds
        admitted = self._used < self._tariff.posts_per_window
        self._used += admitted
        return Admission(admitted, self._headers())

    def _within_rate(self, now: float) -> bool:
        if not self._tariff.calls_per_second:
            return True
        # A wall clock that was set back must not lock the account out.
        if len(self._recent) == self._tariff.calls_per_second and 0 <= now - self._recent[0] < 1:
            return False
        self._recent.append(now)
        return True

    def _headers(self) -> dict[str, str]:
        return {
            "X-Ratelimit-Limit": str(self._tariff.posts_per_window),
            "X-Ratelimit-Remaining": str(self._tariff.posts_per_window - self._used),
            "X-Ratelimit-Used": str(self._used),
            "X-Ratelimit-Reset": str(self._reset_at),
        }
