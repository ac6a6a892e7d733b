"""When the next request may go: one gate for one account.

A POST passes two doors. ``reserve`` takes a place in the quota's window, which may mean waiting for the next window;
then the caller writes its intent down; then ``post_turn`` waits for the rate and for any pause, and the POST leaves
with nothing awaited in between. A page passes ``page_turn``, which waits only where the tariff paces pages too, because
pages are free and their tokens die within minutes. Until a first POST has been answered one POST goes alone, so that a
wrong job or key costs one. Closing the gate wakes everything that waits, with ``Drained``.

aiolimiter spaces the POSTs. A limiter of ``rate`` a second with a capacity of ``rate`` would let nearly twice the rate
into its first second, which a server that counts strictly refuses. So the capacity is small (one POST, and a hundredth
of a second's worth at high rates, where a late wake-up would otherwise be lost) and the period is a little longer than
allowed, by more than the jitter between leaving here and arriving there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC
from email.utils import parsedate_to_datetime

import anyio
from aiolimiter import AsyncLimiter

from pipeline.errors import (
    AnswerUnusable,
    Drained,
    Overbooked,
    PlatformDown,
    QuotaReached,
    RateLimited,
    RequestFailed,
    ResendCounted,
    ResendFree,
    StopRun,
)

_MARGIN_SECONDS = 0.01  # jitter on loopback is a few milliseconds; a 429 widens it by as much again
_WIDEST_MARGIN_SECONDS = 0.5
_RESET_GRACE_SECONDS = 2.0  # the platform's clock and ours may differ by a second
_LONGEST_NAP_SECONDS = 30.0  # then the wall clock is read again: a laptop may have slept
_LONGEST_ORDERED_PAUSE_SECONDS = 86_400.0
_FAILURES_TO_BREAK = 5
_LONGEST_BACKOFF_SECONDS = 60.0
_LONGEST_PROBE_SECONDS = 10.0  # a probe is never billed, and the night goes on with the first that is answered


@dataclass(frozen=True, slots=True)
class Pace:
    """What a tariff allows. Zero means no limit."""

    requests_per_second: float = 0.0
    pages_paced: bool = False
    posts_per_window: int = 0
    window_seconds: float = 86_400.0
    wait_for_quota: bool = True
    give_up_after_seconds: float = 1_800.0
    max_posts: int = 0
    max_unknown_posts: int = 3


@dataclass(frozen=True, slots=True)
class Timer:
    """A steady clock, in seconds from anywhere, and how to wait by it."""

    now: Callable[[], float] = anyio.current_time
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep


STEADY = Timer()
"""The event loop's own clock."""


@dataclass(frozen=True, slots=True)
class Window:
    """POSTs used in the quota's present window, which ends at ``resets_at`` (seconds since the epoch)."""

    used: int
    resets_at: float


@dataclass(frozen=True, slots=True)
class Quota:
    """The platform's own count of this window; ``resets_at`` in seconds since the epoch."""

    limit: int
    remaining: int
    resets_at: float


def quota_of(headers: Mapping[str, str], now: float) -> Quota | None:
    """The ``X-Ratelimit-*`` headers as a quota; None where they are missing or make no sense."""
    try:
        limit, remaining = int(headers["X-Ratelimit-Limit"]), int(headers["X-Ratelimit-Remaining"])
    except (KeyError, ValueError):
        return None
    resets_at = _reset_of(headers, now)
    if resets_at is None or not 0 <= remaining <= limit:
        return None
    return Quota(limit, remaining, min(resets_at, now + _LONGEST_ORDERED_PAUSE_SECONDS))


def retry_after_seconds(headers: Mapping[str, str], now: float) -> float | None:
    """How long the platform orders us to wait, in seconds: ``Retry-After``, else ``X-Ratelimit-Reset``; at most a day.

    ``Retry-After`` is a number of seconds or an HTTP date. ``now`` is in seconds since the epoch.
    """
    text = headers.get("Retry-After", "")
    wait = _number_of(text)
    if wait is None:
        try:
            date = parsedate_to_datetime(text)
            # "-0000" and asctime's form name no zone; HTTP's dates are in UTC.
            wait = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now
        except (ValueError, OverflowError):
            resets_at = _reset_of(headers, now)
            wait = None if resets_at is None else resets_at - now
    return None if wait is None else min(max(wait, 0.0), _LONGEST_ORDERED_PAUSE_SECONDS)


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


class Gate:
    """The one place that decides when a request leaves.

    ``window`` and ``posts_spent`` are what was used before this process began; ``clock`` gives seconds since the epoch,
    and only the quota's window is measured with it. ``posts_spent`` are the POSTs that left, but for those that an
    overloaded platform turned away; ``answers`` are those that this process got an answer to.
    """

    def __init__(
        self,
        pace: Pace,
        *,
        window: Window | None,
        posts_spent: int,
        clock: Callable[[], float],
        timer: Timer = STEADY,
    ) -> None:
        self._pace = pace
        self._clock = clock
        self._timer = timer
        self._window = window
        self._limit = pace.posts_per_window or None
        self._told = 0  # the platform's own count, as far as it was told for this window
        self._under_way = 0  # POSTs that were reserved and have not ended
        self._news = anyio.Event()
        self.posts_spent = posts_spent
        self.answers = 0
        self._unknown_in_a_row = 0
        self._refusals_in_a_row = 0
        self._margin = _MARGIN_SECONDS
        self._limiter = self._new_limiter()
        self._paused_until = 0.0  # by the timer
        self._proven = False
        self._alone = anyio.Lock()
        self._failures = 0
        self._failing_since = 0.0  # by the timer
        self._closed = False
        self._waits: set[anyio.CancelScope] = set()

    @property
    def window(self) -> Window | None:
        """What is used of the present window; None where there is no quota."""
        return self._window

    @property
    def broken(self) -> bool:
        """Whether so many requests have failed in a row that only probes are sent, which burn nobody's attempts."""
        return self._failures >= _FAILURES_TO_BREAK

    def close(self) -> None:
        """Let nothing more pass: whatever waits, and whatever comes, gets ``Drained``."""
        self._closed = True
        for scope in self._waits:
            scope.cancel()

    async def pause(self, seconds: float) -> None:
        """Wait for one chunk's backoff. Raises ``Drained`` when the gate closes meanwhile."""
        with self._wait():
            await self._timer.sleep(seconds)

    async def reserve(self) -> None:
        """Take a place in the quota's window; wait for one where there is none.

        Whether a POST that is under way is in the platform's last count, nobody knows; so near the end of a window its
        answer is awaited before anything else is concluded. Raises ``QuotaReached`` where the run's budget is spent, or
        instead of waiting for the next window where the pace says so, and ``Drained``.
        """
        while True:
            if self._closed:
                raise Drained
            if self._pace.max_posts and self.posts_spent >= self._pace.max_posts:
                raise QuotaReached(
                    f"the budget of limits.max_posts = {self._pace.max_posts} is spent; raise it to go on"
                )
            now = self._clock()
            if self._window is None or now >= self._window.resets_at + _RESET_GRACE_SECONDS:
                self._window, self._told = Window(self._under_way, now + self._pace.window_seconds), 0
            if self._limit is None or self._window.used < self._limit:
                self._window = replace(self._window, used=self._window.used + 1)
                self._under_way += 1
                self.posts_spent += 1
                return
            if self._under_way:
                with self._wait():
                    await self._news.wait()
                continue
            wait = self._window.resets_at + _RESET_GRACE_SECONDS - now
            if not self._pace.wait_for_quota:
                raise QuotaReached(f"the quota of {self._limit} POSTs is used up; it starts anew in {wait:.0f} s")
            await self.pause(min(wait, _LONGEST_NAP_SECONDS))

    def give_back(self) -> None:
        """The reserved POST was not sent."""
        self._ended(spent=False)

    def _ended(self, *, spent: bool = True) -> None:
        if not spent:
            self.posts_spent -= 1
            if self._window is not None:
                self._window = replace(self._window, used=max(self._window.used - 1, 0))
        self._under_way -= 1
        self._news.set()
        self._news = anyio.Event()

    def _learn(self, quota: Quota) -> None:
        """Take over the platform's count, and add what is under way, which may not be in it yet.

        Answers may come in another order than they were counted in: within a window the highest count is the newest,
        and what is told of an earlier window is late.
        """
        if self._window is not None and quota.resets_at < self._window.resets_at - 1 and self._told:
            return
        same_window = self._window is not None and abs(quota.resets_at - self._window.resets_at) <= 1
        self._limit = quota.limit
        self._told = max(self._told if same_window else 0, quota.limit - quota.remaining)
        self._window = Window(self._told + self._under_way, quota.resets_at)

    @asynccontextmanager
    async def post_turn(self) -> AsyncIterator[None]:
        """Wait until the reserved POST may leave, and hold the turn while it is under way.

        Raises ``Drained``, and ``Overbooked`` where the platform has told meanwhile that the place is not there: then
        give it back and reserve another.
        """
        alone = not self._proven
        if alone:
            with self._wait():
                await self._alone.acquire()
        try:
            if alone and self._proven:
                self._alone.release()
                alone = False
            await self._pass_rate()
            if self._limit is not None and self._window is not None and self._window.used > self._limit:
                raise Overbooked
            yield
        except (RequestFailed, StopRun) as error:
            # Here and not in the worker, which would await something first: the next POST is waiting for this turn.
            self._conclude(error)
            raise
        finally:
            if alone:
                self._alone.release()

    def _conclude(self, error: RequestFailed | StopRun) -> None:
        """Learn from how a POST failed. Raises ``PlatformDown`` where that was one failure too many."""
        if isinstance(error, StopRun):
            self.close()
        elif isinstance(error, RateLimited):
            self.refused_for_rate(error.retry_after_seconds, _used_up(error))
        elif isinstance(error, ResendCounted | AnswerUnusable):
            self.failed(perhaps_billed=True, cause=error)
        elif isinstance(error, ResendFree):
            self.failed(error.retry_after_seconds, cause=error)
        else:
            self.refused()

    async def page_turn(self) -> None:
        """Wait until a page may be asked for. Raises ``Drained``."""
        if self._closed:
            raise Drained
        if self._pace.pages_paced:
            await self._pass_rate()

    def answered(self, quota: Quota | None) -> None:
        """A POST was answered with a page, in its turn; ``quota`` is the platform's count, if it told one."""
        self._ended()
        self.answers += 1
        self._proven = True
        self._failures = self._unknown_in_a_row = self._refusals_in_a_row = 0
        if quota is not None:
            self._learn(quota)

    def refused_for_rate(self, ordered_seconds: float | None, used_up: Quota | None = None) -> None:
        """A 429: every POST waits as ordered, and the pace comes back with a wider margin.

        Where the quota is ``used_up``, by whomever, the next window is waited for instead.
        """
        self._ended()
        self.posts_spent -= 1
        self._refusals_in_a_row += 1
        self._margin = min(self._margin + _MARGIN_SECONDS, _WIDEST_MARGIN_SECONDS)
        self._limiter = self._new_limiter()
        if used_up is not None and used_up.resets_at > self._clock():
            self._learn(used_up)
            return
        backoff = _doubled(self._refusals_in_a_row - 1)
        # An order counts, but "at once" is not obeyed for ever: after a while once a second.
        self._pause_all(
            backoff if ordered_seconds is None else max(ordered_seconds, backoff / _LONGEST_BACKOFF_SECONDS)
        )

    def failed(
        self,
        ordered_seconds: float | None = None,
        *,
        perhaps_billed: bool = False,
        cause: RequestFailed | None = None,
    ) -> None:
        """A POST brought no answer. After several in a row only single probes go, further and further apart.

        Raises ``PlatformDown``, and closes the gate, when nothing was answered for ``give_up_after_seconds``, or when
        ``max_unknown_posts`` in a row may have been billed.
        """
        self._ended(spent=perhaps_billed)
        self._unknown_in_a_row += perhaps_billed
        now = self._timer.now()
        if self._failures == 0:
            self._failing_since = now
        self._failures += 1
        if self._unknown_in_a_row >= self._pace.max_unknown_posts:
            self.close()
            raise PlatformDown(
                f"{self._unknown_in_a_row} POSTs in a row may have been billed and brought nothing "
                f"(limits.max_unknown_posts); the last: {cause}"
            ) from cause
        if self.broken:
            if now - self._failing_since > self._pace.give_up_after_seconds:
                self.close()
                raise PlatformDown(
                    f"the platform has answered nothing for {now - self._failing_since:.0f} s "
                    f"({self._failures} requests in a row failed); the last: {cause}"
                ) from cause
            self._proven = False
            self._pause_all(min(_doubled(self._failures - _FAILURES_TO_BREAK), _LONGEST_PROBE_SECONDS))
        if ordered_seconds is not None:
            self._pause_all(ordered_seconds)

    def refused(self) -> None:
        """A POST was refused for what it asks: the platform is well, and nothing is proven yet."""
        self._ended()
        self._failures = self._unknown_in_a_row = self._refusals_in_a_row = 0

    async def _pass_rate(self) -> None:
        while True:
            rest = self._paused_until - self._timer.now()
            if rest > 0:
                await self.pause(rest)
            elif self._limiter is None:
                break
            else:
                limiter = self._limiter
                with self._wait():
                    await limiter.acquire()
                if self._limiter is limiter and self._paused_until <= self._timer.now():
                    break
        if self._closed:
            raise Drained

    @contextmanager
    def _wait(self) -> Iterator[None]:
        """Whatever is awaited inside ends with ``Drained`` when the gate closes."""
        if self._closed:
            raise Drained
        with anyio.CancelScope() as scope:
            self._waits.add(scope)
            try:
                yield
            finally:
                self._waits.discard(scope)
        if scope.cancelled_caught:
            raise Drained

    def _pause_all(self, seconds: float) -> None:
        self._paused_until = max(self._paused_until, self._timer.now() + seconds)

    def _new_limiter(self) -> AsyncLimiter | None:
        rate = self._pace.requests_per_second
        if not rate:
            return None
        capacity = max(1.0, rate / 100)
        return AsyncLimiter(capacity, capacity * (1 + self._margin) / rate)


def _doubled(times: int) -> float:
    """A second, doubled so many times, up to a minute."""
    return min(2.0 ** min(times, 6), _LONGEST_BACKOFF_SECONDS)


def _used_up(error: RateLimited) -> Quota | None:
    """The quota that a 429 says is used up, if it says so."""
    if error.quota_limit is None or error.quota_resets_at is None:
        return None
    return Quota(error.quota_limit, 0, error.quota_resets_at)
