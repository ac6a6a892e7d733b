"""An index of the vendor's, version 1.3, into one of the local platform: what is not there yet, each video at once.

A producer lists the index, and workers take one video at a time: asked for, decoded, entered in a transaction of its
own. A video that is there in the state that the list shows is not asked for again, so after any stop the same command
goes on, and what a kill costs is what was under way. Requests pass the gate of a run's POSTs: they keep the pace, wait
together when the platform says so, and become single probes while it is away. But they are free, so none is counted as
billed. A video that cannot be had fails by itself; what concerns them all ends the import.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
from anyio.abc import ObjectReceiveStream, ObjectSendStream
from anyio.to_thread import run_sync

from pipeline.client import Client
from pipeline.connection import connected
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
    StopRun,
    UsageError,
)
from pipeline.listing import CHANGING, Listing
from pipeline.pacing import Gate
from pipeline.platform.store import Store
from pipeline.platform.vendor_videos import (
    OPTIONS_OF_VENDOR,
    Asset,
    AssetPage,
    VendorVideo,
    decode_page,
    decode_video,
    list_path,
    video_path,
)
from pipeline.reaction import Tries, may_be_the_videos, resend_after
from pipeline.run import Order, pace_of
from pipeline.stopping import Stop

VENDOR_URL = "https://api.twelvelabs.io/v1.3"
"""Where the vendor answers."""

_NEVER = 2**31
_NAMED = 20  # of those that failed, and of those that are not listed
_BYTES_OF_NUMBER = 4
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


@dataclass(slots=True)
class Imported:
    """What an import came to, in videos. ``failures`` are the first of ``failed``, each with its reason.

    ``not_listed`` are those that an import brought once and the vendor's index does not list; they stay.
    """

    listed: int = 0
    not_ready: int = 0
    unchanged: int = 0
    imported: int = 0
    of_other_spaces: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)
    not_listed: int = 0
    first_not_listed: list[str] = field(default_factory=list)

    @property
    def settled(self) -> int:
        """Videos that nothing more is done about."""
        return self.not_ready + self.unchanged + self.imported + self.of_other_spaces + self.failed


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """What an import will take: models, spaces and bytes as the videos that were ``looked_at`` tell, three at most.

    ``seconds`` as the pace tells.
    """

    listed: int
    not_ready: int
    unchanged: int
    to_import: int
    hours: float
    requests: int
    seconds: float
    models: list[str]
    spaces: list[str]
    looked_at: int
    estimated_bytes: int
    estimated_index_bytes: int


def base_url(given: str | None) -> str:
    """The base URL to ask: the vendor's where none is given, and version 1.3 where it has no version."""
    if given is None:
        return VENDOR_URL
    bare = "/" not in given.partition("://")[2].rstrip("/")
    return given.rstrip("/") + "/v1.3" if bare else given


async def import_videos(order: Order, wanted: Wanted) -> tuple[Imported, StopRun | None]:
    """Import what is not there yet; what came of it, and why it stopped before its end, if it did.

    Raises ``UsageError`` and ``StorageError`` for an index that cannot be opened, ``ConfigError`` for a CA file.
    """
    with Store.open(wanted.index) as store:
        async with _asking(order, wanted) as (vendor, stop):
            work = _Import(order, wanted, store, vendor, stop)
            await work.run()
            return work.came_to, stop.reason


async def plan_import(order: Order, wanted: Wanted) -> ImportPlan:
    """List the index, look at up to three of its videos, and change nothing. Raises as ``import_videos`` stops."""
    with Store.open(wanted.index) as store:
        async with _asking(order, wanted) as (vendor, _):
            return await _planned(store, vendor, order.config.limits.requests_per_second)


# ------------------------------------------------------------------------------------------------------------- asking


@asynccontextmanager
async def _asking(order: Order, wanted: Wanted) -> AsyncIterator[tuple[_Vendor, Stop]]:
    pace = replace(pace_of(order.config), max_unknown_posts=_NEVER)
    gate = Gate(pace, window=None, posts_spent=0, clock=order.clock, timer=order.timer)
    async with connected(order.config, order.key, cache=order.cache, clock=order.clock) as connection:
        yield (
            _Vendor(connection.client, gate, wanted, order.jitter),
            Stop(gate, order.console, go_on="the same command"),
        )


class _Vendor:
    """The vendor's two calls, each sent until it is answered or must not be sent again."""

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


# ------------------------------------------------------------------------------------------------------------ importing


class _Import:
    """Producer and workers of one import, and what they share."""

    def __init__(self, order: Order, wanted: Wanted, store: Store, vendor: _Vendor, stop: Stop) -> None:
        self.came_to = Imported()
        self._order = order
        self._wanted = wanted
        self._store = store
        self._vendor = vendor
        self._stop = stop
        self._total = 0

    async def run(self) -> None:
        """Import until everything is settled, or something stops it."""
        async with anyio.create_task_group() as watching:
            watching.start_soon(self._stop.watch_signals)
            watching.start_soon(self._show_progress)
            async with anyio.create_task_group() as asking:
                limits = self._order.config.limits
                watching.start_soon(self._stop.end_draining, limits.drain_seconds, asking.cancel_scope)
                send, receive = anyio.create_memory_object_stream[Asset]()
                asking.start_soon(self._produce, send)
                for _ in range(limits.concurrency):
                    asking.start_soon(self._work, receive.clone())
                receive.close()
            watching.cancel_scope.cancel()
        if self._stop.reason is None and self._vendor.is_steady:
            gone = await run_sync(self._store.imported_ids) - self._vendor.listed
            self.came_to.not_listed, self.came_to.first_not_listed = len(gone), sorted(gone)[:_NAMED]

    async def _produce(self, assets: ObjectSendStream[Asset]) -> None:
        async with assets:
            try:
                async for page in self._vendor.pages():
                    for one in await self._to_import(page):
                        await assets.send(one)
                if not self._vendor.is_steady:
                    self._order.console.say(CHANGING)
            except (Drained, anyio.BrokenResourceError):  # or the workers have stopped
                return
            except StopRun as reason:
                self._stop.because(reason)

    async def _to_import(self, page: AssetPage) -> list[Asset]:
        """The videos of a page that are not there as they are listed."""
        ready, unchanged = await run_sync(_sorted_out, page, self._store)
        self._total = page.total_results or 0
        self.came_to.listed += len(page.videos)
        self.came_to.not_ready += sum(not one.is_ready and not one.problem for one in page.videos)
        self.came_to.unchanged += unchanged
        for one in page.videos:
            if one.problem:
                self._fail(one, one.problem)
        return ready

    async def _work(self, assets: ObjectReceiveStream[Asset]) -> None:
        async with assets:
            async for asset in assets:
                try:
                    await self._take(asset)
                except Drained:
                    return
                except StopRun as reason:
                    self._stop.because(reason)
                    return

    async def _take(self, asset: Asset) -> None:
        """Ask for a video and enter it."""
        try:
            found, _ = await self._vendor.video(asset)
        except RequestFailed as error:
            self._fail(asset, str(error))
            return
        if self._wanted.space not in {None, found.space}:
            self.came_to.of_other_spaces += 1
            return
        problem = await run_sync(self._enter, found)
        if problem is None:
            self.came_to.imported += 1
        else:
            self._fail(asset, problem)

    def _enter(self, found: VendorVideo) -> str | None:
        """Enter a video; why it cannot be indexed, if so. Raises ``UsageError`` where the index is of another space."""
        try:
            self._store.check_space(found.space, found.dimensions)
        except UsageError as error:
            raise UsageError(
                f"video {found.video.video_id!r} was made by {found.model!r}: {error}. With --space "
                f"{self._store.space} this import leaves such videos out; with --space {found.space} an import into "
                "another index takes them alone"
            ) from None
        try:
            self._store.add_videos([found.video], found.space, replacing=OPTIONS_OF_VENDOR)
        except UsageError as error:
            return str(error)
        return None

    def _fail(self, asset: Asset, reason: str) -> None:
        self.came_to.failed += 1
        if self.came_to.failed <= _NAMED:
            self.came_to.failures.append(f"{asset.video_id}: {reason}")

    async def _show_progress(self) -> None:
        console = self._order.console
        while True:
            await anyio.sleep(console.seconds_between_lines)
            failed = f", {self.came_to.failed:,} failed" if self.came_to.failed else ""
            console.show(f"{self.came_to.settled:,} of {self._total:,} videos{failed}")


def _sorted_out(page: AssetPage, store: Store) -> tuple[list[Asset], int]:
    """The videos of a page that are to be imported, and how many are there already as they are listed."""
    ready = [one for one in page.videos if one.is_ready]
    held = store.revisions([one.video_id for one in ready])
    changed = [one for one in ready if held.get(one.video_id) != one.revision]
    return changed, len(ready) - len(changed)


# ------------------------------------------------------------------------------------------------------------- planning


async def _planned(store: Store, vendor: _Vendor, requests_per_second: float) -> ImportPlan:
    listed = not_ready = unchanged = pages = to_import = 0
    seconds = 0.0
    first_of_pages: list[Asset] = []
    async for page in vendor.pages():
        changed, there = await run_sync(_sorted_out, page, store)
        pages += 1
        listed += len(page.videos)
        not_ready += sum(not one.is_ready and not one.problem for one in page.videos)
        unchanged += there
        to_import += len(changed)
        seconds += sum(one.duration_seconds for one in changed)
        first_of_pages += changed[:1]
    looked_at = [one for one in [await _looked_at(vendor, asset) for asset in _spread(first_of_pages)] if one]
    sampled_seconds = sum(one.video.duration_seconds for one, _ in looked_at)
    share = seconds / sampled_seconds if sampled_seconds else 0.0
    requests = max(pages, 1) + to_import
    return ImportPlan(
        listed=listed,
        not_ready=not_ready,
        unchanged=unchanged,
        to_import=to_import,
        hours=round(seconds / 3600, 3),
        requests=requests,
        seconds=round(requests / requests_per_second, 1) if requests_per_second else 0.0,
        models=sorted({one.model for one, _ in looked_at}),
        spaces=sorted({one.space for one, _ in looked_at}),
        looked_at=len(looked_at),
        estimated_bytes=round(share * sum(size for _, size in looked_at)),
        estimated_index_bytes=round(share * sum(map(_bytes_of_vectors, (one for one, _ in looked_at)))),
    )


async def _looked_at(vendor: _Vendor, asset: Asset) -> tuple[VendorVideo, int] | None:
    """A video, or None where it cannot be had: the import will tell why."""
    try:
        return await vendor.video(asset)
    except RequestFailed:
        return None


def _spread(assets: list[Asset]) -> list[Asset]:
    """The first, the middle and the last."""
    return [assets[at] for at in sorted({0, len(assets) // 2, len(assets) - 1})] if assets else []


def _bytes_of_vectors(found: VendorVideo) -> int:
    return sum(track.vectors.size * _BYTES_OF_NUMBER for track in found.video.tracks)
