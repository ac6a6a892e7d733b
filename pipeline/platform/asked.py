"""What a request says beside its path: its body, decompressed within bounds, and how it wants a list.

aiohttp's own decompression logs a traceback for a body that is not what its header says, so it is switched off and
done here. What is refused raises ``RequestInvalid`` with the contract's code, or aiohttp's exception of another status.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import cast

from aiohttp import web

from pipeline.models import MAX_PAGE_LIMIT
from pipeline.platform.store import SORT_COLUMNS, FilterKey, SortKey, Within
from pipeline.wire import DEFAULT_PAGE_LIMIT, RequestInvalid

MAX_BODY_BYTES = 2**20
"""The largest body of a request, before and after decompression."""

INDEX_FILTERS: Mapping[str, FilterKey] = {
    "_id": "id",
    "index_name": "name",
    "created_at": "created_at",
    "updated_at": "updated_at",
}
"""What a list of indexes may be filtered by; moments also by ``[gte]`` and ``[lte]``."""
VIDEO_FILTERS: Mapping[str, FilterKey] = {
    "_id": "id",
    "filename": "name",
    "duration": "duration",
    "created_at": "created_at",
    "updated_at": "updated_at",
}
"""What a list of videos may be filtered by; durations and moments also by ``[gte]`` and ``[lte]``."""
TEXT_KEYS = frozenset({"id", "name"})

_LAST_PAGE = 999_999_999
_NUMBER = re.compile(r"[0-9]{1,400}(?:\.[0-9]{1,400})?(?:[eE][+-]?[0-9]{1,3})?")
_MOMENT = re.compile(
    r"([12][0-9]{3})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9])"
    r"(?:\.[0-9]{1,9})?Z"
)
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
    """Which page of a list is asked for (from 1, with 1 to 50 entries), in what order, and of which entries."""

    page: int
    page_limit: int
    sort_by: SortKey
    descending: bool
    within: tuple[Within, ...]


def listing_of(request: web.Request, filters: Mapping[str, FilterKey]) -> Listing:
    """The parameters of a list, with the contract's defaults; ``filters`` are those that it has beside them."""
    query = request.query
    names = {name for name, key in filters.items() for name in ([name] if key in TEXT_KEYS else _ranged(name))}
    unknown = sorted(set(query) - {"page", "page_limit", "sort_by", "sort_option"} - names)
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
        tuple(_within(name, query[name], filters[name.partition("[")[0]]) for name in names & set(query)),
    )


def _ranged(name: str) -> list[str]:
    return [name, f"{name}[gte]", f"{name}[lte]"]


def _within(name: str, text: str, key: FilterKey) -> Within:
    """What a filter lets through. A moment is a whole second, as the answers show it."""
    if key in TEXT_KEYS:
        return Within(key, text, text)
    if key == "duration":
        if not _NUMBER.fullmatch(text):
            raise RequestInvalid("parameter_invalid", f"The {name} parameter is a number of seconds.")
        first = last = float(text)
    else:
        found = _MOMENT.fullmatch(text)
        if found is None:
            raise RequestInvalid("parameter_invalid", f"The {name} parameter is a moment as 2024-08-16T16:53:59Z.")
        year, month, day, hour, minute, second = map(int, found.groups())
        moment = datetime(year, month, 1, hour, minute, second, tzinfo=UTC) + timedelta(days=day - 1)
        first, last = moment.timestamp(), math.nextafter(moment.timestamp() + 1, 0)
    return Within(key, -math.inf if name.endswith("[lte]") else first, math.inf if name.endswith("[gte]") else last)


def _whole_number(text: str, name: str, largest: int) -> int:
    if not _WHOLE_NUMBER.fullmatch(text) or int(text) > largest:
        raise RequestInvalid("parameter_invalid", f"The {name} parameter is a whole number from 1 to {largest}.")
    return int(text)
