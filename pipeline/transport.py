"""One guarded HTTP exchange: capped, timed as a whole, without redirects, failing only with our own errors.

aiohttp's client is used here and nowhere else, because its defaults are unsafe for this job: it follows redirects and
sends ``x-api-key`` to whatever origin they name; it reads a body of any size, so a small compressed bomb takes a
gigabyte; a socket timeout never ends an answer that drips; its errors and their ``repr`` carry the request's headers,
and so the key. That is why every foreign exception is translated in one place, ``from None``.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace

import aiohttp
from yarl import URL

from pipeline.errors import AnswerCut, AnswerUnusable, CannotConnect, ConnectionLost, RequestFailed, TimedOut

_JSON = {"Content-Type": "application/json"}
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class Guard:
    """What one exchange may cost: seconds from first to last byte, bytes of body after decompression."""

    timeout_seconds: float = 600.0
    max_response_bytes: int = 64 * 1024 * 1024
    ca_file: str | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer. Header names are matched without regard to case."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class Transport:
    """Sends requests to one base URL with one set of headers. Open it with ``open_transport``."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str, guard: Guard) -> None:
        self._session = session
        self._base_url = base_url.rstrip("/")
        self._guard = guard

    async def exchange(
        self, method: str, path: str, body: bytes | None = None, *, on_sent: Callable[[], object] | None = None
    ) -> Response:
        """Send one request and read its whole answer, whatever its status.

        ``path`` starts with a slash and is sent as it is: quote it first. ``on_sent`` is called when the connection
        stands and the request leaves. Raises ``CannotConnect`` where nothing can have been executed, ``ConnectionLost``
        or ``TimedOut`` where it may have been, ``AnswerUnusable`` for a body over the cap.
        """
        url = URL(self._base_url + path, encoded=True)
        headers = _JSON if body else None
        sent = _Sent(on_sent)
        try:
            async with self._session.request(
                method, url, data=body, headers=headers, allow_redirects=False, trace_request_ctx=sent
            ) as answer:
                sent.status = answer.status
                return Response(answer.status, answer.headers, await self._read(answer))
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            failure = self._translated(error, sent)
        raise failure  # not above, or the foreign error, and with it the key, would hang on it as its context

    async def _read(self, answer: aiohttp.ClientResponse) -> bytes:
        blocks: list[bytes] = []
        size = 0
        async for block in answer.content.iter_any():
            size += len(block)
            if size > self._guard.max_response_bytes:
                answer.close()
                raise AnswerUnusable(
                    f"the answer is larger than limits.max_response_bytes ({self._guard.max_response_bytes})",
                    code="answer_too_large",
                    http_status=answer.status,
                )
            blocks.append(block)
        return b"".join(blocks)

    def _translated(self, error: Exception, sent: _Sent) -> RequestFailed:
        """Our error for a foreign one. Only its class is told, never its text or headers."""
        name = type(error).__name__
        if not sent.headers:
            reason = error.os_error.strerror if isinstance(error, aiohttp.ClientConnectorError) else None
            return CannotConnect(f"cannot connect to {self._base_url} ({reason or name})")
        if isinstance(error, TimeoutError):
            return TimedOut(f"no whole answer within {self._guard.timeout_seconds:g} s")
        lost = AnswerCut if 200 <= (sent.status or 0) < 300 else ConnectionLost
        return lost(f"the connection to {self._base_url} ended before the answer did ({name})", http_status=sent.status)


@dataclass(slots=True)
class _Sent:
    """Whether anything of a request has left, so that the platform may have executed it, and the status that came."""

    on_sent: Callable[[], object] | None = None
    headers: bool = False
    status: int | None = None


async def _mark_sent(_: object, context: SimpleNamespace, __: object) -> None:
    sent: _Sent = context.trace_request_ctx
    sent.headers = True
    if sent.on_sent is not None:
        sent.on_sent()


@asynccontextmanager
async def open_transport(
    base_url: str, headers: Mapping[str, str], guard: Guard = Guard(), *, connections: int = 100
) -> AsyncIterator[Transport]:
    """A transport to ``base_url`` that keeps up to ``connections`` connections, closed at the end of the context.

    A proxy named in the environment is used as every client does, but never to loopback. Raises ``OSError`` (of which
    ``ssl.SSLError`` is one) for a CA file that cannot be used.
    """
    proxied = URL(base_url).host not in LOOPBACK_HOSTS
    trusted: ssl.SSLContext | bool = ssl.create_default_context(cafile=guard.ca_file) if guard.ca_file else True
    connector = aiohttp.TCPConnector(limit=connections, ssl=trusted)
    timeout = aiohttp.ClientTimeout(total=guard.timeout_seconds, sock_connect=30)
    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(_mark_sent)
    async with aiohttp.ClientSession(
        connector=connector,
        headers=dict(headers),
        timeout=timeout,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=proxied,
        trace_configs=[trace],
    ) as session:
        yield Transport(session, base_url, guard)
