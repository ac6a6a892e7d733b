"""What to do after a failure: pure functions from facts to a decision. Nothing here waits, sends or stores.

Which reaction a failure asks for is the base class of its error; here is how far that reaction goes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline.chunks import Settlement
from pipeline.errors import AnswerCut, AnswerUnusable, Overloaded, RateLimited, RequestFailed, ResendCounted

MAX_COUNTED_RESENDS = 3
"""Resends of a request that may have been executed and billed."""
MAX_CUT_RESENDS = 2
"""Resends of a POST whose answer came, but could not be read."""
MAX_OVERLOADED_RESENDS = 5
"""Resends of a request that an overloaded platform turned away."""
MAX_PAGE_RESENDS = 6
"""Resends of a GET: free, but the token behind it lives only minutes."""
MAX_RESTARTS = 3
"""New POSTs for one walk whose page tokens died."""
MAX_SHORTFALLS = 3
"""New POSTs for videos that a finished walk owed and did not show."""

_LONGEST_BACKOFF_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Tries:
    """How often one request has failed so far, by what the failure costs."""

    overloaded: int = 0
    counted: int = 0
    cut: int = 0

    def after(self, error: RequestFailed) -> Tries:
        """These tries and one more failure."""
        kind = budget_of(error)
        return self if kind is None else replace(self, **{kind: getattr(self, kind) + 1})

    def with_one_left(self) -> Tries:
        """These tries, of an earlier process, with at least one more to go: what failed last, nobody remembers."""
        return Tries(
            min(self.overloaded, MAX_OVERLOADED_RESENDS),
            min(self.counted, MAX_COUNTED_RESENDS),
            min(self.cut, MAX_CUT_RESENDS),
        )

    @property
    def used_up(self) -> bool:
        """Whether the same request must not be sent again."""
        return (
            self.overloaded > MAX_OVERLOADED_RESENDS or self.counted > MAX_COUNTED_RESENDS or self.cut > MAX_CUT_RESENDS
        )

    @property
    def total(self) -> int:
        """All counted failures."""
        return self.overloaded + self.counted + self.cut


def budget_of(error: RequestFailed) -> str | None:
    """The field of ``Tries`` that a failure counts in. No connection and 429 are nobody's fault: None."""
    if isinstance(error, AnswerCut):
        return "cut"
    if isinstance(error, ResendCounted):
        return "counted"
    return "overloaded" if isinstance(error, Overloaded) else None


def may_be_the_videos(error: RequestFailed) -> bool:
    """Whether a failure of the platform's may lie in what was asked, so that it would follow these videos everywhere.

    408, 425 and 503 speak of the platform's load; any other 5xx is its answer to this very request.
    """
    return isinstance(error, Overloaded) and error.http_status not in {408, 425, 503}


def useless_answer(end: Settlement) -> str | None:
    """Why the answer for a chunk told nothing of any of its videos; None where it told something, or there was none."""
    if end.scored or end.no_match or end.children or any(one.code != AnswerUnusable.code for one in end.failures):
        return None
    return end.failures[0].message if end.failures else None


def resend_after(error: RequestFailed, tries: Tries, *, jitter: float) -> float:
    """Seconds to wait before the same request goes again; ``jitter`` is drawn from 0 to 1.

    What the platform ordered counts if it is longer. A 429 is waited for at the gate, by everybody together, and so not
    here; a lost platform likewise, once it has been lost a few times in a row.
    """
    if isinstance(error, RateLimited):
        return 0.0
    return max(_backoff(max(tries.total, 1), jitter), error.retry_after_seconds or 0.0)


def page_resend_after(error: RequestFailed, times: int, *, jitter: float) -> float:
    """Seconds to wait before a page is asked for again that has failed so many times; ``jitter`` as above.

    What the platform ordered counts up to a minute: the token would not outlive more, and a new POST be to pay.
    """
    return max(_backoff(times, jitter), min(error.retry_after_seconds or 0.0, _LONGEST_BACKOFF_SECONDS))


def _backoff(times: int, jitter: float) -> float:
    return jitter * min(_LONGEST_BACKOFF_SECONDS, 2.0 ** min(times - 1, 6))
