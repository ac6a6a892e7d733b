"""Carries a fault plan out: the one layer between guard and tariff that can make a request go wrong.

It lies outside the tariff, so that a request which is not executed costs nothing, and one which is executed passes
through everything that any other does. Only an answer with a page can be damaged; a refusal, of the tariff or of the
contract, goes out as it is.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

import anyio
from aiohttp import web
from aiohttp.typedefs import Handler

from pipeline.platform.faults import (
    Delivery,
    Fault,
    Hang,
    Reset,
    Seen,
    Status,
    TokenExpired,
    chosen,
    damaged,
    delivery,
    executes,
)
from pipeline.platform.limits import Call
from pipeline.platform.tokens import WalkPage, Walks
from pipeline.wire import SCORE_SOURCE_HEADER

_POLL_SECONDS = 0.05
# On, and no second to linger: what is not sent yet is dropped, and RST follows in place of FIN.
_NO_LINGER = struct.pack("ii", 1, 0)

VideosAsked = Callable[[web.Request], Awaitable[Collection[str]]]
"""The videos that a POST asks about; none where it cannot be read."""


class PageAnswer(web.Response):
    """The answer with a page, which it keeps, so that a fault can change it."""

    def __init__(self, page: WalkPage) -> None:
        headers = {SCORE_SOURCE_HEADER: page.score_source}
        super().__init__(body=page.body, headers=headers, content_type="application/json")
        self.page = page


class FaultLayer:
    """One plan for one server, from its start on. ``clock`` gives seconds; ``calls`` has the routes that can fail."""

    def __init__(
        self,
        rules: Sequence[Fault],
        walks: Walks[Any],
        calls: Mapping[Handler, Call],
        videos_asked: VideosAsked,
        clock: Callable[[], float],
    ) -> None:
        self._rules = rules
        self._walks = walks
        self._calls = calls
        self._videos_asked = videos_asked
        self._clock = clock
        self._started = clock()
        self._arrived: dict[Call, int] = {"post": 0, "page": 0}
        self._happened = [0] * len(rules)
        self._watched = frozenset(video_id for rule in rules for video_id in rule.videos or ())
        self._closing = anyio.Event()

    async def close(self, _: web.Application) -> None:
        """Let no hanging or dripping answer hold up the end of the server."""
        self._closing.set()

    @web.middleware
    async def layer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The middleware."""
        call = self._calls.get(request.match_info.handler)
        if call is None:
            return await handler(request)
        seen = await self._seen(request, call)
        place = chosen(self._rules, seen, self._happened)
        if place is None:
            return await self._executed(request, handler, seen)
        self._happened[place] += 1
        rule = self._rules[place]
        if isinstance(rule, TokenExpired) and call == "page":
            self._walks.expire(request.match_info["token"])
        if not executes(rule):
            return await self._spoilt(request, web.Response(), rule)
        answer = await self._executed(request, handler, seen)
        return await self._spoilt(request, answer, rule) if isinstance(answer, PageAnswer) else answer

    async def _seen(self, request: web.Request, call: Call) -> Seen:
        # Numbered before anything is awaited: in the order of arrival.
        self._arrived[call] += 1
        number, number_of_all = self._arrived[call], sum(self._arrived.values())
        seconds = self._clock() - self._started
        videos: frozenset[str] = frozenset()
        if self._watched and call == "post":
            videos = self._watched.intersection(await self._videos_asked(request))
        elif self._watched:
            videos = self._walks.watched(request.match_info["token"])
        return Seen(call, number, number_of_all, seconds, videos)

    async def _executed(self, request: web.Request, handler: Handler, seen: Seen) -> web.StreamResponse:
        answer = await handler(request)
        if seen.kind == "post" and seen.videos and isinstance(answer, PageAnswer):
            self._walks.watch(answer.page.token, seen.videos)
        return answer

    async def _spoilt(self, request: web.Request, answer: web.Response, rule: Fault) -> web.StreamResponse:
        """What goes out in place of an answer, which is a ``PageAnswer`` where the request was executed."""
        match rule:
            case Status():
                answer.set_status(rule.status)
                # Clients read whatever is called JSON, and nothing is none.
                answer.content_type = "application/json" if rule.content else "application/octet-stream"
                answer.body = rule.content
                answer.headers.update(rule.headers)
            case Hang():
                await self._client_gone(request)
            case Reset(after_headers=False):
                _reset(request)
            case _:
                assert isinstance(answer, PageAnswer)
                return await self._page_spoilt(request, answer, rule)
        return answer

    async def _page_spoilt(self, request: web.Request, answer: PageAnswer, rule: Fault) -> web.StreamResponse:
        if isinstance(rule, TokenExpired):
            self._walks.expire(answer.page.token)
        answer.body = body = damaged(answer.page, rule).body
        planned = delivery(body, rule)
        return answer if planned is None else await self._delivered(request, answer, planned)

    async def _client_gone(self, request: web.Request) -> None:
        """Return when the client has closed its connection, which aiohttp tells nobody, or the server ends."""
        while request.transport is not None and not self._closing.is_set():
            with anyio.move_on_after(_POLL_SECONDS):
                await self._closing.wait()
        _reset(request)

    async def _delivered(self, request: web.Request, answer: web.Response, planned: Delivery) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers={**answer.headers, **planned.headers})
        response.content_length = planned.length
        try:
            await response.prepare(request)
            for piece, pause_seconds in planned.pieces:
                if self._closing.is_set():
                    _reset(request)
                    break
                await response.write(piece)
                await anyio.sleep(pause_seconds)
        except ConnectionError:
            return response  # the client has had enough, as it should
        if planned.ending == "reset":
            _reset(request)
        elif planned.ending == "closed" and request.transport is not None:
            request.transport.close()
        return response


def _reset(request: web.Request) -> None:
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        request.transport.abort()
