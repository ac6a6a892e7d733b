"""A program for tests to kill, or to starve of disk: it commits the pending chunks of a run directory.

Each line that it reads begins a life: a forked process that opens the run and commits chunk after chunk, four at a
time, and writes the number of each to standard output once it is acknowledged. Forked, because a life then begins
within milliseconds. A line holds the largest size of a file in bytes (0: no limit) and how many bytes to add to a row.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import anyio

from pipeline.chunks import Chunk, HeldPage, HeldWalk, PostState
from pipeline.errors import StorageError
from pipeline.models import ClassScore
from pipeline.sink import Sink
from tests.builders import End, OpenRun, fate, opened, origin

TASKS = 4


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def main() -> None:
    folder = Path(sys.argv[1])
    for order in sys.stdin:
        largest_file, padding = map(int, order.split())
        process = os.fork()
        if process == 0:
            say(f"life {os.getpid()}")
            os._exit(live(folder, largest_file, padding))
        _, status = os.waitpid(process, 0)
        say(f"ended {os.waitstatus_to_exitcode(status)}")


def live(folder: Path, largest_file: int, padding: int) -> int:
    """One life; its exit code."""
    if largest_file:  # Python ignores SIGXFSZ, so a write beyond this fails as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    exit_code = 0
    try:
        with opened(folder) as run:
            anyio.run(commit_pending, run, padding)
    except* StorageError:
        exit_code = StorageError.exit_code
    return exit_code


async def commit_pending(run: OpenRun, padding: int) -> None:
    sink = Sink(run.ledger, run.files, reserve_bytes=0, on_low_space=lambda: None)
    waiting = iter(run.pending())
    async with anyio.create_task_group() as writing:
        writing.start_soon(sink.run)
        async with anyio.create_task_group() as asking:
            for _ in range(TASKS):
                asking.start_soon(commit_each, sink, waiting, padding)
        sink.close()


async def commit_each(sink: Sink, waiting: Iterator[Chunk], padding: int) -> None:
    for chunk in waiting:
        await commit(sink, chunk.number, fate(chunk), padding)


async def commit(sink: Sink, number: int, one: End, padding: int) -> None:
    """What a worker makes durable on the way of a chunk: an intent, its end, a page, the settlement."""
    page = HeldWalk(0, (HeldPage(b"{}", 1.0),), "token")
    post = await sink.record(lambda ledger: ledger.intend_post(number, 0, "first", intended_at=1.0, window=None))
    sink.later(lambda ledger: ledger.end_post(post, PostState.ANSWERED, billed=True))
    sink.later(lambda ledger: ledger.spool(number, page, begins=True))
    results = one.results
    if padding:
        wide = (ClassScore("x" * padding, 5, 0.5, ()),)
        results = [replace(result, classes=wide) if result.classes else result for result in results]
    await sink.commit(one.settlement, results, origin(number))
    say(f"acknowledged {number}")


if __name__ == "__main__":
    main()
