"""Prompts to vectors by a server: any that is OpenAI-compatible, or the vendor's own.

Requests are made in the event loop, by the task that needs the vectors: so a server that takes its time holds no worker
thread, and whoever is cancelled takes its requests with it. A connection is opened for each call: prompts are cached,
so calls are few.

A server is not trusted: its answer is bounded, and is a vector of the right length and of finite numbers for each text,
or an error. Nothing is sent again here. What a client is told says whether it may try again (429, 503) or somebody has
to do something first (502), and prompts that were embedded before a failure are cached (see ``prompts``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

import pipeline
from pipeline.errors import AnswerUnusable, PlatformDown, RequestFailed
from pipeline.platform.videos import Vectors, normalised
from pipeline.transport import Guard, Response, open_transport
from pipeline.wording import counted, harmless

VENDOR_URL = "https://api.twelvelabs.io/v1.3"
"""Where the vendor's API is."""
TEXTS_AT_ONCE = 16
"""Texts in one request, at the most: more would not be faster by much, and more would be lost with a request."""

_GUARD = Guard(timeout_seconds=120, max_response_bytes=16 * 1024 * 1024)
_LONGEST_PAUSE_SECONDS = 3600
# Refused for what the texts are: other texts may pass.
_ABOUT_TEXTS = frozenset({400, 413, 422})
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


class EmbedderFailed(PlatformDown):
    """The server that embeds prompts brought no vectors.

    ``http_status`` is what a client of ours is told: 400 where the texts are refused, 429 where they come too fast, 503
    where it may pass, 502 where it does not by itself. ``retry_after_seconds`` is what the server asked for, None where
    it said nothing.
    """

    def __init__(self, message: str, http_status: int, retry_after_seconds: int | None = None) -> None:
        super().__init__(message)
        self.http_status = http_status
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True)
class EmbeddingApi:
    """One kind of server: where its calls go, as whom, and what a request and its answer look like.

    ``decoded`` gives a vector for each text, in their order, and raises ``ValueError`` for an answer that has none.
    """

    url: str
    path: str
    key: str | None = field(repr=False)
    key_header: Callable[[str], Mapping[str, str]] = field(repr=False)
    texts_per_request: int
    encoded: Callable[[Sequence[str]], bytes]
    decoded: Callable[[bytes], list[list[float]]]


class RemoteEmbedder:
    """An embedder of the vectors of ``space``, which have so many ``dimensions``; as ``Embedder``, but one to wait for.

    ``cache_name`` tells apart what must not be mixed up in a cache, although it claims to be of one space.
    """

    def __init__(self, api: EmbeddingApi, space: str, dimensions: int, cache_name: str) -> None:
        self._api = api
        self._space = space
        self._dimensions = dimensions
        self._cache_name = cache_name

    @property
    def space(self) -> str:
        """The space of the vectors."""
        return self._space

    @property
    def cache_name(self) -> str:
        """What prompts are cached under."""
        return self._cache_name

    @property
    def texts_per_request(self) -> int:
        """How many texts one request carries: so many, and no more, are lost with it."""
        return self._api.texts_per_request

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """One L2-normalised row a text; zeros where the server sent zeros. Raises ``EmbedderFailed``."""
        if not texts:
            return np.zeros((0, self._dimensions), dtype=np.float32)
        api = self._api
        headers = {"User-Agent": f"bulk-classify/{pipeline.__version__}"}
        headers |= api.key_header(api.key) if api.key is not None else {}
        vectors: list[list[float]] = []
        async with open_transport(api.url, headers, _GUARD, connections=1) as transport:
            for at in range(0, len(texts), api.texts_per_request):
                some = texts[at : at + api.texts_per_request]
                try:
                    response = await transport.exchange("POST", api.path, api.encoded(some))
                except AnswerUnusable:
                    raise self._failed(f"sent more than {_GUARD.max_response_bytes} bytes", 502) from None
                except RequestFailed as error:
                    raise self._failed(f"did not answer: {error}", 503) from None
                vectors += self._read(response, len(some))
        return self._normalised(vectors)

    def _read(self, response: Response, count: int) -> list[list[float]]:
        if not 200 <= response.status < 300:
            raise self._refusal(response)
        try:
            vectors = self._api.decoded(response.body)
        except (ValueError, RecursionError) as error:
            raise self._failed(f"sent no embeddings: {harmless(str(error), self._api.key)}", 502) from None
        if len(vectors) != count:
            raise self._failed(f"sent {counted(len(vectors), 'embedding')} for {counted(count, 'text')}", 502)
        lengths = {len(vector) for vector in vectors}
        if lengths != {self._dimensions}:
            wrong = min(lengths - {self._dimensions})
            raise self._failed(
                f"sent vectors of {wrong} dimensions, and those of the space {self._space!r} have {self._dimensions}: "
                "this is not the model that the index was made with",
                502,
            )
        return vectors

    def _normalised(self, vectors: list[list[float]]) -> Vectors:
        try:
            return normalised(np.array(vectors, dtype=np.float64))
        except ValueError:
            raise self._failed("sent a vector with a number that is not finite", 502) from None

    def _refusal(self, response: Response) -> EmbedderFailed:
        status = response.status
        said = harmless(_message_in(response.body), self._api.key)
        told = f"HTTP {status}" + (f" ({said})" if said else "")
        if status in {401, 403}:
            return self._failed(f"refuses {'its key' if self._api.key else 'requests without a key'}: {told}", 502)
        if status in _ABOUT_TEXTS:
            return self._failed(f"refuses these prompts: {told}", 400)
        if status in _PASSING:
            pause = _pause(response.headers.get("Retry-After", ""))
            return self._failed(f"cannot answer now: {told}", 429 if status == 429 else 503, pause)
        if 300 <= status < 400:
            return self._failed(f"redirects, and redirects are not followed: {told}", 502)
        return self._failed(f"refuses: {told}; check its URL and the name of the model", 502)

    def _failed(self, what: str, http_status: int, retry_after_seconds: int | None = None) -> EmbedderFailed:
        return EmbedderFailed(f"the embedder at {self._api.url} {what}", http_status, retry_after_seconds)


def _pause(header: str) -> int | None:
    found = re.fullmatch(r"[0-9]{1,9}", header.strip())
    return min(int(found[0]), _LONGEST_PAUSE_SECONDS) if found else None


def _message_in(body: bytes) -> str:
    """What an error says: ``{"message": …}``, or ``{"error": …}`` with a text or with such an object."""
    try:
        told: Any = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return ""
    for key in ("error", "message"):
        if isinstance(told, dict):
            told = told.get(key, told)
    return told if isinstance(told, str) else ""


# ------------------------------------------------------------------------------------------------------ kinds of server


class _Embedding(msgspec.Struct, frozen=True):
    index: int
    embedding: list[float]


class _Embeddings(msgspec.Struct, frozen=True):
    data: list[_Embedding]


class _VendorEmbedding(msgspec.Struct, frozen=True):
    embedding: list[float]


class _VendorEmbeddings(msgspec.Struct, frozen=True):
    data: list[_VendorEmbedding]


def openai_api(url: str, model: str, key: str | None) -> EmbeddingApi:
    """The ``/embeddings`` of OpenAI's API, which most servers of open models offer too; ``url`` is its base URL.

    https://platform.openai.com/docs/api-reference/embeddings: texts go as one list, vectors come with the ``index`` of
    their text, in no promised order.
    """

    def encoded(texts: Sequence[str]) -> bytes:
        return msgspec.json.encode({"model": model, "input": list(texts), "encoding_format": "float"})

    return EmbeddingApi(url, "/embeddings", key, _bearer, TEXTS_AT_ONCE, encoded, _in_order_of_index)


def _bearer(key: str) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {key}"}


def _in_order_of_index(body: bytes) -> list[list[float]]:
    found = msgspec.json.decode(body, type=_Embeddings).data
    by_index = {one.index: one.embedding for one in found}
    if by_index.keys() != set(range(len(found))):
        raise ValueError("their indexes are not 0, 1, 2 and so on")
    return [by_index[index] for index in range(len(found))]


def vendor_api(url: str, model: str, key: str) -> EmbeddingApi:
    """The vendor's ``/embed-v2`` of version 1.3, one text a request.

    Its form is that of the official SDK (Python ``twelvelabs`` 1.3): ``input_type``, ``model_name``,
    ``text.input_text``; the answer's ``data`` has one entry.
    """

    def encoded(texts: Sequence[str]) -> bytes:
        return msgspec.json.encode({"input_type": "text", "model_name": model, "text": {"input_text": texts[0]}})

    return EmbeddingApi(url, "/embed-v2", key, _vendor_header, 1, encoded, _only_one)


def _vendor_header(key: str) -> Mapping[str, str]:
    return {"x-api-key": key}


def _only_one(body: bytes) -> list[list[float]]:
    return [one.embedding for one in msgspec.json.decode(body, type=_VendorEmbeddings).data]
