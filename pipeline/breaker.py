"""What the failures of POSTs in a row say of the platform: how long to wait before the next, and when to give up.

Nothing here waits. Moments and pauses are in seconds, by the timer of whoever asks. Any answer that tells of a well
platform, a refusal of the job included, ends every row.
"""

from __future__ import annotations

from math import inf

from pipeline.errors import PlatformDown, RequestFailed

_FAILURES_TO_BREAK = 5
_LONGEST_BACKOFF_SECONDS = 60.0
_LONGEST_PROBE_SECONDS = 10.0  # a probe is never billed, and the night goes on with the first that is answered


class Breaker:
    """Counts failures, refusals for the rate and POSTs of unknown fate, each in a row.

    POSTs that were under way together and fail together count once: those that left before the last one failed.
    """

    def __init__(self, *, give_up_after_seconds: float, max_unknown_posts: int) -> None:
        self._give_up_after_seconds = give_up_after_seconds
        self._max_unknown_posts = max_unknown_posts
        self._failing_since = 0.0
        self._lost_at = self._refused_at = -inf
        self._useless_in_a_row = 0
        self.well()

    def well(self) -> None:
        """The platform has answered."""
        self._failures = self._unknown_in_a_row = self._refusals_in_a_row = 0
        self._refusing_since = inf

    def rested(self, now: float) -> None:
        """Nothing was asked until now, so nothing can have failed."""
        self._failing_since = now

    @property
    def broken(self) -> bool:
        """Whether so many requests have failed in a row that only probes are sent, which burn nobody's attempts."""
        return self._failures >= _FAILURES_TO_BREAK

    def silent_seconds(self, now: float) -> float:
        """For how long requests have failed and nothing was answered, while it is ``broken``."""
        return now - self._failing_since

    def failed(self, now: float, *, perhaps_billed: bool, left_at: float, cause: RequestFailed | None) -> float:
        """A POST that left at a moment brought no answer. How long to wait before a probe; 0 while it is not broken.

        Raises ``PlatformDown`` when nothing was answered for ``give_up_after_seconds``, or when ``max_unknown_posts``
        in a row may have been billed.
        """
        self._refusing_since = inf
        if perhaps_billed and left_at >= self._lost_at:
            self._unknown_in_a_row += 1
            self._lost_at = now
        if self._failures == 0:
            self._failing_since = now
        self._failures += 1
        if self._unknown_in_a_row >= self._max_unknown_posts:
            raise PlatformDown(
                f"{self._unknown_in_a_row} POSTs in a row may have been billed and brought nothing "
                f"(limits.max_unknown_posts); the last: {cause}"
            ) from cause
        if not self.broken:
            return 0.0
        if self.silent_seconds(now) > self._give_up_after_seconds:
            raise PlatformDown(
                f"the platform has answered nothing for {self.silent_seconds(now):.0f} s "
                f"({self._failures} requests in a row failed); the last: {cause}"
            ) from cause
        return min(_doubled(self._failures - _FAILURES_TO_BREAK), _LONGEST_PROBE_SECONDS)

    def settled(self, useless: str | None) -> None:
        """A chunk is at its end; ``useless`` says why its answer told nothing of any video, if so.

        Raises ``PlatformDown`` after ``max_unknown_posts`` such chunks in a row, for the next would be billed for
        nothing too.
        """
        self._useless_in_a_row = 0 if useless is None else self._useless_in_a_row + 1
        if self._useless_in_a_row >= self._max_unknown_posts:
            raise PlatformDown(
                f"{self._useless_in_a_row} POSTs in a row were answered, and told nothing of any video "
                f"(limits.max_unknown_posts); the last: {useless}"
            )

    def refused_for_rate(self, now: float) -> None:
        """A POST was refused with a 429."""
        self._refusing_since = min(self._refusing_since, now)

    def is_shut_out(self, now: float) -> bool:
        """Whether 429s and nothing else have come for ``give_up_after_seconds``; when that is so they count anew."""
        if now - self._refusing_since <= self._give_up_after_seconds:
            return False
        self._refusing_since = inf
        return True

    def is_new_refusal(self, now: float, left_at: float) -> bool:
        """Whether a request that left at a moment, and was refused for the rate, was not refused with others."""
        if left_at <= self._refused_at:
            return False
        self._refused_at = now
        self._refusals_in_a_row += 1
        return True

    def pause_after_refusal(self, ordered_seconds: float | None) -> float:
        """How long to wait after a refusal for the rate.

        An order counts, but "at once" is not obeyed for ever: after a while once a second.
        """
        backoff = _doubled(self._refusals_in_a_row - 1)
        return backoff if ordered_seconds is None else max(ordered_seconds, backoff / _LONGEST_BACKOFF_SECONDS)


def _doubled(times: int) -> float:
    """A second, doubled so many times, up to a minute."""
    return min(2.0 ** min(times, 6), _LONGEST_BACKOFF_SECONDS)
