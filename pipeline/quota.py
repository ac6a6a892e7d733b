"""What the platform says about its limits, and the count of POSTs in the quota's window. Nothing here waits.

The platform may say how much is left, and until when, with each answer; or only when it refuses; or never. Its count is
taken over wherever it is told, and until then our own stands: a POST whose fate is unknown counts as used. A window
that nobody has told opens with the first POST that is answered, for the platform cannot have opened it later.

The platform's moments are by its own clock, which may be minutes off ours: the ``Date`` of its answers tells by how
much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache
from math import inf

_DAY_SECONDS = 86_400.0
_LONGEST_ORDERED_PAUSE_SECONDS = _DAY_SECONDS
_LONGEST_PAUSE_FOR_LOAD_SECONDS = 300.0  # then it is asked again, or nobody would give up on a platform in time
_LARGEST_LIMIT = 1_000_000_000
_GRACE_SECONDS = 2.0  # a ``Date`` has whole seconds, and so has a reset
_SAME_WINDOW_SECONDS = 5.0  # what is told of one window's end differs by the roundings of both clocks


@dataclass(frozen=True, slots=True)
class Window:
    """POSTs used in the quota's present window, which ends at ``resets_at`` (seconds since the epoch).

    ``limit`` is what the platform has told of how many it allows in it, None where it has told nothing. Before
    ``closed_until`` nothing may be sent, whatever the count: the platform has ordered so.
    """

    used: int
    resets_at: float
    limit: int | None = None
    closed_until: float = 0.0


@dataclass(frozen=True, slots=True)
class Quota:
    """The platform's own count of this window; ``resets_at`` in seconds since the epoch."""

    limit: int
    remaining: int
    resets_at: float


def least_limit(stated: int | None, told: int | None) -> int | None:
    """POSTs that a window takes, as its user states it and the platform tells it; None where neither says anything."""
    return min((one for one in (stated, told) if one is not None), default=None)


class ClockDifference:
    """By how much our clock is ahead of the platform's, by the ``Date`` of its answers.

    Each answer leaves a range open, as wide as the exchange took; the difference lies in all of them. When it does not,
    a clock was set, and the last answer counts.
    """

    def __init__(self) -> None:
        self._least, self._most = -inf, inf

    @property
    def seconds(self) -> float:
        """The difference, in seconds: 0 where that may be true, else the most that may be true."""
        return 0.0 if self._least <= 0 <= self._most else self._most

    def observe(self, headers: Mapping[str, str], sent_at: float, now: float) -> None:
        """Learn from an answer that was asked for at ``sent_at`` and is here ``now``, by our clock."""
        date = _date_of(headers.get("Date", ""))
        if date is None:
            return
        least, most = sent_at - date - 1, now - date  # the second that a date leaves out may have passed or not
        self._least, self._most = max(self._least, least), min(self._most, most)
        if self._least > self._most:
            self._least, self._most = least, most


def quota_of(headers: Mapping[str, str], now: float) -> Quota | None:
    """The ``X-Ratelimit-*`` headers as a quota; None where they are missing or make no sense.

    ``now`` is the platform's, in seconds since the epoch.
    """
    try:
        limit, remaining = int(headers["X-Ratelimit-Limit"]), int(headers["X-Ratelimit-Remaining"])
    except (KeyError, ValueError):
        return None
    resets_at = _reset_of(headers, now)
    if resets_at is None or not 0 <= remaining <= limit or not 0 < limit <= _LARGEST_LIMIT:
        return None
    return Quota(limit, remaining, min(resets_at, now + _LONGEST_ORDERED_PAUSE_SECONDS))


def retry_after_seconds(headers: Mapping[str, str], now: float, *, for_load: bool = False) -> float | None:
    """How long the platform orders us to wait, in seconds: ``Retry-After``, else ``X-Ratelimit-Reset``; at most a day.

    ``Retry-After`` is a number of seconds or an HTTP date. The reset of a quota that has something left orders nothing:
    then it was the pace. ``for_load``: it was neither, but the platform is overloaded; then no reset orders anything,
    and five minutes are the most. ``now`` is the platform's, in seconds since the epoch.
    """
    most = _LONGEST_PAUSE_FOR_LOAD_SECONDS if for_load else _LONGEST_ORDERED_PAUSE_SECONDS
    wait = _number_of(headers.get("Retry-After", ""))
    if wait is None:
        ends_at = _date_of(headers.get("Retry-After", ""))
        if ends_at is None and not for_load and not _number_of(headers.get("X-Ratelimit-Remaining", "")):
            ends_at = _reset_of(headers, now)
        wait = None if ends_at is None else ends_at - now
    return None if wait is None else min(max(wait, 0.0), most)


@lru_cache(maxsize=16)  # many answers of one second
def _date_of(text: str) -> float | None:
    """An HTTP date in seconds since the epoch."""
    try:
        date = parsedate_to_datetime(text)
        # "-0000" and asctime's form name no zone; HTTP's dates are in UTC.
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _reset_of(headers: Mapping[str, str], now: float) -> float | None:
    """``X-Ratelimit-Reset`` in seconds since the epoch.

    The vendor sends that; others send milliseconds since the epoch, or seconds from now. They differ by their size.
    """
    reset = _number_of(headers.get("X-Ratelimit-Reset", ""))
    if reset is None:
        return None
    if reset > 1e11:
        return reset / 1000
    return reset if reset > 1e9 else now + reset


def _number_of(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number < 1e15 else None


class WindowCount:
    """What is used of the quota's present window. ``most`` is what its user allows; None leaves it to the platform.

    A POST takes its place before it leaves, and is under way until it has ended. ``window`` is what an earlier process
    left behind; ``now`` and all moments are in seconds since the epoch, by our clock.
    """

    def __init__(self, most: int | None, window_seconds: float, window: Window | None, now: float) -> None:
        self.under_way = 0
        self._most = most
        self._usual_limit: int | None = None  # what was told of a window last
        self._window_seconds = window_seconds
        latest = now + max(window_seconds, _DAY_SECONDS)  # should our clock have been wrong, then
        self.window = window and replace(
            window, resets_at=min(window.resets_at, latest), closed_until=min(window.closed_until, latest)
        )
        # A window of which nothing is used or told has perhaps not opened: its first POST never arrived.
        self._has_opened = window is not None and (window.used > 0 or window.limit is not None)
        self._told = 0  # the platform's own count, as far as it was told for this window
        self._closed_until = 0.0  # as far as we guess, which no other process need believe

    @property
    def limit(self) -> int | None:
        """POSTs that may be sent in the present window, as far as is known: the least that anybody says.

        What was told of an earlier window counts only where the user says how long a window is.
        """
        told = self.window.limit if self.window else None
        if told is None and self._most is not None:
            told = self._usual_limit
        return least_limit(self._most, told)

    def opens_at(self) -> float:
        """When one more POST may be sent, as far as is known; long ago where that is so already."""
        return max(self._opens_at, self._ends_at) if self.is_used_up else self._opens_at

    @property
    def is_used_up(self) -> bool:
        """Whether all places of the present window are taken."""
        return self.limit is not None and self._used >= self.limit

    def is_overbooked(self, now: float) -> bool:
        """Whether more places are taken than there turned out to be."""
        return now < self._opens_at or (self.limit is not None and self._used > self.limit)

    @property
    def _used(self) -> int:
        return 0 if self.window is None else self.window.used

    @property
    def _opens_at(self) -> float:
        closed_until = max(self._closed_until, self.window.closed_until if self.window else 0.0)
        return closed_until + _GRACE_SECONDS if closed_until else -inf

    @property
    def _ends_at(self) -> float:
        return -inf if self.window is None else self.window.resets_at + _GRACE_SECONDS

    def renew(self, now: float) -> bool:
        """Begin a new window where the last one is over; whether that was so, and its POSTs are limited."""
        if now < self._ends_at:
            return False
        closed_until = self.window.closed_until if self.window else 0.0
        self.window = Window(self.under_way, now + self._window_seconds, closed_until=closed_until)
        self._told, self._has_opened = 0, False
        return self.limit is not None

    def take(self) -> None:
        """Take a place for a POST."""
        assert self.window is not None
        self.window = replace(self.window, used=self.window.used + 1)
        self.under_way += 1

    def end(self, *, used: bool = True) -> None:
        """A POST has ended. Where its place was not ``used``, another may have it."""
        self.under_way -= 1
        if not used and self.window is not None:
            self.window = replace(self.window, used=max(self.window.used - 1, 0))

    def open(self, now: float) -> None:
        """A POST was answered without a word about the quota: by now the window has opened."""
        if not self._has_opened and self.window is not None:
            self._has_opened = True
            self.window = replace(self.window, resets_at=now + self._window_seconds)

    def close(self, until: float, *, is_told: bool) -> None:
        """Nothing may be sent before then, whatever the count. What is not told outlives no restart."""
        assert self.window is not None
        if is_told:
            self.window = replace(self.window, closed_until=until)
        else:
            self._closed_until = until

    def move(self, seconds: float) -> None:
        """Our clock was set, by so much: everything ends when it would have ended."""
        self._closed_until += seconds
        if self.window is not None:
            self.window = replace(
                self.window,
                resets_at=self.window.resets_at + seconds,
                closed_until=self.window.closed_until + seconds,
            )

    def learn(self, quota: Quota) -> None:
        """Take over the platform's count, and add what is under way, which may not be in it yet.

        Answers may come in another order than they were counted in: within a window the highest count is the newest,
        and what is told of an earlier window is late.
        """
        later_by = quota.resets_at - (self.window.resets_at if self.window else -inf)
        if later_by < -_SAME_WINDOW_SECONDS and self._told:
            return
        self._told = max(self._told if later_by <= _SAME_WINDOW_SECONDS else 0, quota.limit - quota.remaining)
        self._usual_limit = quota.limit
        self._has_opened = True
        closed_until = self.window.closed_until if self.window else 0.0
        self.window = Window(self._told + self.under_way, quota.resets_at, quota.limit, closed_until)
