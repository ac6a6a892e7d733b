"""Page tokens: which page of which walk, for a while.

A walk holds which videos it goes through, in order, and not their answers: a page is written when it is asked for, so
that a walk through a whole index costs a hundred bytes a video. A token is the walk's secret and a page number: nobody
can guess one, and nothing needs to be stored for each. Each page that is asked for starts the walk's time anew, so a
token lives at least as long as the page that carried it says. Walks over the byte budget are dropped, oldest first; the
newest one always stays, so that what is kept is bounded by the budget and one walk.

A fault plan needs more than that: a walk of one page that has tokens too, a walk that dies early, and to know which of
the videos it waits for a walk is about.
"""

from __future__ import annotations

import re
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from pipeline.wire import PageInfo, RequestInvalid, encode_page

DEFAULT_BUDGET_BYTES = 256 * 2**20
"""What all walks together may hold, by their own ``size_bytes``."""

_PAGE_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


class Found(Protocol):
    """What a walk goes through: so many videos."""

    def __len__(self) -> int: ...

    @property
    def size_bytes(self) -> int:
        """What it holds in memory."""


_F = TypeVar("_F", bound=Found)


@dataclass(frozen=True, slots=True)
class _Walk(Generic[_F]):
    found: _F
    page_limit: int
    expires_at: float
    watched: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class PagePlace(Generic[_F]):
    """A page that is to be written: the places of its videos in the walk, from ``first`` to before ``beyond``.

    ``token`` leads to it, and ``info`` is what it says of its walk.
    """

    found: _F
    first: int
    beyond: int
    info: PageInfo
    token: str


@dataclass(frozen=True, slots=True)
class WalkPage:
    """One page: its encoded answers, what it says of its walk, the token that leads to it, whose scale its scores have.

    ``first_of_walk`` is the walk's first answer; empty where it has none.
    """

    entries: tuple[bytes, ...]
    info: PageInfo
    token: str
    score_source: str
    first_of_walk: tuple[bytes, ...]

    @property
    def body(self) -> bytes:
        """The page as the contract writes it."""
        return encode_page(self.entries, self.info)


class Walks(Generic[_F]):
    """The walks that can still be read. Not for several threads.

    ``ttl_seconds`` is how long a token lives; ``clock`` gives seconds since the epoch. ``keep_short`` keeps walks of
    one page as well.
    """

    def __init__(
        self,
        ttl_seconds: float,
        clock: Callable[[], float],
        budget_bytes: int = DEFAULT_BUDGET_BYTES,
        *,
        keep_short: bool = False,
    ) -> None:
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        self._budget_bytes = budget_bytes
        self._keep_short = keep_short
        self._walks: OrderedDict[str, _Walk[_F]] = OrderedDict()
        self._held_bytes = 0

    @property
    def held_bytes(self) -> int:
        """What the walks hold now."""
        return self._held_bytes

    def open(self, found: _F, *, page_limit: int) -> PagePlace[_F]:
        """The first page of a new walk through what was found."""
        now = self._clock()
        walk = _Walk(found, page_limit, now + self._ttl_seconds)
        secret = secrets.token_hex(16)
        if len(found) > page_limit or self._keep_short:
            self._walks[secret] = walk
            self._held_bytes += found.size_bytes
            self._drop_old(now)
        return _place(walk, secret, 1)

    def page(self, token: str) -> PagePlace[_F]:
        """The page that a token names. Raises ``RequestInvalid`` for a token that is expired or was never given."""
        now = self._clock()
        secret, _, number = token.rpartition("-")
        walk = self._walks.get(secret)
        if walk is None:
            raise _refused("it was never given, or it expired long ago")
        if now >= walk.expires_at:
            raise _refused("it expired; post the request again")
        page = int(number) if _PAGE_NUMBER.fullmatch(number) else 0
        if not 1 <= page <= _page_count(walk):
            raise _refused("it was never given")
        self._walks[secret] = walk = replace(walk, expires_at=now + self._ttl_seconds)
        self._walks.move_to_end(secret)
        return _place(walk, secret, page)

    def expire(self, token: str) -> None:
        """Let every token of this one's walk be dead from now on."""
        self._change(token, expires_at=self._clock())

    def watch(self, token: str, video_ids: frozenset[str]) -> None:
        """Remember, as long as its walk is held, that it is about these videos."""
        self._change(token, watched=video_ids)

    def watched(self, token: str) -> frozenset[str]:
        """The videos that ``watch`` was told of this token's walk."""
        walk = self._walks.get(_secret(token))
        return walk.watched if walk else frozenset()

    def _change(self, token: str, **fields: Any) -> None:
        secret = _secret(token)
        if secret in self._walks:
            self._walks[secret] = replace(self._walks[secret], **fields)

    def _drop_old(self, now: float) -> None:
        """Drop from the front, where the walk is that nobody has read for longest; never the last one."""
        while len(self._walks) > 1:
            oldest = next(iter(self._walks))
            if self._held_bytes <= self._budget_bytes and now < self._walks[oldest].expires_at:
                return
            self._held_bytes -= self._walks.pop(oldest).found.size_bytes


def _secret(token: str) -> str:
    return token.rpartition("-")[0]


def _refused(why: str) -> RequestInvalid:
    return RequestInvalid("parameter_invalid", f"The page token is expired or invalid: {why}.")


def _page_count(walk: _Walk[_F]) -> int:
    return max(1, -(-len(walk.found) // walk.page_limit))


def _place(walk: _Walk[_F], secret: str, number: int) -> PagePlace[_F]:
    found = len(walk.found)
    info = PageInfo(
        # The platform's published answers say 2 for two results under its default limit of 10.
        limit_per_page=min(walk.page_limit, found),
        total_results=found,
        page_expired_at=walk.expires_at,
        next_page_token=f"{secret}-{number + 1}" if number < _page_count(walk) else "",
        prev_page_token=f"{secret}-{number - 1}" if number > 1 else "",
    )
    first = (number - 1) * walk.page_limit
    return PagePlace(walk.found, first, min(first + walk.page_limit, found), info, f"{secret}-{number}")
