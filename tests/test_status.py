"""How a run stands, read from its directory alone, exactly."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from pipeline.chunks import PostState
from pipeline.errors import StorageError, UsageError
from pipeline.ledger import Ledger
from pipeline.models import Video
from pipeline.packing import Packer
from pipeline.rows import CLIPS, FAILURES, SCORES, VIDEOS
from pipeline.rundir import LEDGER, RUN_JSON
from pipeline.status import Status, in_words, status_of
from tests.builders import RUN_ID, OpenRun, end, opened, small_run


def post(run: OpenRun, chunk: int, reason: str, state: PostState) -> None:
    with run.ledger.atomic():
        number = run.ledger.intend_post(chunk, 0, reason, intended_at=1.0, window=None)
        run.ledger.end_post(number, state, billed=None)


def half_way(folder: Path) -> None:
    """Seven videos, three of them with a duration; scored, without a match, failed, and two open."""
    with opened(folder) as run:
        run.take_in("a", "b", "c", "d", a_chunk=4)
        with run.ledger.atomic():
            run.ledger.take_in([Video("e", 10.5), Video("f", 20.0), Video("g", 30.0)])
            run.ledger.pack(Packer(30, first_chunk=2))
        post(run, 1, "first", PostState.UNKNOWN)
        post(run, 1, "resend", PostState.ANSWERED)
        post(run, 2, "first", PostState.NOT_SENT)
        run.commit(end(1, matched=["a"], silent=["b", "c"], failed=["d"]))
        run.commit(end(3, matched=["f"]))


def sizes(folder: Path) -> dict[str, int]:
    return {name: (folder / name).stat().st_size for name in (SCORES, CLIPS, VIDEOS)}


def test_a_run_half_way(tmp_path: Path) -> None:
    half_way(tmp_path)
    assert status_of(tmp_path) == Status(
        run_id=RUN_ID,
        directory=str(tmp_path),
        running=False,
        score_source=None,
        videos=7,
        scored=2,
        no_match=2,
        failed=1,
        open=2,
        seconds=60.5,
        chunks={"pending": 1, "in_flight": 1, "done": 2, "replaced": 0},
        posts_planned=4,
        posts_sent=2,
        posts={"intended": 0, "answered": 1, "refused": 0, "unknown": 1, "not_sent": 1},
        posts_by_reason={"first": 1, "resend": 1},
        failures={"video_refused": 1},
        committed_bytes=sizes(tmp_path),
        stop_reason=None,
        resume_after=None,
        next_command=f"bulk-classify resume {tmp_path}",
    )


def test_a_run_half_way_for_people(tmp_path: Path) -> None:
    half_way(tmp_path)
    assert in_words(status_of(tmp_path)) == [
        f"run {RUN_ID} in {tmp_path}",
        "videos: 4 of 7 answered, 1 failed, 2 open",
        "answers: 2 scored, 2 without a match",
        "POSTs: 4 planned, 2 sent, 1 first, 1 resend; 1 of unknown fate",
        f"failed: 1 with video_refused, see {FAILURES}",
        *(f"{name}: {size:,} bytes" for name, size in sizes(tmp_path).items()),
        f"next: bulk-classify resume {tmp_path}",
    ]


def test_only_committed_bytes_count(tmp_path: Path) -> None:
    half_way(tmp_path)
    committed = sizes(tmp_path)
    with (tmp_path / SCORES).open("ab") as file:
        file.write(b"torn")
    assert status_of(tmp_path).committed_bytes == committed


def test_a_run_that_is_held_is_running_and_needs_no_command(tmp_path: Path) -> None:
    half_way(tmp_path)
    with opened(tmp_path):
        status = status_of(tmp_path)
    assert (status.running, status.next_command) == (True, None)
    assert in_words(status)[0] == f"run {RUN_ID} in {tmp_path} (running)"


def test_a_finished_run(tmp_path: Path) -> None:
    small_run(tmp_path)
    status = status_of(tmp_path)
    assert (status.videos, status.scored, status.no_match, status.failed, status.open) == (6, 4, 1, 1, 0)
    assert status.chunks == {"pending": 0, "in_flight": 0, "done": 3, "replaced": 1}
    assert (status.next_command, status.posts_by_reason) == (f"bulk-classify retry {tmp_path}", {})
    assert in_words(status)[3] == "POSTs: 3 planned, 0 sent"


def test_a_run_that_has_taken_in_nothing_yet(tmp_path: Path) -> None:
    with opened(tmp_path):
        pass
    status = status_of(tmp_path)
    assert (status.videos, status.open, status.seconds, status.next_command) == (0, 0, 0, None)


def test_the_next_command_can_be_pasted(tmp_path: Path) -> None:
    folder = tmp_path / "last night's; echo"
    half_way(folder)
    command = status_of(folder).next_command
    assert command is not None
    assert shlex.split(command) == ["bulk-classify", "resume", str(folder)]


def test_whose_scale_the_scores_are_on_is_known_while_the_run_goes_on(tmp_path: Path) -> None:
    """The ledger learns it with the first answer; run.json only at the end."""
    with opened(tmp_path) as run:
        with run.ledger.atomic():
            run.ledger.remember("score_source", "local/x/1")
        assert status_of(tmp_path).score_source == "local/x/1"


def test_what_is_no_run_directory_has_no_status(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "gone"):
        with pytest.raises(UsageError) as refusal:
            status_of(folder)
        assert str(refusal.value) == f"{folder}: not a run directory (it has no {RUN_JSON})"


def test_a_foreign_ledger_is_refused(tmp_path: Path) -> None:
    half_way(tmp_path)
    (tmp_path / LEDGER).write_bytes(b"not a database, but long enough to be seen as none" * 30)
    with pytest.raises(StorageError, match=LEDGER):
        status_of(tmp_path)


def test_a_status_changes_nothing(tmp_path: Path) -> None:
    half_way(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if LEDGER not in path.name}
    status_of(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if LEDGER not in path.name} == before
    with Ledger(tmp_path / LEDGER) as ledger:
        assert ledger.counts().open_chunks == 2
