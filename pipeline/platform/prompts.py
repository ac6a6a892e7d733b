"""The vectors of prompts, each embedded once: what an index has cached is never asked for again."""

from __future__ import annotations

from collections.abc import Iterable

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from pipeline.platform.embed import Embedder
from pipeline.platform.remote_embed import TEXTS_AT_ONCE, RemoteEmbedder
from pipeline.platform.store import Store
from pipeline.platform.videos import Vectors

AnyEmbedder = Embedder | RemoteEmbedder
"""One that works where it is called, or one to wait for."""


async def prompt_vectors(
    store: Store, embedder: AnyEmbedder, prompts: Iterable[str], limiter: CapacityLimiter | None = None
) -> dict[str, Vectors]:
    """The vector of each different prompt. Raises what the embedder raises.

    The work is done in threads, of which ``limiter`` allows so many. What is new is cached a few at a time, so that a
    failure on the way loses little, and the next try goes on there.
    """
    texts = list(dict.fromkeys(prompts))
    vectors = await run_sync(store.cached_prompts, embedder.cache_name, texts, limiter=limiter)
    unknown = [text for text in texts if text not in vectors]
    for at in range(0, len(unknown), TEXTS_AT_ONCE):
        some = unknown[at : at + TEXTS_AT_ONCE]
        if isinstance(embedder, RemoteEmbedder):
            rows = await embedder.embed(some)
        else:
            rows = await run_sync(embedder.embed, some, limiter=limiter)
        embedded = dict(zip(some, rows, strict=True))
        await run_sync(store.cache_prompts, embedder.cache_name, embedded, limiter=limiter)
        vectors |= embedded
    return vectors
