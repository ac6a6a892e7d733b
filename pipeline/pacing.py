"""When the next request may go: one gate for one account.

A POST passes two doors. ``reserve`` takes a place in the quota's window, which may mean waiting for the next window;
then the caller writes its intent down; then ``post_turn`` waits for the rate and for any pause, and the POST leaves
with nothing awaited in between. A page passes ``page_turn``, which waits only where the tariff paces pages too, and
never for a window or a pause, because pages are free and their tokens die within minutes.

One POST goes alone at the beginning of a run, so that a wrong job or key costs one; of a window, so that its answer
tells what others of the account have used of it; and after a 429, so that the pace comes back gently. The others follow
when it is answered. Closing the gate wakes everything that waits, with ``Drained``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from math import inf

import anyio

from pipeline.breaker import Breaker
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
from pipeline.log import utc
from pipeline.news import News
from pipeline.quota import Quota, Window, WindowCount
from pipeline.rate import STEADY, Departure, Rate, Timer

_LONGEST_NAP_SECONDS = 30.0  # then the wall clock is read again: a laptop may have slept
_CLOCK_JUMP_SECONDS = 60.0
_GUESSED_WAIT_SECONDS = 3_600.0  # when nothing but 429s came for long, and nobody says until when
_LONGEST_PAUSE_SECONDS = 300.0  # a platform that orders more after a 429 means a quota, and not a pace


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
        self._clock_ahead = clock() - timer.now()
        self._count = WindowCount(pace.posts_per_window or None, pace.window_seconds, window, clock())
        self._news = News()
        self.posts_spent = posts_spent
        self.answers = 0
        self._breaker = Breaker(
            give_up_after_seconds=pace.give_up_after_seconds, max_unknown_posts=pace.max_unknown_posts
        )
        self._rate = Rate(pace.requests_per_second, timer) if pace.requests_per_second else None
        self._paused_until = -inf  # by the timer
        self._proven = False
        self._alone = anyio.Lock()
        self._closed = False
        self._waits: set[anyio.CancelScope] = set()

    @property
    def window(self) -> Window | None:
        """What is used of the present window; None before the first POST."""
        return self._count.window

    @property
    def window_count(self) -> WindowCount:
        """The count of the present window, to be looked at."""
        return self._count

    @property
    def paused_seconds(self) -> float:
        """For how long no POST may leave, by an order of the platform's or between two probes."""
        return max(self._paused_until - self._timer.now(), 0.0)

    @property
    def silent_seconds(self) -> float:
        """For how long requests have failed and nothing was answered, while the gate is ``broken``."""
        return self._breaker.silent_seconds(self._timer.now())

    @property
    def broken(self) -> bool:
        """Whether so many requests have failed in a row that only probes are sent, which burn nobody's attempts."""
        return self._breaker.broken

    def close(self) -> None:
        """Let nothing more pass: whatever waits, and whatever comes, gets ``Drained``."""
        self._closed = True
        for scope in self._waits:
            scope.cancel()

    async def pause(self, seconds: float) -> None:
        """Wait for one chunk's backoff. Raises ``Drained`` when the gate closes meanwhile."""
        with self._wait():
            await self._timer.sleep(seconds)

    # ------------------------------------------------------------------------------------------------------- places

    async def reserve(self) -> None:
        """Take a place in the budget and in the quota's window; wait for one where there is none.

        Whether a POST that is under way is in the platform's last count, or will be spent at all, nobody knows; so near
        the end of either its answer is awaited before anything else is concluded. Raises ``QuotaReached`` where the
        run's budget is spent, or instead of waiting for the next window where the pace says so, and ``Drained``.
        """
        while True:
            self._check_open()
            self._renew_window()
            is_spent = 0 < self._pace.max_posts <= self.posts_spent
            if self._count.opens_at() <= self._clock() and not is_spent:
                self._count.take()
                self.posts_spent += 1
                return
            if self._count.under_way:
                with self._wait():
                    await self._news.wait()
            elif is_spent:
                raise QuotaReached(
                    f"the budget of limits.max_posts = {self._pace.max_posts} is spent; raise it to go on"
                )
            else:
                await self._wait_for_window()

    async def _wait_for_window(self) -> None:
        opens_at = self._count.opens_at()
        if not self._pace.wait_for_quota:
            of = f" of {self._count.limit} POSTs" if self._count.is_used_up else ""
            raise QuotaReached(f"the quota{of} is used up until {utc(opens_at)}", resume_after=opens_at)
        await self.pause(min(opens_at - self._clock(), _LONGEST_NAP_SECONDS))
        self._breaker.rested(self._timer.now())

    def _renew_window(self) -> None:
        clock_ahead = self._clock() - self._timer.now()
        if clock_ahead < self._clock_ahead - _CLOCK_JUMP_SECONDS:  # it was set back
            self._count.move(clock_ahead - self._clock_ahead)
        self._clock_ahead = clock_ahead
        if self._count.renew(self._clock()):
            self._proven = False

    def give_back(self) -> None:
        """The reserved POST was not sent."""
        self._ended(spent=False, used=False)

    def _ended(self, *, spent: bool = True, used: bool = True) -> None:
        self.posts_spent -= not spent
        self._count.end(used=used)
        self._news.tell()

    # -------------------------------------------------------------------------------------------------------- turns

    @asynccontextmanager
    async def post_turn(self) -> AsyncIterator[Callable[[], object]]:
        """Wait until the reserved POST may leave, and hold the turn while it is under way.

        What it gives is to be called when the POST has left. What ends well inside was answered. Raises ``Drained``,
        and ``Overbooked`` where the platform has told meanwhile that the place is not there: then give it back and
        reserve another.
        """
        alone, departure = await self._leave()
        try:
            yield partial(self._left, departure)
        except (RequestFailed, StopRun) as error:
            # Here and not in the worker, which would await something first: the next POST is waiting for this turn.
            self._conclude(error, departure.moment)
            raise
        else:
            self._proven |= alone
        finally:
            self._left(departure)
            if alone:
                self._alone.release()

    async def _leave(self) -> tuple[bool, Departure]:
        """Wait until a POST may leave; whether it goes alone, and then it holds the lock."""
        while True:
            alone = not self._proven
            if alone:
                with self._wait():
                    await self._alone.acquire()
                if self._proven:
                    self._alone.release()
                    alone = False
            try:
                departure = await self._pass_rate()
                self._check_place()
            except BaseException:
                if alone:
                    self._alone.release()
                raise
            if alone or self._proven:
                return alone, departure
            self._left(departure)

    def _check_place(self) -> None:
        self._renew_window()
        if self._count.is_overbooked(self._clock()):
            raise Overbooked

    async def _pass_rate(self) -> Departure:
        while True:
            while (rest := self._paused_until - self._timer.now()) > 0:
                await self.pause(rest)
            departure = await self._turn(self._rate.post if self._rate else None)
            if self._paused_until <= self._timer.now():
                return departure
            self._left(departure)

    async def _turn(self, paced: Callable[[], Awaitable[Departure]] | None) -> Departure:
        """Wait for the turn of a request; where nothing is paced it goes at once."""
        if paced is None:
            self._check_open()
            return Departure(self._timer.now())
        with self._wait():
            return await paced()

    def _left(self, departure: Departure) -> None:
        departure.tell(self._timer.now())

    @asynccontextmanager
    async def page_turn(self) -> AsyncIterator[Callable[[], object]]:
        """Wait until a page may be asked for, and hold the turn, as in ``post_turn``. Raises ``Drained``."""
        rate = self._rate if self._pace.pages_paced else None
        departure = await self._turn(rate.page if rate else None)
        try:
            yield partial(self._left, departure)
        except RateLimited as error:
            if rate is not None:  # else POSTs are counted apart
                self._slow_down(error.retry_after_seconds, departure.moment)
            raise
        finally:
            self._left(departure)

    # ----------------------------------------------------------------------------------------------------- outcomes

    def _conclude(self, error: RequestFailed | StopRun, left_at: float) -> None:
        """Learn from how a POST failed. Raises ``PlatformDown`` where that was one failure too many."""
        if isinstance(error, StopRun):
            self.close()
        elif isinstance(error, RateLimited):
            self.refused_for_rate(error.retry_after_seconds, _used_up(error), left_at)
        elif isinstance(error, ResendCounted | AnswerUnusable):
            self.failed(perhaps_billed=True, cause=error, left_at=left_at)
        elif isinstance(error, ResendFree):
            self.failed(error.retry_after_seconds, cause=error)
        else:
            self.refused()

    def answered(self, quota: Quota | None) -> None:
        """A POST was answered with a page, in its turn; ``quota`` is the platform's count, if it told one."""
        self._ended()
        self.answers += 1
        self._breaker.well()
        if quota is None:
            self._count.open(self._clock())
        else:
            self._count.learn(quota)

    def settled(self, useless: str | None) -> None:
        """A chunk is at its end; ``useless`` says why its answer told nothing of any video, if so.

        Raises ``PlatformDown`` where the breaker gives up.
        """
        self._breaker.settled(useless)

    def refused_for_rate(
        self, ordered_seconds: float | None, used_up: Quota | None = None, left_at: float = inf
    ) -> None:
        """A 429: every POST waits as ordered, and the pace comes back with a wider margin.

        Where the quota is ``used_up``, by whomever, the next window is waited for instead, where a long wait is ordered
        its end, and after nothing but 429s for ``give_up_after_seconds`` an hour. ``left_at`` is when the POST left, by
        the timer.
        """
        self._ended(spent=False, used=False)
        now = self._timer.now()
        self._breaker.refused_for_rate(now)
        if used_up is not None and used_up.resets_at > self._clock():
            self._count.learn(used_up)
            ordered_seconds = None
        elif ordered_seconds is not None and ordered_seconds > _LONGEST_PAUSE_SECONDS:
            self._count.close(self._clock() + ordered_seconds, is_told=True)
            ordered_seconds = None
        elif self._breaker.is_shut_out(now):
            self._count.close(self._clock() + _GUESSED_WAIT_SECONDS, is_told=False)
        self._slow_down(ordered_seconds, left_at)

    def _slow_down(self, ordered_seconds: float | None, left_at: float) -> None:
        """Pause all POSTs. Requests that left together and are refused together are one refusal."""
        self._proven = False
        if self._breaker.is_new_refusal(self._timer.now(), left_at) and self._rate is not None:
            self._rate.widen()
        self._pause_all(self._breaker.pause_after_refusal(ordered_seconds))

    def failed(
        self,
        ordered_seconds: float | None = None,
        *,
        perhaps_billed: bool = False,
        cause: RequestFailed | None = None,
        left_at: float = inf,
    ) -> None:
        """A POST brought no answer. After several in a row only single probes go, further and further apart.

        Raises ``PlatformDown``, and closes the gate, where the breaker gives up. ``left_at`` is when the POST left, by
        the timer.
        """
        self._ended(spent=perhaps_billed, used=perhaps_billed)
        try:
            rest = self._breaker.failed(self._timer.now(), perhaps_billed=perhaps_billed, left_at=left_at, cause=cause)
        except PlatformDown:
            self.close()
            raise
        if self.broken:
            self._proven = False
        self._pause_all(max(rest, ordered_seconds or 0.0))

    def refused(self) -> None:
        """A POST was refused for what it asks: the platform is well, and nothing is proven yet."""
        self._ended()
        self._breaker.well()

    def _check_open(self) -> None:
        if self._closed:
            raise Drained

    @contextmanager
    def _wait(self) -> Iterator[None]:
        """Whatever is awaited inside ends with ``Drained`` when the gate closes."""
        self._check_open()
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


def _used_up(error: RateLimited) -> Quota | None:
    """The quota that a 429 says is used up, if it says so."""
    if error.quota_limit is None or error.quota_resets_at is None:
        return None
    return Quota(error.quota_limit, 0, error.quota_resets_at)
