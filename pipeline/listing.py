"""An index of the platform, listed page by page.

Pages are told by their number, and reading them takes minutes. A video that leaves the index meanwhile moves another
across the border of two pages, where nobody sees it. So where the total changes on the way, or is not what the pages
came to, the index is listed again, a few times. One that changes all the time is taken as the last listing showed it;
one whose pages contradict each other while its total stands still cannot be trusted, nor one without an end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

from pipeline.client import Client
from pipeline.errors import JobRefused, PlatformDown, RateLimited, RequestFailed, ResendCounted, ResendFree
from pipeline.pacing import Gate
from pipeline.reaction import MAX_PAGE_RESENDS, page_resend_after
from pipeline.wire_lists import VideoListPage
from pipeline.wording import counted

CHANGING = (
    "warning: the index changed each time that it was listed: what has just come into it, or moved within it, may be "
    "missing until the next run"
)
_MOST_LISTINGS = 3
_MOST_WAITS = 60  # for a 429, up to a minute each
_REMEMBERED_IDS = 5_000  # pages that come again and again, in turns
_MOST_GROWTH, _SPARE_PAGES = 2, 10  # by how much an index may grow while it is read


class _Named(Protocol):
    @property
    def video_id(self) -> str: ...


class _ListPage(Protocol):
    """One page of an index: its videos, of ``total_pages`` from 1 with ``total_results`` videos, where that is told."""

    @property
    def videos(self) -> Sequence[_Named]: ...
    @property
    def total_pages(self) -> int: ...
    @property
    def total_results(self) -> int | None: ...


_Page = TypeVar("_Page", bound=_ListPage)


class Listing(Generic[_Page]):
    """One index, whose pages ``fetch`` brings by their number, from 1.

    ``is_steady`` says, after the last page, whether one listing showed the index whole.
    """

    def __init__(self, index_id: str, fetch: Callable[[int], Awaitable[_Page]]) -> None:
        self._index_id = index_id
        self._fetch = fetch
        self._flaw: str | None = None
        self.is_steady = False

    async def pages(self) -> AsyncIterator[_Page]:
        """The pages in their order; a video may come again where the index had to be listed again.

        Raises what ``fetch`` does, and ``PlatformDown`` where the pages do not add up.
        """
        for tries_left in reversed(range(_MOST_LISTINGS)):
            self._flaw, self.is_steady = None, True
            async for page in self._once(is_last_try=not tries_left):
                yield page
            if self.is_steady:
                return
        if self._flaw:
            raise PlatformDown(f"the index {self._index_id!r} cannot be listed: {self._flaw}")

    async def _once(self, *, is_last_try: bool) -> AsyncIterator[_Page]:
        """The index from its first page, to its last or to where it is to be listed again."""
        number = count = 0
        pages_at_first: int | None = None
        total: int | None = None
        recent: deque[str] = deque(maxlen=_REMEMBERED_IDS)
        while True:
            number += 1
            page = await self._fetch(number)
            pages_at_first = pages_at_first or page.total_pages
            if number > 1 and page.total_results != total:
                self.is_steady = False
                if not is_last_try:
                    return
            total, count, is_last = page.total_results, count + len(page.videos), number >= page.total_pages
            if not is_last and {one.video_id for one in page.videos}.issubset(recent):
                self._flaw = f"page {number} of {page.total_pages} shows nothing new"
            elif not is_last and number > _MOST_GROWTH * pages_at_first + _SPARE_PAGES:
                self._flaw = f"it had {counted(pages_at_first, 'page')} at first, and has {page.total_pages} by now"
            elif self.is_steady and total is not None and (count > total or (is_last and count < total)):
                self._flaw = f"its pages show {counted(count, 'video')} up to page {number}, and it says {total}"
            yield page
            if is_last or self._flaw:
                self.is_steady = self.is_steady and not self._flaw
                return
            recent.extend(one.video_id for one in page.videos)


def videos_listing(client: Client, gate: Gate, index_id: str, jitter: Callable[[], float]) -> Listing[VideoListPage]:
    """The listing of an index at the pace of pages. ``jitter`` gives numbers from 0 to 1 that spread what is repeated.

    Its pages raise ``JobRefused`` where the platform does not list the index, and ``PlatformDown`` where it fails again
    and again.
    """

    async def fetch(number: int) -> VideoListPage:
        tries = waits = 0
        while True:
            try:
                async with gate.page_turn() as sent:
                    return await client.index_videos(index_id, number, sent)
            except (ResendFree, ResendCounted) as error:
                waits += 1
                is_refused = isinstance(error, RateLimited)  # no fault of anybody's
                tries += not is_refused
                if tries > MAX_PAGE_RESENDS or waits > _MOST_WAITS:
                    raise PlatformDown(f"the index {index_id!r} cannot be listed: {error}") from None
                await gate.pause(page_resend_after(error, waits, jitter=1.0 if is_refused else jitter()))
            except RequestFailed as error:
                raise JobRefused(f"the index {index_id!r} cannot be listed: {error}") from None

    return Listing(index_id, fetch)
