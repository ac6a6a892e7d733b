"""A server that embeds texts, as others see it: OpenAI's ``/embeddings`` and the vendor's ``/embed-v2``.

It knows a vector for every text (``vector_of``), keeps what it was asked, and answers something else where it is told
to. Requests that neither API would take are refused, as those APIs do.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
from aiohttp import web

DIMENSIONS = 8


def vector_of(text: str) -> list[float]:
    """A vector that is always the same for a text, and of no length in particular."""
    digest = hashlib.sha256(text.encode()).digest()
    return [number / 65_536 - 0.5 for number in struct.unpack(f">{DIMENSIONS}H", digest[: 2 * DIMENSIONS])]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: its path, its texts, the model that it names, and who sent it."""

    path: str
    texts: list[str]
    model: str
    key: str | None


@dataclass
class EmbeddingServer:
    """What it was asked, and what it answers: ``instead`` may replace any answer, by the number of the request.

    While ``hold`` is there and not set, OpenAI's API answers nothing; ``arrivals`` has a place for each that came.
    """

    asked: list[Asked] = field(default_factory=list)
    instead: Callable[[int], web.Response | None] = lambda _: None
    key: str | None = None
    vector_of: Callable[[str], list[float]] = vector_of
    url: str = ""
    hold: anyio.Event | None = None
    arrivals: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(0))

    @property
    def texts(self) -> list[str]:
        return [text for one in self.asked for text in one.texts]

    async def openai(self, request: web.Request) -> web.Response:
        body = await request.json()
        assert body.keys() == {"model", "input", "encoding_format"}
        assert body["encoding_format"] == "float"
        key = request.headers.get("Authorization", "").removeprefix("Bearer ") or None
        assert "x-api-key" not in request.headers
        refusal = self._met(Asked("/embeddings", body["input"], body["model"], key))
        self.arrivals.release()
        if self.hold is not None:
            await self.hold.wait()
        listed = [
            {"object": "embedding", "index": at, "embedding": self.vector_of(text)}
            for at, text in enumerate(body["input"])
        ]
        answer = {"object": "list", "data": listed[::-1], "model": body["model"], "usage": {"total_tokens": 1}}
        return refusal or web.json_response(answer)

    async def vendor(self, request: web.Request) -> web.Response:
        body = await request.json()
        assert body.keys() == {"input_type", "model_name", "text"}
        assert (body["input_type"], body["text"].keys()) == ("text", {"input_text"})
        text = body["text"]["input_text"]
        refusal = self._met(Asked("/embed-v2", [text], body["model_name"], request.headers.get("x-api-key")))
        entry = {"embedding": self.vector_of(text), "embedding_option": None, "embedding_scope": None}
        return refusal or web.json_response({"data": [entry], "metadata": {"input_type": "text"}})

    def _met(self, asked: Asked) -> web.Response | None:
        self.asked.append(asked)
        if self.key is not None and asked.key != self.key:
            told: Any = {"error": {"message": f"Incorrect API key provided: {asked.key}.", "type": "invalid"}}
            return web.json_response(told, status=401)
        return self.instead(len(self.asked))


@asynccontextmanager
async def embedding_server(server: EmbeddingServer) -> AsyncIterator[EmbeddingServer]:
    """Serve on a free port of the loopback interface; ``url`` is then the base URL of both APIs."""
    app = web.Application()
    app.router.add_post("/v1/embeddings", server.openai)
    app.router.add_post("/v1/embed-v2", server.vendor)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        yield server
    finally:
        await runner.cleanup()


def refused(status: int, told: object = None, **headers: str) -> Callable[[int], web.Response]:
    """What answers every request so."""
    return lambda _: web.Response(status=status, text=json.dumps(told), headers=headers)
