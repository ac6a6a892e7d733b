"""What a request says beside its path: its body, decompressed within bounds, and how it wants a list.

aiohttp's own decompression logs a traceback for a body that is not what its header says, so it is switched off and
done here. What is refused raises ``RequestInvalid`` with the contract's code, or aiohttp's exception of another status.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import cast

from aiohttp import web

from pipeline.models import MAX_PAGE_LIMIT
from pipeline.platform.store import SORT_COLUMNS, SortKey
from pipeline.wire import DEFAULT_PAGE_LIMIT, RequestInvalid

MAX_BODY_BYTES = 2**20
"""The largest body of a request, before and after decompression."""

_LAST_PAGE = 999_999_999
_WHOLE_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


async def body_of(request: web.Request) -> bytes:
    """The body, decompressed; the application bounds what is received, and this what becomes of it."""
    received = await request.read()
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding == "identity":
        return received
    if encoding not in {"gzip", "deflate"}:
        raise web.HTTPUnsupportedMediaType
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # reads the headers of both
    try:
        body = inflater.decompress(received, MAX_BODY_BYTES + 1)
    except zlib.error:
        raise RequestInvalid("parameter_invalid", f"The request body is not {encoding}.") from None
    if len(body) > MAX_BODY_BYTES:
        raise web.HTTPRequestEntityTooLarge(MAX_BODY_BYTES, len(body))
    if not inflater.eof:
        raise RequestInvalid("parameter_invalid", "The request body is cut short.")
    return body


@dataclass(frozen=True, slots=True)
class Listing:
    """Which page of a list is asked for (from 1, with 1 to 50 entries), and in what order."""

    page: int
    page_limit: int
    sort_by: SortKey
    descending: bool


def listing_of(request: web.Request) -> Listing:
    """The parameters of a list, with the contract's defaults."""
    query = request.query
    unknown = sorted(set(query) - {"page", "page_limit", "sort_by", "sort_option"})
    if unknown:
        raise RequestInvalid("parameter_unknown", f"The {unknown[0][:128]} parameter is not supported.")
    sort_by, sort_option = query.get("sort_by", "created_at"), query.get("sort_option", "desc")
    if sort_by not in SORT_COLUMNS:
        raise RequestInvalid("parameter_invalid", f"The sort_by parameter is one of {', '.join(SORT_COLUMNS)}.")
    if sort_option not in {"asc", "desc"}:
        raise RequestInvalid("parameter_invalid", "The sort_option parameter is asc or desc.")
    return Listing(
        _whole_number(query.get("page", "1"), "page", _LAST_PAGE),
        _whole_number(query.get("page_limit", str(DEFAULT_PAGE_LIMIT)), "page_limit", MAX_PAGE_LIMIT),
        cast("SortKey", sort_by),
        sort_option == "desc",
    )


def _whole_number(text: str, name: str, largest: int) -> int:
    if not _WHOLE_NUMBER.fullmatch(text) or int(text) > largest:
        raise RequestInvalid("parameter_invalid", f"The {name} parameter is a whole number from 1 to {largest}.")
    return int(text)
