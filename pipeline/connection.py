"""From a configuration to a client that speaks to its platform: the vendor's, any other, or our own in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pipeline
from pipeline.client import Client
from pipeline.config import ApiKey, Config
from pipeline.errors import ConfigError
from pipeline.platform.access import EmbedderAccess
from pipeline.transport import Guard, open_transport

if TYPE_CHECKING:
    from pipeline.platform.store import Store


@dataclass(frozen=True, slots=True)
class Connection:
    """A client; and where the platform is the local one in this process, the index behind it.

    ``index_warning`` is what is to be said of that index before it is asked, None where there is nothing.
    """

    client: Client
    index: Store | None = None
    index_warning: str | None = None


class _Embedded(NamedTuple):
    """The local platform in this process: its base URL, its index, and what is to be said of that."""

    url: str
    store: Store
    warning: str | None


@asynccontextmanager
async def connected(
    config: Config,
    key: ApiKey,
    *,
    cache: Path,
    clock: Callable[[], float],
    embedder: EmbedderAccess = EmbedderAccess(),
) -> AsyncIterator[Connection]:
    """A client of the configured platform.

    ``cache`` is the folder for the quickstart index, ``embedder`` the server that embeds the prompts of an index that
    needs one. Raises ``ConfigError`` for a CA file that cannot be used, and ``UsageError`` for an index.
    """
    async with AsyncExitStack() as opened:
        url, index, warning = config.api.url, None, None
        if url == "embedded":
            url, index, warning = await opened.enter_async_context(_embedded(config, cache, embedder))
        guard = Guard(config.api.request_timeout_seconds, config.limits.max_response_bytes, config.api.ca_file)
        headers = {"x-api-key": key.reveal(), "User-Agent": f"bulk-classify/{pipeline.__version__}"}
        try:
            transport = await opened.enter_async_context(
                open_transport(url, headers, guard, connections=2 * config.limits.concurrency)
            )
        except OSError as error:
            raise ConfigError([f"api.ca_file: {config.api.ca_file}: {error.strerror or error}"]) from error
        version = url.rstrip("/").rpartition("/")[2]
        client = Client(transport, score_source=f"twelvelabs/{version}", secret=key.reveal(), clock=clock)
        yield Connection(client, index, warning)


@asynccontextmanager
async def _embedded(config: Config, cache: Path, embedder: EmbedderAccess) -> AsyncIterator[_Embedded]:
    """The local platform in this process."""
    # Imported here: the platform needs numpy and a tokenizer, and a run against a remote one need not wait for them.
    from pipeline.platform.calibration import uncalibrated_warning  # noqa: PLC0415
    from pipeline.platform.quickstart import quickstart_index  # noqa: PLC0415
    from pipeline.platform.server import Settings, serving  # noqa: PLC0415
    from pipeline.platform.store import Store  # noqa: PLC0415

    index = quickstart_index(cache) if config.api.index == "quickstart" else Path(config.api.index)
    with Store.open(index) as store:
        async with serving(store, Settings(embedder=embedder)) as url:
            yield _Embedded(url, store, uncalibrated_warning(store.space, store.calibration(with_vectors=True)))
