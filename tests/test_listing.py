"""Listing an index that changes meanwhile, or whose pages contradict each other: nobody is overlooked, and it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from pipeline.client import Client
from pipeline.errors import JobRefused, PlatformDown
from pipeline.listing import Listing, videos_listing
from pipeline.pacing import Gate, Pace
from pipeline.transport import open_transport
from pipeline.wire_lists import VideoListPage
from tests.runs import MovedClock

Shown = tuple[Sequence[str], int, int | None]
"""Ids on a page, pages, and the total that it tells."""


@asynccontextmanager
async def listing_of(
    shown: Callable[[int, int], Shown | int],
) -> AsyncIterator[tuple[Listing[VideoListPage], list[int]]]:
    """A listing of a real server, which shows what ``shown`` says of the request's number and page, or a status.

    And the pages that were asked for.
    """
    asked: list[int] = []

    async def answer(request: web.Request) -> web.Response:
        page = int(request.query["page"])
        asked.append(page)
        said = shown(len(asked), page)
        if isinstance(said, int):
            return web.Response(status=said)
        ids, pages, total = said
        info = {"page": page, "total_page": pages} | ({} if total is None else {"total_results": total})
        return web.json_response({"data": [{"_id": one} for one in ids], "page_info": info})

    application = web.Application()
    application.router.add_get("/v1.2/indexes/{index}/videos", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    clock = MovedClock()
    gate = Gate(Pace(), window=None, posts_spent=0, clock=clock, timer=clock.timer)
    try:
        async with open_transport(f"http://127.0.0.1:{runner.addresses[0][1]}/v1.2", {}) as transport:
            client = Client(transport, score_source="", secret="", clock=clock)
            yield videos_listing(client, gate, "index1", lambda: 0.0), asked
    finally:
        await runner.cleanup()


async def ids_of(listing: Listing[VideoListPage]) -> list[str]:
    return [one.video_id async for page in listing.pages() for one in page.videos]


@pytest.mark.parametrize("total", [4, None])
async def test_an_index_that_stands_still_is_listed_once(total: int | None) -> None:
    async with listing_of(lambda _, page: (["ab", "cd"][page - 1], 2, total)) as (listing, asked):
        assert (await ids_of(listing), listing.is_steady, asked) == (["a", "b", "c", "d"], True, [1, 2])


async def test_an_index_without_a_video_is_listed_once() -> None:
    async with listing_of(lambda *_: ([], 0, 0)) as (listing, asked):
        assert (await ids_of(listing), listing.is_steady, asked) == ([], True, [1])


async def test_a_video_that_leaves_meanwhile_hides_no_other() -> None:
    """With "a" gone, "c" moves to the first page, which was read already."""
    async with listing_of(
        lambda number, page: (["ab", "cd"][page - 1], 2, 4) if number < 2 else (["bc", "d"][page - 1], 2, 3)
    ) as (
        listing,
        asked,
    ):
        assert set(await ids_of(listing)) == {"a", "b", "c", "d"}
        assert (listing.is_steady, asked) == (True, [1, 2, 1, 2])


async def test_an_index_that_changes_all_the_time_is_taken_as_it_was_shown_in_the_end() -> None:
    """A video more at each request: the last listing is read to its end."""

    def growing(number: int, page: int) -> Shown:
        videos = [f"v{one}" for one in range(10 + number)]
        return videos[4 * page - 4 : 4 * page], -(-len(videos) // 4), len(videos)

    async with listing_of(growing) as (listing, asked):
        listed = await ids_of(listing)
    assert (listing.is_steady, asked) == (False, [1, 2, 1, 2, 1, 2, 3, 4, 5])
    assert set(listed) == {f"v{one}" for one in range(19)}


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        (lambda *_: ([], 10**9, 5), "page 1 of 1000000000 shows nothing new"),
        (lambda *_: (["a", "b"], 10**9, None), "page 2 of 1000000000 shows nothing new"),
        (lambda _, page: (["a", "b"], page + 1, None), "page 2 of 3 shows nothing new"),
        (lambda _, page: (["a", "b"] if page % 2 else ["c"], 10**9, None), "page 3 of 1000000000 shows nothing new"),
        (lambda number, page: ([f"v{number}"], page + 1, None), "it had 2 pages at first, and has 16 by now"),
        (lambda number, page: ([f"v{number}"], page + 1, 3), "its pages show 4 videos up to page 4, and it says 3"),
        (lambda *_: (["a"], 1, 30), "its pages show 1 video up to page 1, and it says 30"),
    ],
    ids=[
        "empty pages",
        "one page for ever",
        "always one more page",
        "two in turns",
        "no end",
        "more than it says",
        "fewer than it says",
    ],
)
async def test_pages_that_contradict_each_other_are_not_trusted_and_end(
    shown: Callable[[int, int], Shown], said: str
) -> None:
    async with listing_of(shown) as (listing, asked):
        with pytest.raises(PlatformDown, match=rf"^the index 'index1' cannot be listed: {said}$"):
            await ids_of(listing)
        assert len(asked) <= 45


async def test_a_429_is_nobodys_fault_and_waited_for() -> None:
    async with listing_of(lambda number, _: 429 if number <= 20 else (["a"], 1, 1)) as (listing, asked):
        assert (await ids_of(listing), len(asked)) == (["a"], 21)


async def test_a_platform_that_only_fails_is_given_up() -> None:
    async with listing_of(lambda *_: 503) as (listing, asked):
        with pytest.raises(PlatformDown, match="HTTP 503"):
            await ids_of(listing)
        assert len(asked) == 7


@pytest.mark.parametrize("video_id", ["", "../x", "a b", "a\n", "\u00e4"])
async def test_an_id_that_no_list_could_hold_is_refused(video_id: str) -> None:
    async with listing_of(lambda *_: ([video_id], 1, 1)) as (listing, _):
        with pytest.raises(JobRefused, match="not a page of results"):
            await ids_of(listing)
