"""The vectors of prompts, each embedded once: not what is cached, nor what another request has under way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import anyio
from anyio.to_thread import run_sync

from pipeline.platform.embed import Embedder
from pipeline.platform.remote_embed import TEXTS_AT_ONCE, RemoteEmbedder
from pipeline.platform.store import Store
from pipeline.platform.videos import Vectors

AnyEmbedder = Embedder | RemoteEmbedder
"""One that works where it is called, or one to wait for."""


class Prompts:
    """The prompts of one index, for all who ask about it in one event loop.

    The work is done in threads, of which ``limiter`` allows so many.
    """

    def __init__(self, store: Store, limiter: anyio.CapacityLimiter | None = None) -> None:
        self._store = store
        self._limiter = limiter
        self._under_way: dict[str, anyio.Event] = {}

    async def vectors(self, embedder: AnyEmbedder, prompts: Iterable[str]) -> dict[str, Vectors]:
        """The vector of each different prompt. Raises what the embedder raises."""
        texts = list(dict.fromkeys(prompts))
        found: dict[str, Vectors] = {}
        while missing := [text for text in texts if text not in found]:
            mine = [text for text in missing if text not in self._under_way]
            if mine:
                found |= await self._found(embedder, mine)
            else:
                await self._under_way[missing[0]].wait()
        return found

    async def _found(self, embedder: AnyEmbedder, texts: Sequence[str]) -> dict[str, Vectors]:
        """The vectors of texts that nobody else has under way, cached or embedded."""
        self._under_way |= {text: anyio.Event() for text in texts}
        left = set(texts)

        def settle(some: Iterable[str]) -> None:
            for text in left.intersection(some):
                left.discard(text)
                self._under_way.pop(text).set()

        try:
            found = await run_sync(self._store.cached_prompts, embedder.cache_name, texts, limiter=self._limiter)
            settle(found)
            unknown = [text for text in texts if text not in found]
            # Cached a request's worth at a time: what fails loses one request, and the next try goes on there.
            step = embedder.texts_per_request if isinstance(embedder, RemoteEmbedder) else TEXTS_AT_ONCE
            for at in range(0, len(unknown), step):
                embedded = await self._embedded(embedder, unknown[at : at + step])
                await run_sync(self._store.cache_prompts, embedder.cache_name, embedded, limiter=self._limiter)
                settle(embedded)
                found |= embedded
            return found
        finally:
            settle(texts)

    async def _embedded(self, embedder: AnyEmbedder, texts: Sequence[str]) -> dict[str, Vectors]:
        if isinstance(embedder, RemoteEmbedder):
            rows = await embedder.embed(texts)
        else:
            rows = await run_sync(embedder.embed, texts, limiter=self._limiter)
        return dict(zip(texts, rows, strict=True))
