"""The one writer: rows first, then the ledger, then the acknowledgement.

Everything that must be durable goes through one queue. Whatever has queued up while the last commit ran is the next
commit, so a slow disk makes commits larger and not later. Where many came together, the next commit waits a moment for
them to come back: a fast run pays most for syncs, and one serves all. One commit is: the rows of all its chunks,
appended and synced; then one transaction of the ledger, with the states of the videos and the new lengths of the files;
then everyone who waits is told. A kill between the two leaves bytes that the ledger does not know, which are cut off at
the next start. An error of write or sync is final, for nobody knows what a failed sync has kept.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from math import inf
from typing import Any, Generic, TypeVar

import anyio
from anyio.lowlevel import checkpoint
from anyio.to_thread import run_sync

from pipeline.chunks import Segment, Settlement
from pipeline.errors import StorageError
from pipeline.ledger import Ledger
from pipeline.models import Result
from pipeline.news import News
from pipeline.rows import Lines, Origin, lines_of
from pipeline.rundir import RowFiles

_T = TypeVar("_T")

_CROWD = 8
"""So many changes in one commit are of several workers at once, who ask again about as soon as they are answered."""
_GATHERING_SECONDS = 0.002
"""About what a commit takes."""


@dataclass(slots=True, eq=False)
class _Entry(Generic[_T]):
    """One change of the ledger, the rows that must be durable before it, and who is told when it is durable."""

    change: Callable[[Ledger, list[Segment]], _T]
    lines: Callable[[], Lines] | None = None
    told: Callable[[], object] | None = None
    outcome: _T | None = None


class Sink:
    """Takes changes from any task; ``run`` makes them durable, in the order in which they came.

    Whoever queues a change raises ``StorageError`` where nothing more can be written.
    """

    def __init__(
        self, ledger: Ledger, files: RowFiles, *, reserve_bytes: int, on_low_space: Callable[[], None]
    ) -> None:
        self._ledger = ledger
        self._files = files
        self._reserve_bytes = reserve_bytes
        self._on_low_space = on_low_space
        self._queued: list[_Entry[Any]] = []
        self._closed = False
        self._news = News()
        self._thread = anyio.CapacityLimiter(1)

    async def record(self, change: Callable[[Ledger], _T]) -> _T:
        """Make one change of the ledger durable; what it returned."""
        entry: _Entry[_T] = _Entry(lambda ledger, _: change(ledger))
        return await self._done(entry)

    def later(self, change: Callable[[Ledger], object]) -> None:
        """Queue one change of the ledger: durable before whatever is queued after it."""
        self._queue(_Entry(lambda ledger, _: change(ledger)))

    async def commit(
        self,
        settlement: Settlement,
        results: list[Result],
        origin: Origin,
        *,
        also: Callable[[Ledger], _T] | None = None,
    ) -> _T | None:
        """Make the rows of a chunk and its end durable, together, and what is ``also`` changed; what that returned."""

        def change(ledger: Ledger, segments: list[Segment]) -> _T | None:
            ledger.settle(settlement, segments)
            return also(ledger) if also else None

        return await self._done(_Entry(change, lambda: lines_of(results, origin)))

    def commit_later(
        self, settlement: Settlement, results: list[Result], origin: Origin, *, told: Callable[[], object]
    ) -> None:
        """Queue the rows of a chunk and its end: durable, together, before whatever is queued after them.

        ``told`` is called when they are.
        """
        self._queue(
            _Entry(
                lambda ledger, segments: ledger.settle(settlement, segments),
                lambda: lines_of(results, origin),
                told,
            )
        )

    async def read(self, query: Callable[[Ledger], _T]) -> _T:
        """Ask the ledger something, between two commits."""
        return await run_sync(query, self._ledger, limiter=self._thread)

    async def _done(self, entry: _Entry[_T]) -> _T:
        done = anyio.Event()
        entry.told = done.set
        self._queue(entry)
        await done.wait()
        return entry.outcome  # type: ignore[return-value]  # set before anybody is told

    def _queue(self, entry: _Entry[Any]) -> None:
        if self._closed:  # ``run`` has failed, and told why
            raise StorageError("nothing more can be written")
        self._queued.append(entry)
        self._news.tell()

    def close(self) -> None:
        """Say that nothing more comes: ``run`` ends when the queue is empty."""
        self._closed = True
        self._news.tell()

    async def run(self) -> None:
        """Commit until the queue is closed. Raises ``StorageError``, after which nothing is acknowledged any more."""
        gathering_until = -inf
        with closing(self):
            while self._queued or not self._closed:
                if not self._queued:
                    await self._news.wait()
                    await checkpoint()  # whoever runs next queues what it has, too, and shares the commit
                if anyio.current_time() < gathering_until and not self._closed:
                    await anyio.sleep(_GATHERING_SECONDS)
                if self._queued:
                    is_crowded = len(self._queued) >= _CROWD
                    await self._commit_queued()
                    gathering_until = anyio.current_time() + 2 * _GATHERING_SECONDS if is_crowded else -inf

    async def _commit_queued(self) -> None:
        entries, self._queued = self._queued, []
        await run_sync(self._commit, entries, limiter=self._thread)
        for entry in entries:
            if entry.told is not None:
                entry.told()
        if self._files.free_bytes() < self._reserve_bytes:
            self._on_low_space()

    def _commit(self, entries: list[_Entry[Any]]) -> None:
        blocks: tuple[list[bytes], ...] = ([], [], [])
        ends = list(self._files.lengths)
        segments = [self._laid_out(entry, blocks, ends) for entry in entries]
        self._files.append([b"".join(block) for block in blocks])
        with self._ledger.atomic():
            for entry, laid_out in zip(entries, segments, strict=True):
                entry.outcome = entry.change(self._ledger, laid_out)

    @staticmethod
    def _laid_out(entry: _Entry[Any], blocks: tuple[list[bytes], ...], ends: list[int]) -> list[Segment]:
        """Add an entry's lines to the blocks to write; where in the files they will stand."""
        segments: list[Segment] = []
        for file, lines in enumerate(entry.lines() if entry.lines else ()):
            if lines:
                segments.append(Segment(file, ends[file], len(lines), zlib.crc32(lines)))
                blocks[file].append(lines)
                ends[file] += len(lines)
        return segments
