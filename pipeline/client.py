"""The contract's calls: each returns a typed page or raises a typed error.

An answer that is no page is told apart by its status first and by the platform's own code and words second, in one
place. What is to be done about it is not decided here: the error's base class names the reaction.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from urllib.parse import quote

from pipeline import wire
from pipeline.errors import (
    AnswerUnusable,
    Bisect,
    EndpointGone,
    GatewayFailed,
    KeyRefused,
    Overloaded,
    PipelineError,
    PlatformDown,
    RateLimited,
    Repack,
    RequestRefused,
    RestartWalk,
)
from pipeline.metrics import Histogram
from pipeline.models import Page
from pipeline.quota import ClockDifference, Quota, quota_of, retry_after_seconds
from pipeline.transport import Response, Transport
from pipeline.wire_lists import VideoListPage, decode_video_list
from pipeline.wording import LONGEST_TOLD, STRUCK, harmless, is_secret

OnSent = Callable[[], object] | None
_MAX_TOKEN_LENGTH = 4096
_LISTING_PAGE_LIMIT = 50

GONE = (
    "the platform no longer has this endpoint: classify was removed with version 1.3. The local platform can take its "
    'place: see docs/local-platform.md, or set api.url = "embedded"'
)


@dataclass(frozen=True, slots=True)
class Answer:
    """A page, its bytes, the quota told with it (None where none was), and whose scale its scores are on."""

    page: Page
    body: bytes = field(repr=False)
    quota: Quota | None
    score_source: str


class Client:
    """Speaks to one platform through one transport.

    ``score_source`` is what scores are said to come from when the platform does not say it itself; ``secret`` is the
    API key, struck out of whatever the platform says; ``clock`` gives seconds since the epoch.
    """

    def __init__(self, transport: Transport, *, score_source: str, secret: str, clock: Callable[[], float]) -> None:
        self._transport = transport
        self._secret = secret
        self._score_source = score_source
        self._clock = clock
        self._ahead = ClockDifference()
        self.durations: dict[str, Histogram] = {}
        """How long answered requests took, by method."""

    async def classify(self, request: wire.ClassifyRequest, on_sent: OnSent = None) -> Answer:
        """POST one request; page 1 of its walk. ``on_sent`` is called when it leaves.

        Raises a ``RequestFailed`` or a ``StopRun``.
        """
        path = "/classify" if request.index_id is None else "/classify/bulk"
        body = wire.encode_classify(request)
        return self._answer(await self._exchange("POST", path, body, on_sent), of_token=False)

    async def page(self, token: str, on_sent: OnSent = None) -> Answer:
        """GET another page of a walk. Raises as ``classify`` does, and ``AnswerUnusable`` for an unsafe token."""
        if len(token) > _MAX_TOKEN_LENGTH or not token.isprintable() or token in {".", ".."}:
            raise AnswerUnusable("the platform sent a page token that cannot be part of a URL", code="unusable_token")
        path = f"/classify/{quote(token, safe='')}"
        return self._answer(await self._exchange("GET", path, None, on_sent), of_token=True)

    async def index_videos(self, index_id: str, page: int, on_sent: OnSent = None) -> VideoListPage:
        """One page, from 1, of an index's videos. Raises as ``classify`` does."""
        path = f"/indexes/{quote(index_id, safe='')}/videos?page={page}&page_limit={_LISTING_PAGE_LIMIT}"
        return decode_video_list(await self.get(path, on_sent))

    async def get(self, path: str, on_sent: OnSent = None) -> bytes:
        """The body of a GET beside the contract; quote what ``path`` is made of. Raises as ``classify`` does."""
        response = await self._exchange("GET", path, None, on_sent)
        if response.status != 200:
            raise self._failure(response, of_token=False)
        return response.body

    async def _exchange(self, method: str, path: str, body: bytes | None, on_sent: OnSent) -> Response:
        sent_at = self._clock()
        response = await self._transport.exchange(method, path, body, on_sent=on_sent)
        arrived_at = self._clock()
        self._ahead.observe(response.headers, sent_at, arrived_at)
        self.durations.setdefault(method, Histogram()).observe(arrived_at - sent_at)
        return response

    def _quota(self, response: Response) -> Quota | None:
        """The quota that an answer tells, its end by our clock."""
        ahead = self._ahead.seconds
        quota = quota_of(response.headers, now=self._clock() - ahead)
        return quota and replace(quota, resets_at=quota.resets_at + ahead)

    def _answer(self, response: Response, *, of_token: bool) -> Answer:
        if not 200 <= response.status < 300:
            raise self._failure(response, of_token=of_token)
        body = response.body
        if is_secret(self._secret):
            body = body.replace(self._secret.encode(), STRUCK.encode())
        source = harmless(response.headers.get(wire.SCORE_SOURCE_HEADER, ""), self._secret) or self._score_source
        return Answer(wire.decode_page(body), body, self._quota(response), source)

    def _failure(self, response: Response, *, of_token: bool) -> PipelineError:
        code, message = (harmless(text, self._secret) for text in wire.decode_error(response.body))
        status = response.status
        said = f"{code}: {message}" if code and message else code or message
        told = f"HTTP {status}" + (f" ({said[:LONGEST_TOLD]})" if said else "")
        if status in {401, 403}:
            return KeyRefused(f"the platform refuses the API key: {told}. Check the key, or who owns these videos")
        if status == 410 or code == "api_upgrade_required":
            return EndpointGone(f"{GONE} ({told})")
        if of_token and 400 <= status < 500 and status not in _BY_STATUS:
            return RestartWalk(told, http_status=status)  # the platform's code is any bad parameter's
        if status == 404 and code != "resource_not_exist":
            return EndpointGone(f"{GONE} ({told})")
        if 300 <= status < 400:
            return PlatformDown(f"the platform redirects ({told}), and a key is never sent on: check api.url")
        kind = _BY_STATUS.get(status) or (Overloaded if status >= 500 else _refusal_of(code, message))
        platform_now = self._clock() - self._ahead.seconds
        wait = retry_after_seconds(response.headers, platform_now, for_load=kind is not RateLimited)
        error = kind(told, code=code, http_status=status, retry_after_seconds=wait)
        if isinstance(error, Repack) and (total := _TOTAL_SECONDS.search(message)):
            error.total_seconds = float(total[1])
        quota = self._quota(response)
        if isinstance(error, RateLimited) and quota is not None and not quota.remaining:
            error.quota_limit, error.quota_resets_at = quota.limit, quota.resets_at
        return error


_BY_STATUS: dict[int, type[Overloaded | RateLimited | GatewayFailed | Repack]] = {
    408: Overloaded,
    413: Repack,
    425: Overloaded,
    429: RateLimited,
    502: GatewayFailed,
    504: GatewayFailed,
}
# The vendor's words: "The total duration(seconds) 37600 of videos exceeds the limit."
_TOO_LONG = re.compile(r"total duration.*exceed", re.IGNORECASE)
_TOTAL_SECONDS = re.compile(r"total duration\D*(\d{1,12}(?:\.\d{1,12})?)", re.IGNORECASE)
_ABOUT_VIDEOS = re.compile(r"\bvideos?(_ids?)?\b", re.IGNORECASE)


def _refusal_of(code: str, message: str) -> type[Repack | Bisect]:
    if _TOO_LONG.search(message):
        return Repack
    if code == "resource_not_exist" or _ABOUT_VIDEOS.search(message):
        return Bisect
    return RequestRefused
