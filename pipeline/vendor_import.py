"""An index of the vendor's, version 1.3, into one of the local platform: what is not there yet, each video at once.

A producer lists the index, and workers take one video at a time: asked for, decoded, entered in a transaction of its
own. A video that is there in the state that the list shows is not asked for again, so after any stop the same command
goes on, and what a kill costs is what was under way. A video that cannot be had fails by itself; what concerns them
all ends the import. Whole answers are held in memory, and their size goes with the video's length, so that no more than
ten hours of video are asked for at a time, or one video that is longer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import anyio
from anyio.abc import ObjectReceiveStream, ObjectSendStream
from anyio.to_thread import run_sync

from pipeline.connection import connected
from pipeline.errors import (
    Drained,
    RequestFailed,
    StopRun,
    UsageError,
)
from pipeline.listing import CHANGING
from pipeline.models import MAX_SECONDS
from pipeline.order import Order, pace_of
from pipeline.pacing import Gate
from pipeline.platform.store import Store
from pipeline.platform.vendor_videos import (
    OPTIONS_OF_VENDOR,
    Asset,
    AssetPage,
    VendorVideo,
)
from pipeline.stopping import Stop
from pipeline.vendor_calls import Vendor, Wanted
from pipeline.wording import counted

_NEVER = 2**31
_NAMED = 20  # of those that failed, and of those that are not listed
_BYTES_OF_NUMBER = 4


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
async def _asking(order: Order, wanted: Wanted) -> AsyncIterator[tuple[Vendor, Stop]]:
    pace = replace(pace_of(order.config), max_unknown_posts=_NEVER)
    gate = Gate(pace, window=None, posts_spent=0, clock=order.clock, timer=order.timer)
    async with connected(order.config, order.key, cache=order.cache, clock=order.clock) as connection:
        yield (
            Vendor(connection.client, gate, wanted, order.jitter),
            Stop(gate, order.console, go_on="the same command"),
        )


# ------------------------------------------------------------------------------------------------------------ importing


class _Room:
    """Holds workers up while ten hours of video are under way."""

    def __init__(self) -> None:
        self._under_way: list[float] = []  # not their sum alone, which rounding would keep from 0
        self._is_left = anyio.Condition()

    @asynccontextmanager
    async def taken(self, seconds: float) -> AsyncIterator[None]:
        """Begins when a video of so many seconds has room, or is alone; of no known length (0) it is alone."""
        needed = seconds or MAX_SECONDS
        async with self._is_left:
            while self._under_way and sum(self._under_way) + needed > MAX_SECONDS:
                await self._is_left.wait()
            self._under_way.append(needed)
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                async with self._is_left:
                    self._under_way.remove(needed)
                    self._is_left.notify_all()


class _Import:
    """Producer and workers of one import, and what they share."""

    def __init__(self, order: Order, wanted: Wanted, store: Store, vendor: Vendor, stop: Stop) -> None:
        self.came_to = Imported()
        self._order = order
        self._wanted = wanted
        self._store = store
        self._vendor = vendor
        self._stop = stop
        self._room = _Room()
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
                    async with self._room.taken(asset.duration_seconds):
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
            console.show(f"{self.came_to.settled:,} of {counted(self._total, 'video')}{failed}")


def _sorted_out(page: AssetPage, store: Store) -> tuple[list[Asset], int]:
    """The videos of a page that are to be imported, and how many are there already as they are listed."""
    ready = [one for one in page.videos if one.is_ready]
    held = store.revisions([one.video_id for one in ready])
    changed = [one for one in ready if held.get(one.video_id) != one.revision]
    return changed, len(ready) - len(changed)


# ------------------------------------------------------------------------------------------------------------- planning


async def _planned(store: Store, vendor: Vendor, requests_per_second: float) -> ImportPlan:
    listed = not_ready = unchanged = pages = to_import = 0
    seconds = 0.0
    candidates: list[Asset] = []
    async for page in vendor.pages():
        changed, there = await run_sync(_sorted_out, page, store)
        pages += 1
        listed += len(page.videos)
        not_ready += sum(not one.is_ready and not one.problem for one in page.videos)
        unchanged += there
        to_import += len(changed)
        seconds += sum(one.duration_seconds for one in changed)
        candidates += _spread(changed)
    looked_at = [one for one in [await _looked_at(vendor, asset) for asset in _spread(candidates)] if one]
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


async def _looked_at(vendor: Vendor, asset: Asset) -> tuple[VendorVideo, int] | None:
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
