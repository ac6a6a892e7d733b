"""Real processes that are killed, or run out of disk: what was acknowledged is there, once, and nothing is torn."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from pipeline.chunks import VideoState
from pipeline.rows import FAILURES, ROW_FILES, SCORES, VIDEOS
from pipeline.verify import verify
from tests.builders import opened, rows_in

BEHIND = "bytes stand behind the committed end at"


class Committer:
    """The program in ``committer.py``, over its pipes."""

    def __init__(self, stdin: IO[str], stdout: IO[str]) -> None:
        self._stdin = stdin
        self._stdout = stdout
        self.acknowledged: set[int] = set()

    def begin_life(self, *, largest_file: int = 0, padding: int = 0) -> int:
        """Begin a life; its process id."""
        self._stdin.write(f"{largest_file} {padding}\n")
        self._stdin.flush()
        word, process = self._stdout.readline().split()
        assert word == "life"
        return int(process)

    def listen(self, acknowledgements: int | None = None) -> int | None:
        """Wait for so many acknowledgements, or for the end of the life; its exit code."""
        while acknowledgements is None or acknowledgements > 0:
            word, number = self._stdout.readline().split()
            if word == "ended":
                return int(number)
            self.acknowledged.add(int(number))
            acknowledgements = acknowledgements and acknowledgements - 1
        return None


@contextmanager
def committing(folder: Path) -> Iterator[Committer]:
    command = [sys.executable, "-m", "tests.committer", str(folder)]
    root = Path(__file__).parent.parent
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Committer(process.stdin, process.stdout)
        finally:
            process.stdin.close()


def take_in(folder: Path, chunks: int) -> None:
    with opened(folder) as run:
        run.take_in(*(f"v{number}" for number in range(2 * chunks)), a_chunk=2)


def check(folder: Path, acknowledged: set[int]) -> None:
    """Whatever ended the process: no more than uncommitted bytes stand in the files, and reopening cuts them off."""
    left_behind = [line for line in verify(folder).differences if BEHIND not in line and FAILURES not in line]
    assert left_behind == []
    with opened(folder) as run:
        assert [(folder / name).stat().st_size for name in ROW_FILES] == run.ledger.file_lengths()
        assert acknowledged.isdisjoint(chunk.number for chunk in run.pending())
        settled = {number: sorted(run.ledger.settled_by(number)) for number in acknowledged}
        run.finish()
    assert verify(folder).differences == []
    rows: dict[int, list[str]] = {number: [] for number in acknowledged}
    for row in rows_in(folder / VIDEOS):
        rows.setdefault(row["chunk_id"], []).append(row["video_id"])
    assert {number: sorted(rows[number]) for number in acknowledged} == settled


def check_end(folder: Path, chunks: int) -> None:
    """A life without a kill brings every video to its end."""
    with opened(folder) as run:
        videos = run.ledger.counts().videos
        assert (videos[VideoState.OPEN], sum(videos.values())) == (0, 2 * chunks)
    answered = [row["video_id"] for row in rows_in(folder / VIDEOS)]
    assert len(answered) == len(set(answered)) == 2 * chunks - videos[VideoState.FAILED]


def test_no_kill_loses_doubles_or_tears_a_row(tmp_path: Path) -> None:
    chance = random.Random(20260102)
    chunks = 1_000
    take_in(tmp_path, chunks)
    with committing(tmp_path) as committer:
        for _ in range(30):
            process = committer.begin_life()
            assert committer.listen(chance.randrange(30)) is None
            os.kill(process, signal.SIGKILL)
            assert committer.listen() == -signal.SIGKILL
            check(tmp_path, committer.acknowledged)
        for _ in ("parents", "children"):
            committer.begin_life()
            assert committer.listen() == 0
    check(tmp_path, committer.acknowledged)
    check_end(tmp_path, chunks)


@pytest.mark.parametrize(
    ("largest_file", "padding", "in_the_rows"), [(1_500_000, 60_000, True), (300_000, 0, False)], ids=["rows", "ledger"]
)
def test_a_full_disk_ends_the_run_and_acknowledges_nothing_that_is_not_there(
    tmp_path: Path, largest_file: int, padding: int, in_the_rows: bool
) -> None:
    chunks = 100
    take_in(tmp_path, chunks)
    with committing(tmp_path) as committer:
        committer.begin_life(largest_file=largest_file, padding=padding)
        assert committer.listen() == 74
        assert ((tmp_path / SCORES).stat().st_size == largest_file) is in_the_rows, "a row is torn"
        assert 0 < len(committer.acknowledged) < chunks
        check(tmp_path, committer.acknowledged)
        for _ in ("parents", "children"):
            committer.begin_life()
            assert committer.listen() == 0
    check(tmp_path, committer.acknowledged)
    check_end(tmp_path, chunks)
