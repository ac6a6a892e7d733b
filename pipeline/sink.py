"""The one writer: rows first, then the ledger, then the acknowledgement.

Everything that must be durable goes through one queue. Whatever has queued up while the last commit ran is the next
commit, so a slow disk makes commits larger and not later, and no timer is needed. One commit is: the rows of all its
chunks, appended and synced; then one transaction of the ledger, with the states of the videos and the new lengths of
the files; then everyone who waits is told. A kill between the two leaves bytes that the ledger does not know, which are
cut off at the next start. An error of write or sync is final, for nobody knows what a failed sync has kept.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import anyio
from anyio.to_thread import run_sync

from pipeline.chunks import Segment, Settlement
from pipeline.errors import StorageError
from pipeline.ledger import Ledger
from pipeline.models import Result
from pipeline.rows import Lines, Origin, lines_of
from pipeline.rundir import RowFiles

_T = TypeVar("_T")
_QUEUE_LENGTH = 1024


@dataclass(slots=True, eq=False)
class _Entry(Generic[_T]):
    """One change of the ledger, and the rows that must be durable before it."""

    change: Callable[[Ledger, list[Segment]], _T]
    lines: Callable[[], Lines] | None = None
    done: anyio.Event = field(default_factory=anyio.Event)
    outcome: _T | None = None


class Sink:
    """Takes changes from any task; ``run`` makes them durable, in the order in which they came."""

    def __init__(
        self, ledger: Ledger, files: RowFiles, *, reserve_bytes: int, on_low_space: Callable[[], None]
    ) -> None:
        self._ledger = ledger
        self._files = files
        self._reserve_bytes = reserve_bytes
        self._on_low_space = on_low_space
        self._send, self._receive = anyio.create_memory_object_stream[_Entry[Any]](_QUEUE_LENGTH)
        self._thread = anyio.CapacityLimiter(1)

    async def record(self, change: Callable[[Ledger], _T]) -> _T:
        """Make one change of the ledger durable; what it returned."""
        entry = _Entry(lambda ledger, _: change(ledger))
        await self._queue(entry)
        await entry.done.wait()
        return entry.outcome  # type: ignore[return-value]  # set before done

    async def later(self, change: Callable[[Ledger], object]) -> None:
        """Queue one change of the ledger: durable before whatever is queued after it."""
        await self._queue(_Entry(lambda ledger, _: change(ledger)))

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

        entry = _Entry(change, lambda: lines_of(results, origin))
        await self._queue(entry)
        await entry.done.wait()
        return entry.outcome

    async def read(self, query: Callable[[Ledger], _T]) -> _T:
        """Ask the ledger something, between two commits."""
        return await run_sync(query, self._ledger, limiter=self._thread)

    async def _queue(self, entry: _Entry[Any]) -> None:
        try:
            await self._send.send(entry)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):  # ``run`` has failed, and told why
            raise StorageError("nothing more can be written") from None

    def close(self) -> None:
        """Say that nothing more comes: ``run`` ends when the queue is empty."""
        self._send.close()

    async def run(self) -> None:
        """Commit until the queue is closed. Raises ``StorageError``, after which nothing is acknowledged any more."""
        with self._send, self._receive:
            async for first in self._receive:
                entries = [first]
                while self._receive.statistics().current_buffer_used:
                    entries.append(self._receive.receive_nowait())
                await run_sync(self._commit, entries, limiter=self._thread)
                for entry in entries:
                    entry.done.set()
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
