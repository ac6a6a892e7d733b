"""One writer: what is acknowledged is durable, in the order in which it came, and a failure is final."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from zlib import crc32

import anyio
import pytest
from anyio.lowlevel import checkpoint

from pipeline.chunks import Segment
from pipeline.errors import StorageError
from pipeline.ledger import Ledger
from pipeline.models import Result
from pipeline.rows import ROW_FILES, lines_of
from pipeline.sink import Sink
from pipeline.verify import verify
from tests.builders import OpenRun, end, opened, origin, result_of


class CountingLedger(Ledger):
    """A ledger that counts its transactions."""

    transactions = 0

    @contextmanager
    def atomic(self) -> Iterator[None]:
        self.transactions += 1
        with super().atomic():
            yield


@pytest.fixture
def run(tmp_path: Path) -> Iterator[OpenRun]:
    with opened(tmp_path / "run") as one:
        yield one


def sink_of(run: OpenRun, **settings: object) -> Sink:
    return Sink(run.ledger, run.files, **({"reserve_bytes": 0, "on_low_space": lambda: None} | settings))  # type: ignore[arg-type]


@asynccontextmanager
async def running(sink: Sink) -> AsyncIterator[anyio.abc.TaskGroup]:
    """Run a sink, and tasks beside it, until all of them have ended."""
    async with anyio.create_task_group() as writing:
        writing.start_soon(sink.run)
        try:
            async with anyio.create_task_group() as asking:
                yield asking
        finally:
            sink.close()


def fail(_: Ledger) -> None:
    raise StorageError("the disk is gone")


@contextmanager
def held_up(sink: Sink, asking: anyio.abc.TaskGroup) -> Iterator[Callable[[], bool]]:
    """Keep the sink busy with one commit; whether it is by now."""
    begun, released = threading.Event(), threading.Event()

    def slow(_: Ledger) -> None:
        begun.set()
        assert released.wait(10)

    asking.start_soon(sink.record, slow)
    try:
        yield begun.is_set
    finally:
        released.set()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await checkpoint()


def queued(sink: Sink) -> int:
    return len(sink._queued)


async def test_rows_stand_where_their_segments_say_whoever_commits_when(run: OpenRun) -> None:
    names = [f"v{number}" for number in range(200)]
    run.take_in(*names)
    sink = sink_of(run)

    async def commit(number: int, name: str) -> None:
        for _ in range(number % 7):
            await checkpoint()
        one = end(number, silent=[name]) if number % 5 == 0 else end(number, matched=[name])
        await sink.commit(one.settlement, one.results, origin(number))
        assert name in run.ledger.settled_by(number), "it is durable when it is acknowledged"

    async with running(sink) as asking:
        for number, name in enumerate(names, 1):
            asking.start_soon(commit, number, name)

    contents = [(run.folder / name).read_bytes() for name in ROW_FILES]
    ends = [0, 0, 0]
    for chunk, segment in run.ledger.segments():
        result = Result(names[chunk - 1], ()) if chunk % 5 == 0 else result_of(names[chunk - 1])
        lines = lines_of([result], origin(chunk))[segment.file]
        assert segment == Segment(segment.file, ends[segment.file], len(lines), crc32(lines))
        ends[segment.file] += len(lines)
        assert contents[segment.file][segment.offset : ends[segment.file]] == lines
    assert [len(content) for content in contents] == ends == run.ledger.file_lengths() == run.files.lengths


async def test_changes_are_made_in_the_order_in_which_they_came(run: OpenRun) -> None:
    sink = sink_of(run)
    made: list[int] = []
    async with running(sink) as asking:
        for number in range(99):
            sink.later(lambda _, number=number: made.append(number))  # type: ignore[misc]
        assert await sink.record(lambda _: list(made)) == list(range(99))
        sink.later(lambda ledger: ledger.remember("last", "words"))
        asking.cancel_scope.cancel()
    assert run.ledger.fact("last") == "words", "closing waits for what is queued"


async def test_what_queues_up_during_a_commit_is_the_next_commit(tmp_path: Path) -> None:
    with opened(tmp_path / "run") as run, CountingLedger(run.folder / "ledger.sqlite") as ledger:
        sink = Sink(ledger, run.files, reserve_bytes=0, on_low_space=lambda: None)
        async with running(sink) as asking:
            with held_up(sink, asking) as is_held_up:
                await until(is_held_up)
                for number in range(50):
                    asking.start_soon(sink.record, lambda ledger, number=number: ledger.remember(f"fact {number}", "x"))
                await until(lambda: queued(sink) == 50)
        assert ledger.transactions == 2
        assert ledger.fact("fact 49") == "x"


async def test_a_change_gives_back_what_it_returns_and_a_reader_sees_it(run: OpenRun) -> None:
    run.take_in("a", "b")
    sink = sink_of(run)
    async with running(sink):
        post = await sink.record(lambda one: one.intend_post(2, 0, "first", intended_at=1.0, window=None))
        assert post == 1
        assert [chunk.number for chunk in await sink.read(lambda one: one.pending_after(0, 9))] == [1]


async def test_a_failed_change_is_final_and_nothing_of_its_batch_is_marked(run: OpenRun) -> None:
    run.take_in("a", "b", "c")
    sink = sink_of(run)
    acknowledged: list[str] = []

    async def commit(number: int, name: str) -> None:
        one = end(number, matched=[name])
        await sink.commit(one.settlement, one.results, origin(number))
        acknowledged.append(name)

    async def commit_all() -> None:
        async with running(sink) as asking:
            await commit(1, "a")
            with held_up(sink, asking) as is_held_up:
                await until(is_held_up)
                asking.start_soon(commit, 2, "b")
                asking.start_soon(sink.record, fail)
                asking.start_soon(commit, 3, "c")
                await until(lambda: queued(sink) == 3)  # one batch

    with pytest.raises(ExceptionGroup) as failure:
        await commit_all()
    assert [str(one) for one in failure.value.exceptions] == ["the disk is gone"]
    assert acknowledged == ["a"]
    assert [chunk.number for chunk in run.pending()] == [2, 3]
    assert run.ledger.file_lengths()[2] == len(lines_of([result_of("a")], origin(1)).videos)


async def test_after_a_failure_everyone_hears_of_a_storage_error_and_of_nothing_else(run: OpenRun) -> None:
    """A worker may come to the sink between its failure and its own cancellation: that is no bug of the worker's."""
    sink = sink_of(run)

    sink.later(fail)
    with pytest.raises(StorageError, match=r"^the disk is gone$"):
        await sink.run()
    one = end(1, matched=["a"])
    with pytest.raises(StorageError):
        await sink.record(lambda ledger: ledger.remember("a", "b"))
    with pytest.raises(StorageError):
        sink.later(lambda ledger: ledger.remember("a", "b"))
    with pytest.raises(StorageError):
        await sink.commit(one.settlement, one.results, origin(1))
    sink.close()


async def test_a_bug_in_a_change_is_no_storage_error(run: OpenRun) -> None:
    sink = sink_of(run)
    with pytest.raises(ExceptionGroup) as failure:
        async with running(sink):
            await sink.commit(end(9).settlement, [], origin(9))
    (cause,) = failure.value.exceptions
    assert isinstance(cause, ValueError)
    assert str(cause) == "chunk 9 cannot go from None to <ChunkState.IN_FLIGHT: 1>"


async def test_what_was_queued_is_committed_even_where_nobody_waits_any_more(run: OpenRun) -> None:
    run.take_in("a")
    sink = sink_of(run)
    one = end(1, matched=["a"])
    async with running(sink) as asking:
        with held_up(sink, asking) as is_held_up:
            await until(is_held_up)
            asking.start_soon(sink.commit, one.settlement, one.results, origin(1))
            await until(lambda: queued(sink) == 1)
            asking.cancel_scope.cancel()
    assert list(run.ledger.settled_by(1)) == ["a"]
    assert run.ledger.file_lengths() == [(run.folder / name).stat().st_size for name in ROW_FILES]


@pytest.mark.parametrize(("reserve_bytes", "calls"), [(0, 0), (2**60, 1)])
async def test_low_space_is_told_after_the_commit(run: OpenRun, reserve_bytes: int, calls: int) -> None:
    run.take_in("a")
    told: list[int] = []
    sink = sink_of(run, reserve_bytes=reserve_bytes, on_low_space=lambda: told.append(len(run.ledger.settled_by(1))))
    one = end(1, matched=["a"])
    async with running(sink):
        await sink.commit(one.settlement, one.results, origin(1))
    assert told == [1] * calls


def test_commits_in_several_sinks_one_after_the_other_tile_the_files(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        run.take_in("a", "b", "c")
    for number, name in enumerate("abc", 1):
        with opened(tmp_path) as run:
            run.commit(end(number, matched=[name]))
            run.finish()
    assert verify(tmp_path).differences == []
    assert verify(tmp_path).chunks == 3
