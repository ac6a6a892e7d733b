"""One exchange against servers that misbehave, most of them written in bytes: what comes back, and what never leaks."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
import struct
import traceback
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pipeline.errors import AnswerCut, AnswerUnusable, CannotConnect, ConnectionLost, RequestFailed, TimedOut
from pipeline.transport import Guard, Response, Transport, open_transport
from tests.runs import free_port

KEY = "sesame-4711-never-to-be-seen"
HEADERS = {"x-api-key": KEY, "User-Agent": "bulk-classify/test"}
MIB = 1024 * 1024

# Made for these tests, for localhost, trusted by nobody: `openssl req -x509 -newkey ec`, valid for a hundred years.
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIUW1QxUChwJsXDk811STAPW+yzwecwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMjE3NDUwN1oYDzIxMjYxMDI5
MTc0NTA3WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAQd7ELK/v2hQlDd4t2EjfrgM+fxlu3EU1ift3+J5fNsU29DdKPOy0mg
C+fKvQTp2I57F+RPDw5nMacplMLNO5k0o28wbTAdBgNVHQ4EFgQUvmSwHttmcnkw
YKWLmci7GloTuj8wHwYDVR0jBBgwFoAUvmSwHttmcnkwYKWLmci7GloTuj8wDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSAAwRQIgF0aD8KgpoJTYPEWNouuQDTFYeg1d2hMC4qQqgOYr+oQCIQCd
5dBkxaYHalaplS6RFlDEvnMdVAEKXCIkvtGPpS9SGw==
-----END CERTIFICATE-----
"""
PRIVATE = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgyB3MvAa1ys/CZ8Ky
arlyMI4vTPWSNsOECnEf3WmSepqhRANCAAQd7ELK/v2hQlDd4t2EjfrgM+fxlu3E
U1ift3+J5fNsU29DdKPOy0mgC+fKvQTp2I57F+RPDw5nMacplMLNO5k0
-----END PRIVATE KEY-----
"""

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Listener:
    """A server that plays one script on each connection; ``requests`` are the heads that it was sent."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.port = 0
        self.conversations = 0
        self.idle = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1.2"


@asynccontextmanager
async def listening(
    *says: bytes, then: Script | None = None, reads: bool = True, trusted: ssl.SSLContext | None = None
) -> AsyncIterator[Listener]:
    """A server that reads a request's head, answers the next of ``says``, plays ``then``, and goes on or closes."""
    listener = Listener()
    answers = iter(says)

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        listener.conversations += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            if reads:
                listener.requests.append((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
            writer.write(next(answers, b""))
            await writer.drain()
            if then:
                await then(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        listener.conversations -= 1
        listener.idle.set()

    server = await asyncio.start_server(converse, "127.0.0.1", 0, ssl=trusted)
    listener.port = server.sockets[0].getsockname()[1]
    async with server:
        yield listener
        while listener.conversations:
            listener.idle.clear()
            await listener.idle.wait()


@asynccontextmanager
async def sending(url: str, **guard: object) -> AsyncIterator[Transport]:
    async with open_transport(url, HEADERS, Guard(**guard)) as transport:  # type: ignore[arg-type]
        yield transport


async def failure(transport: Transport, method: str = "POST", path: str = "/classify") -> RequestFailed:
    """The error of one exchange, of which nothing may show the key."""
    try:
        await transport.exchange(method, path, b"{}" if method == "POST" else None)
    except RequestFailed as error:
        assert_secret(error)
        return error
    raise AssertionError("the exchange succeeded")


def assert_secret(error: BaseException) -> None:
    shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert KEY not in shown
    for one in chain(error):
        assert KEY not in f"{one} {one!r} {one.args!r} {vars(one)!r}"


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and whatever it was raised from or while handling, suppressed or not."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def whole(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def hold(listener_reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Say nothing more until the client goes."""
    await listener_reader.read()


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close with RST in place of FIN."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


# ---------------------------------------------------------------------------------------------------- a whole answer


async def test_a_whole_answer_comes_back_whatever_its_status() -> None:
    async with (
        listening(whole(b"{}", "X-Ratelimit-Limit: 20", status="418 Teapot")) as server,
        sending(server.url) as transport,
    ):
        answer = await transport.exchange("POST", "/classify", b'{"a": 1}')
    assert (answer.status, answer.body, answer.headers["x-ratelimit-limit"]) == (418, b"{}", "20")


async def test_a_request_carries_key_agent_and_content_type_and_the_path_as_it_is() -> None:
    async with listening(whole(b""), whole(b"")) as server, sending(server.url) as transport:
        await transport.exchange("POST", "/classify", b"{}")
        await transport.exchange("GET", "/classify/%2E%2e%2Fa%252F..%3F")
    post, get = server.requests
    assert post.startswith("POST /v1.2/classify HTTP/1.1\r\n")
    assert get.startswith("GET /v1.2/classify/%2E%2e%2Fa%252F..%3F HTTP/1.1\r\n")
    assert f"x-api-key: {KEY}\r\n" in post
    assert f"x-api-key: {KEY}\r\n" in get
    assert "User-Agent: bulk-classify/test\r\n" in post
    assert "Content-Type: application/json\r\n" in post
    assert "Content-Type" not in get


async def test_cookies_are_not_kept() -> None:
    async with listening(whole(b"", "Set-Cookie: a=b"), whole(b"")) as server, sending(server.url) as transport:
        await transport.exchange("GET", "/one")
        await transport.exchange("GET", "/two")
    assert "Cookie" not in server.requests[1]


def test_neither_headers_nor_body_show_in_an_answers_repr() -> None:
    assert repr(Response(200, {"a": KEY}, KEY.encode())) == "Response(status=200)"


# ----------------------------------------------------------------------------------------- where a request may not go


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_redirect_is_an_answer_and_its_target_gets_no_request(method: str, status: int) -> None:
    async with listening(whole(b"{}")) as other:
        moved = whole(b"", f"Location: {other.url}/classify", status=f"{status} Moved")
        async with listening(moved) as server, sending(server.url) as transport:
            answer = await transport.exchange(method, "/classify", b"{}" if method == "POST" else None)
    assert (answer.status, len(server.requests), other.requests) == (status, 1, [])


async def test_a_proxy_of_the_environment_never_sees_what_goes_to_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening(whole(b"")) as proxy, listening(whole(b"")) as server:
        monkeypatch.setenv("http_proxy", proxy.url)
        async with sending(server.url) as transport:
            await transport.exchange("GET", "/one")
    assert (len(server.requests), proxy.requests) == (1, [])


# -------------------------------------------------------------------------------------------------------- how much


@pytest.mark.parametrize("framing", ["Content-Length: 65537", "Transfer-Encoding: chunked", "Connection: close"])
async def test_a_body_over_the_cap_is_refused_however_it_is_framed(framing: str) -> None:
    body = b"x" * 65_537
    if "chunked" in framing:
        body = b"10001\r\n" + body + b"\r\n0\r\n\r\n"
    async with (
        listening(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode() + body) as server,
        sending(server.url, max_response_bytes=65_536) as transport,
    ):
        error = await failure(transport)
    assert type(error) is AnswerUnusable
    assert (error.code, error.http_status) == ("answer_too_large", 200)


async def test_a_body_of_just_the_cap_is_taken() -> None:
    async with listening(whole(b"x" * 65_536)) as server, sending(server.url, max_response_bytes=65_536) as transport:
        assert len((await transport.exchange("GET", "/one")).body) == 65_536


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_compressed_bomb_is_refused_before_it_fills_the_memory(encoding: str) -> None:
    packer = zlib.compressobj(9, wbits=31 if encoding == "gzip" else 15)
    zeros = bytes(MIB)
    bomb = b"".join(packer.compress(zeros) for _ in range(256)) + packer.flush()
    async with (
        listening(whole(bomb, f"Content-Encoding: {encoding}")) as server,
        sending(server.url, max_response_bytes=MIB) as transport,
    ):
        gc.collect()
        tracemalloc.start()
        error = await failure(transport)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert (type(error), error.code) == (AnswerUnusable, "answer_too_large")
    assert peak < 64 * MIB  # aiohttp decompresses up to 32 MiB before we see any of it


# -------------------------------------------------------------------------------------------------------- how long


async def test_an_answer_that_drips_ends_at_the_total_timeout() -> None:
    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with (
        listening(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", then=drip) as server,
        sending(server.url, timeout_seconds=1) as transport,
    ):
        error = await failure(transport)
    assert (type(error), str(error)) == (TimedOut, "no whole answer within 1 s")


async def test_no_answer_at_all_ends_at_the_total_timeout() -> None:
    async with listening(then=hold) as server, sending(server.url, timeout_seconds=1) as transport:
        assert type(await failure(transport)) is TimedOut


async def test_a_connection_that_does_not_come_about_within_the_timeout_was_not_billed() -> None:
    """A host that drops every packet: the connection's own timeout is longer than the request's."""
    with socket.socket() as full, contextlib.ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):  # What fits into the queue of a socket that nobody accepts from.
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        async with sending(f"http://127.0.0.1:{full.getsockname()[1]}/v1.2", timeout_seconds=0.3) as transport:
            assert type(await failure(transport)) is CannotConnect


# ------------------------------------------------------------------------------------------------- no whole answer


async def test_a_refused_connection_was_never_sent() -> None:
    port = free_port()
    async with sending(f"http://127.0.0.1:{port}/v1.2") as transport:
        error = await failure(transport)
    assert type(error) is CannotConnect
    assert str(error).startswith(f"cannot connect to http://127.0.0.1:{port}/v1.2 (")


async def test_a_name_that_does_not_resolve_was_never_sent() -> None:
    async with sending("http://nowhere.invalid/v1.2") as transport:
        assert type(await failure(transport)) is CannotConnect


async def test_a_reset_before_the_headers_may_have_been_billed() -> None:
    async with listening(then=reset) as server, sending(server.url) as transport:
        assert type(await failure(transport)) is ConnectionLost


async def test_a_reset_after_the_headers_may_have_been_billed() -> None:
    async with (
        listening(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", then=reset) as server,
        sending(server.url) as transport,
    ):
        assert type(await failure(transport)) is AnswerCut


CUT = {
    "a cut body": b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{}",
    "a cut chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}",
    "no gzip": whole(b"this is no gzip", "Content-Encoding: gzip"),
}
MALFORMED = {
    "nothing": b"",
    "no http": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "no status": b"HTTP/1.1 \r\n\r\n",
    "a status of five digits": b"HTTP/1.1 20000 OK\r\n\r\n",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "a header of 100 KB": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
    "a NUL in a header": b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n",
    "a header without a name": b"HTTP/1.1 200 OK\r\n: x\r\n\r\n",
    "a length in letters": b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
    "a chunk without a size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "a header repeats the request's": b"HTTP/1.1 200 OK\r\nX: " + KEY.encode() + b"\r\nContent-Length: zz\r\n\r\n",
}


@pytest.mark.parametrize("says", (MALFORMED | CUT).values(), ids=(MALFORMED | CUT).keys())
async def test_whatever_is_no_answer_is_an_error_of_ours_that_hides_the_key(says: bytes) -> None:
    async with listening(says) as server, sending(server.url, timeout_seconds=60) as transport:
        error = await failure(transport)
    assert type(error) is (AnswerCut if says in CUT.values() else ConnectionLost)
    assert str(error).startswith(f"the connection to {server.url} ended before the answer did (")


# ------------------------------------------------------------------------------------------------------------- TLS


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    path = tmp_path / "own.pem"
    path.write_text(PRIVATE + CERTIFICATE)
    return path


def served(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def test_a_server_without_tls_was_never_sent_a_request() -> None:
    async with (
        listening(b"220 mail\r\n", reads=False) as server,
        sending(f"https://localhost:{server.port}/v1.2") as transport,
    ):
        assert type(await failure(transport)) is CannotConnect


async def test_a_certificate_that_nobody_vouches_for_is_refused_before_anything_is_sent(certificate: Path) -> None:
    async with (
        listening(whole(b"{}"), trusted=served(certificate)) as server,
        sending(f"https://localhost:{server.port}/v1.2") as transport,
    ):
        assert type(await failure(transport)) is CannotConnect
    assert server.requests == []


async def test_a_certificate_of_ones_own_is_trusted_by_its_file(certificate: Path) -> None:
    async with (
        listening(whole(b"{}"), trusted=served(certificate)) as server,
        sending(f"https://localhost:{server.port}/v1.2", ca_file=str(certificate)) as transport,
    ):
        assert (await transport.exchange("GET", "/one")).body == b"{}"


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_a_file_of_certificates_that_cannot_be_used_is_told_at_once(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(OSError):  # noqa: PT011 - ssl's errors are of several classes
        async with open_transport("https://localhost/v1.2", HEADERS, Guard(ca_file=str(path))):
            pass
