"""A platform that does nothing but count: the strictest sliding window, after delays as a network has them.

It is a program of its own, so that no client shares its event loop, and answers in a few microseconds, so that what it
counts is the client's doing. A request counts when it arrives, which is a random delay after it was received; in any
period of ``capacity / rate`` seconds (a second, for whole rates) it lets ``capacity`` requests pass, and refuses the
rest with an empty 429. Any GET tells what it has seen, as JSON, and begins anew.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import sys
from collections import deque

PASSED = b'{"data": [], "page_info": {"total_results": 0, "next_page_token": ""}}'


class SlidingWindow:
    """At most ``max(1, int(rate))`` requests in any period that long; what is refused does not count."""

    def __init__(self, rate: float) -> None:
        self._capacity = max(1, int(rate))
        self._period = self._capacity / rate
        self._recent: deque[float] = deque()

    def admits(self, moment: float) -> bool:
        """Whether a request that arrives now may pass; moments never go back."""
        while self._recent and moment - self._recent[0] >= self._period:
            self._recent.popleft()
        if len(self._recent) == self._capacity:
            return False
        self._recent.append(moment)
        return True


class StrictServer:
    """Counts requests that arrive up to ``jitter_seconds`` after they were received."""

    def __init__(self, rate: float, jitter_seconds: float) -> None:
        self._rate = rate
        self._jitter_seconds = jitter_seconds
        self._dice = random.Random(1)
        self.begin_anew()

    def begin_anew(self) -> None:
        self._window = SlidingWindow(self._rate)
        self._passed: list[float] = []
        self._refused: list[float] = []

    def receive(self, transport: asyncio.Transport) -> None:
        delay = self._dice.uniform(0, self._jitter_seconds)
        asyncio.get_running_loop().call_later(delay, self._arrive, transport)

    def _arrive(self, transport: asyncio.Transport) -> None:
        moment = asyncio.get_running_loop().time()
        passes = self._window.admits(moment)
        (self._passed if passes else self._refused).append(moment)
        transport.write(_response(200, PASSED) if passes else _response(429, b""))

    def tell(self, transport: asyncio.Transport) -> None:
        counts = {"passed": self._passed, "refused": self._refused}
        transport.write(_response(200, json.dumps(counts).encode()))
        self.begin_anew()


def _response(status: int, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class _Connection(asyncio.Protocol):
    """One client, which sends one request after another, as our clients do."""

    def __init__(self, server: StrictServer) -> None:
        self._server = server
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, received: bytes) -> None:
        self._received += received
        head, found, body = self._received.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
        if not found or len(body) < int(length or 0):
            return
        self._received = b""
        if head.startswith(b"GET "):
            self._server.tell(self._transport)
        else:
            self._server.receive(self._transport)


async def serve(rate: float, jitter_seconds: float) -> None:
    """Serve on a free port, which is printed, until the parent process ends."""
    with contextlib.suppress(OSError):  # what measures should not be what is measured; only root may
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    parent = os.getppid()
    counting = StrictServer(rate, jitter_seconds)
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(counting), "127.0.0.1", 0)
    async with server:
        sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
        sys.stdout.flush()
        while os.getppid() == parent:  # noqa: ASYNC110 - no event tells of a parent's end
            await asyncio.sleep(0.5)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, required=True, help="requests a second")
    parser.add_argument("--jitter", type=float, default=0.0, help="longest delay before a request arrives, in seconds")
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.rate, arguments.jitter))
