"""The vendor's two calls of version 1.3 that an import makes: an index listed, and a video with its vectors.

Requests pass the gate of a run's POSTs: they keep the pace, wait together when the platform says so, and become single
probes while it is away. But they are free, so none is counted as billed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from anyio.to_thread import run_sync

from pipeline.client import Client
from pipeline.errors import (
    Drained,
    EndpointGone,
    JobRefused,
    Overbooked,
    PlatformDown,
    RequestFailed,
    RequestRefused,
    ResendCounted,
    ResendFree,
)
from pipeline.listing import Listing
from pipeline.pacing import Gate
from pipeline.platform.remote_embed import VENDOR_URL
from pipeline.platform.vendor_videos import (
    Asset,
    AssetPage,
    VendorVideo,
    decode_page,
    decode_video,
    list_path,
    video_path,
)
from pipeline.reaction import Tries, may_be_the_videos, resend_after

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is imported: the vendor's index ``index_id`` into the file ``index``.

    ``audio`` takes the vectors of sounds too; ``space`` leaves out videos of other spaces.
    """

    index: Path
    index_id: str
    audio: bool = False
    space: str | None = None


def base_url(given: str | None) -> str:
    """The base URL to ask: the vendor's where none is given, and version 1.3 where it has no version."""
    if given is None:
        return VENDOR_URL
    bare = "/" not in given.partition("://")[2].rstrip("/")
    return given.rstrip("/") + "/v1.3" if bare else given


class Vendor:
    """The two calls about one index, each sent until it is answered or must not be sent again.

    ``listed`` has, after the last page, the ids of all that the list showed.
    """

    def __init__(self, client: Client, gate: Gate, wanted: Wanted, jitter: Callable[[], float]) -> None:
        self._client = client
        self._gate = gate
        self._wanted = wanted
        self._jitter = jitter
        self._listing = Listing(wanted.index_id, self._page)
        self.listed: set[str] = set()

    @property
    def is_steady(self) -> bool:
        """Whether ``listed`` has, after the last page, every video of the index."""
        return self._listing.is_steady

    async def pages(self) -> AsyncIterator[AssetPage]:
        """The list, page by page, each video once. Raises ``JobRefused`` or ``PlatformDown`` where it does not come."""
        async for page in self._listing.pages():
            fresh = {one.video_id: one for one in page.videos if one.video_id not in self.listed}
            self.listed.update(fresh)
            yield replace(page, videos=tuple(fresh.values()))

    async def _page(self, number: int) -> AssetPage:
        path = list_path(self._wanted.index_id, number)
        try:
            page, _ = await self._get(path, partial(decode_page, audio=self._wanted.audio))
        except (ResendFree, ResendCounted) as error:
            raise PlatformDown(f"the index {self._wanted.index_id!r} cannot be listed: {error}") from None
        except RequestFailed as error:
            raise JobRefused(f"the index {self._wanted.index_id!r} cannot be listed: {error}") from None
        return page

    async def video(self, asset: Asset) -> tuple[VendorVideo, int]:
        """A video with its vectors, and how many bytes told it. Raises a ``RequestFailed`` where it cannot be had."""
        path = video_path(self._wanted.index_id, asset.video_id, audio=self._wanted.audio)
        return await self._get(path, partial(decode_video, asset=asset, audio=self._wanted.audio))

    async def _get(self, path: str, decode: Callable[[bytes], _T]) -> tuple[_T, int]:
        tries = Tries()
        while True:
            try:
                body = await self._get_once(path)
                return await run_sync(decode, body), len(body)
            except Overbooked:
                continue
            except (ResendFree, ResendCounted) as error:
                # While the platform is away no tries are burnt, but where it may be this very video that it fails at.
                if not self._gate.broken or may_be_the_videos(error) or isinstance(error, ResendCounted):
                    tries = tries.after(error)
                    if tries.used_up:
                        raise
                if not self._gate.broken:  # else all wait together, at the gate
                    await self._gate.pause(resend_after(error, tries, jitter=self._jitter()))

    async def _get_once(self, path: str) -> bytes:
        await self._gate.reserve()
        try:
            async with self._gate.post_turn() as sent:
                try:
                    body = await self._client.get(path, sent)
                except EndpointGone:
                    raise RequestRefused(
                        f"the platform has nothing at {path.partition('?')[0]}: is the id right, and the URL that of "
                        "version 1.3?",
                        code="not_there",
                    ) from None
                self._gate.answered(None)
                return body
        except (Overbooked, Drained):
            self._gate.give_back()
            raise
