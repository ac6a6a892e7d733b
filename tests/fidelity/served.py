"""The local platform on loopback, for clients that block: it runs in a thread of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from anyio.from_thread import start_blocking_portal

from pipeline.platform.prompts import AnyEmbedder
from pipeline.platform.server import Settings, serving
from pipeline.platform.store import Store


@contextmanager
def served(
    store: Store, settings: Settings, embedder: AnyEmbedder, *, clock: Callable[[], float] = time.time
) -> Iterator[str]:
    """Serve an index until the block ends; yields where, without a version path."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serving(store, settings, clock=clock, embedder=embedder)) as url,
    ):
        yield url.removesuffix("/v1.2")
