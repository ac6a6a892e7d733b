"""How a run stands, read from its directory alone, exactly."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.chunks import PostState
from pipeline.errors import StorageError, UsageError
from pipeline.ledger import BEGAN_AT, Ledger
from pipeline.log import utc
from pipeline.manifest import read_manifest, write_manifest
from pipeline.models import Video
from pipeline.packing import Packer
from pipeline.quota import Window
from pipeline.report.meanings import REASONS
from pipeline.rows import CLIPS, FAILURES, SCORES, VIDEOS
from pipeline.run import run
from pipeline.rundir import LEDGER, RUN_JSON, held
from pipeline.status import _REASONS, Finish, QuotaStatus, Status, finish, in_words, status_of
from tests.builders import RUN_ID, OpenRun, end, opened, small_run
from tests.runs import KEY, Desk, library
from tests.servers.contract import ContractServer


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
        posts_per_second=None,
        posts_per_second_allowed=None,
        quota=None,
        seconds_left=None,
        failures={"video_refused": 1},
        committed_bytes=sizes(tmp_path),
        stop_reason=None,
        stop_code=None,
        resume_after=None,
        next_command=f"bulk-classify resume {tmp_path}",
    )


def test_a_run_half_way_for_people(tmp_path: Path) -> None:
    half_way(tmp_path)
    scores, clips, videos = sizes(tmp_path).values()
    assert in_words(status_of(tmp_path)) == [
        f"run:     {RUN_ID} in {tmp_path}",
        "videos:  4 of 7 answered, 1 failed, 2 open",
        "answers: 2 scored, 2 without a match",
        "POSTs:   4 planned, 2 sent; 1 of unknown fate",
        "         1 first, 1 sent again",
        "failed:  1 with video_refused",
        "         the platform refuses this video without a code; look at the message in",
        "         failures.ndjson",
        f"         each with its reason in {FAILURES}",
        f"files:   scores.ndjson{scores:>16,} bytes",
        f"         clips.ndjson {clips:>16,} bytes",
        f"         videos.ndjson{videos:>16,} bytes",
        f"next: bulk-classify resume {tmp_path}",
    ]


def test_a_run_that_has_ended_tells_how_long_it_took_and_how_many_rows_there_are(tmp_path: Path) -> None:
    """The rows that are committed, and not a torn one behind them."""
    half_way(tmp_path)
    rows = [len((tmp_path / name).read_bytes().splitlines()) for name in (SCORES, CLIPS, VIDEOS)]
    with (tmp_path / SCORES).open("ab") as file:
        file.write(b"torn\n")
    status = status_of(tmp_path)
    finished = finish(tmp_path, status, 5_400.0)
    assert (finished, rows[2]) == (Finish(5_400.0, dict(zip((SCORES, CLIPS, VIDEOS), rows, strict=True))), 4)
    told = in_words(status, finished)
    assert "took:    1 h 30 min" in told
    assert f"         videos.ndjson{4:>12,} rows{status.committed_bytes[VIDEOS]:>16,} bytes" in told


def test_a_file_that_is_gone_cannot_be_counted(tmp_path: Path) -> None:
    half_way(tmp_path)
    status = status_of(tmp_path)
    (tmp_path / SCORES).unlink()
    with pytest.raises(StorageError, match=SCORES):
        finish(tmp_path, status, 1.0)


NOW = 1_700_000_000.0


def with_limits(folder: Path, window: Window | None, **limits: Any) -> None:
    """A run half way, with such limits, whose ledger remembers such a window."""
    half_way(folder)
    manifest = read_manifest(folder)
    changed = msgspec.structs.replace(manifest.config.limits, **limits)
    write_manifest(folder, replace(manifest, config=msgspec.structs.replace(manifest.config, limits=changed)))
    with Ledger(folder / LEDGER) as ledger, ledger.atomic():
        if window is not None:
            ledger.remember_window(window)
        for chunk in (1, 2):
            ledger._run("UPDATE post SET intended_at = ? WHERE chunk = ?", NOW - 30 * chunk, chunk)


@pytest.mark.parametrize(
    ("window", "limits", "quota"),
    [
        (None, {}, None),
        (Window(7, NOW + 60), {}, None),  # counted, and limited by nobody
        (Window(7, NOW + 60), {"posts_per_window": 20}, QuotaStatus(20, 7, 13, utc(NOW + 60))),
        (Window(7, NOW + 60, 9), {"posts_per_window": 20}, QuotaStatus(9, 7, 2, utc(NOW + 60))),
        (Window(30, NOW + 60, 9), {}, QuotaStatus(9, 30, 0, utc(NOW + 60))),
        (Window(7, NOW - 1), {"posts_per_window": 20}, QuotaStatus(20, 0, 20, utc(NOW + 86_400))),
        (None, {"posts_per_window": 20}, QuotaStatus(20, 0, 20, utc(NOW + 86_400))),
    ],
)
def test_the_quota_is_the_least_that_anybody_allows_less_what_is_used(
    tmp_path: Path, window: Window | None, limits: dict[str, Any], quota: QuotaStatus | None
) -> None:
    with_limits(tmp_path, window, **limits)
    assert status_of(tmp_path, lambda: NOW).quota == quota


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        ({}, 60.0),  # two chunks are open, and in the last minute two POSTs have left
        ({"posts_per_window": 1}, 90 + 86_400 + 30.0),  # the one in the next window, the other in that after it
        ({"posts_per_window": 1, "on_quota": "stop"}, None),
    ],
)
def test_while_somebody_is_at_work_the_pace_and_what_is_left_are_told(
    tmp_path: Path, limits: dict[str, Any], left: float | None
) -> None:
    with_limits(tmp_path, Window(1, NOW + 90, 1) if limits else None, requests_per_second=2.0, **limits)
    with held(tmp_path):
        status = status_of(tmp_path, lambda: NOW)
    assert status.posts_per_second == pytest.approx(2 / 60)
    assert status.posts_per_second_allowed == 2.0
    assert status.running
    assert "pace:    0.033 POSTs a second over the last minute, 2.00 allowed" in in_words(status)
    assert status.seconds_left == (left and pytest.approx(left))


@pytest.mark.parametrize(
    ("age", "pace", "left"),
    [
        (0.5, None, None),  # too early to say
        (20.0, 0.0, 1.0),  # before that another process was at work; two POSTs at two a second are left
        (40.0, 2 / 40, 40.0),
        (60.0, 2 / 60, 60.0),
        (86_400.0, 2 / 60, 60.0),
    ],
)
def test_the_pace_of_a_young_process_is_over_its_own_life(
    tmp_path: Path, age: float, pace: float | None, left: float | None
) -> None:
    """Two POSTs have left, 30 seconds ago, and two chunks are open."""
    with_limits(tmp_path, None, requests_per_second=2.0)
    with Ledger(tmp_path / LEDGER) as ledger, ledger.atomic():
        ledger.remember(BEGAN_AT, repr(NOW - age))
    with held(tmp_path):
        status = status_of(tmp_path, lambda: NOW)
    assert status.posts_per_second == (pace and pytest.approx(pace))
    assert status.seconds_left == (left and pytest.approx(left))


async def test_a_run_remembers_when_its_process_began_to_ask(desk: Desk) -> None:
    async with ContractServer(library(3), key=KEY) as server:
        desk.write_ids(library(3))
        desk.write_config(server.url)
        await run(desk.order(clock=lambda: NOW))
    with Ledger(desk.out / LEDGER, read_only=True) as ledger:
        assert ledger.fact(BEGAN_AT) == repr(NOW)


def test_why_posts_leave_is_told_of_the_same_reasons_as_in_the_report() -> None:
    assert list(_REASONS) == list(REASONS)


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
    assert in_words(status)[0] == f"run:     {RUN_ID} in {tmp_path} (running)"


def test_a_finished_run(tmp_path: Path) -> None:
    small_run(tmp_path)
    status = status_of(tmp_path)
    assert (status.videos, status.scored, status.no_match, status.failed, status.open) == (6, 4, 1, 1, 0)
    assert status.chunks == {"pending": 0, "in_flight": 0, "done": 3, "replaced": 1}
    assert (status.next_command, status.posts_by_reason) == (f"bulk-classify retry {tmp_path}", {})
    assert in_words(status)[3] == "POSTs:   3 planned, 0 sent"


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
        assert (
            str(refusal.value)
            == f"{folder}: not a run directory (it has no {RUN_JSON}); give the --out or output.dir of a run"
        )


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
