"""From a configuration to a client that speaks to its platform: the vendor's, any other, or our own in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pipeline
from pipeline.client import Client
from pipeline.config import ApiKey, Config
from pipeline.errors import ConfigError
from pipeline.transport import Guard, open_transport


@asynccontextmanager
async def connected(config: Config, key: ApiKey, *, cache: Path, clock: Callable[[], float]) -> AsyncIterator[Client]:
    """A client of the configured platform.

    ``cache`` is the folder for the quickstart index. Raises ``ConfigError`` for a CA file or an index that cannot be
    used.
    """
    async with AsyncExitStack() as opened:
        url = config.api.url
        if url == "embedded":
            url = await opened.enter_async_context(_embedded(config, cache))
        guard = Guard(config.api.request_timeout_seconds, config.limits.max_response_bytes, config.api.ca_file)
        headers = {"x-api-key": key.reveal(), "User-Agent": f"bulk-classify/{pipeline.__version__}"}
        try:
            transport = await opened.enter_async_context(
                open_transport(url, headers, guard, connections=2 * config.limits.concurrency)
            )
        except OSError as error:
            raise ConfigError([f"api.ca_file: {config.api.ca_file}: {error.strerror or error}"]) from error
        version = url.rstrip("/").rpartition("/")[2]
        yield Client(transport, score_source=f"twelvelabs/{version}", secret=key.reveal(), clock=clock)


@asynccontextmanager
async def _embedded(config: Config, cache: Path) -> AsyncIterator[str]:
    """The local platform in this process; its base URL."""
    # Imported here: the platform needs numpy and a tokenizer, and a run against a remote one need not wait for them.
    from pipeline.platform.quickstart import quickstart_index  # noqa: PLC0415
    from pipeline.platform.server import Settings, serving  # noqa: PLC0415
    from pipeline.platform.store import Store  # noqa: PLC0415

    index = quickstart_index(cache) if config.api.index == "quickstart" else Path(config.api.index)
    with Store.open(index) as store:
        async with serving(store, Settings()) as url:
            yield url
