"""An index of the platform as an id list: what ``ids --index`` prints, and ``run --ids`` reads."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.listing import CHANGING, videos_listing
from pipeline.order import Order, connection_of, pace_of
from pipeline.pacing import Gate
from pipeline.rows import encode


async def list_index(order: Order, index_id: str, write: Callable[[bytes], object]) -> None:
    """Write a line of NDJSON for each video of an index, page by page, at the pace that the limits allow pages.

    A line has ``video_id``, ``duration_seconds`` and ``filename``, null where the platform does not tell. Raises what
    ``Listing.pages`` raises.
    """
    gate = Gate(pace_of(order.config), window=None, posts_spent=0, clock=order.clock, timer=order.timer)
    async with connection_of(order) as connection:
        listing = videos_listing(connection.client, gate, index_id, order.jitter)
        written: set[str] = set()  # an index that changes is listed more than once
        async for page in listing.pages():
            write(b"".join(encode(one) for one in page.videos if one.video_id not in written))
            written.update(one.video_id for one in page.videos)
    if not listing.is_steady:
        order.console.say(CHANGING)
