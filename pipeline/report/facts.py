"""What a report tells, read from a run directory: one state of the ledger, and the rows that it counts.

Nothing is locked and nothing changed, so a run may go on meanwhile. Rows are streamed; what is kept of them is bounded
by the constants here, so that the page stays within a few megabytes whatever a run or a platform brings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.chunks import Counts, VideoState
from pipeline.config import job_of
from pipeline.errors import UsageError
from pipeline.ledger import RESUME_AFTER, SCORE_SOURCE, STOP_CODE, STOP_REASON, Ledger
from pipeline.manifest import Manifest, read_manifest
from pipeline.packing import prompt_groups
from pipeline.quota import Window
from pipeline.report.committed import ClipLine, ScoreLine, committed_rows
from pipeline.report.pace import Posts, Stretch, posts_of, stretches_of
from pipeline.report.tally import Found, Tally, add_clips, chosen, scores_of, tally_of
from pipeline.rows import CLIPS, ROW_FILES, SCORES, FailureRow
from pipeline.rundir import LEDGER, is_held

MAX_VIDEOS = 1_000
"""Videos whose scores and clips a page holds, where the classes are few."""
MAX_CELLS = 80_000
"""Videos times classes on a page."""
MAX_CLASSES = 1_000
"""Classes on a page; those that most videos match."""
MAX_CLIPS = 100
"""Clips of one video on a page; the best."""
_EXAMPLES = 3
"""Messages of a code that are shown, and videos with each."""


@dataclass(slots=True)
class FailuresOfCode:
    """The failed videos with one code: how many, how many of them `retry` takes, and some of them by message."""

    code: str
    videos: int = 0
    retryable: int = 0
    http_statuses: set[int] = field(default_factory=set)
    examples: dict[str, list[str]] = field(default_factory=dict)
    """message to ids of videos"""

    def add(self, row: FailureRow) -> None:
        """Count a failed video."""
        self.videos += 1
        self.retryable += row.retryable
        if row.http_status is not None:
            self.http_statuses.add(row.http_status)
        if row.message not in self.examples and len(self.examples) == _EXAMPLES:
            return
        ids = self.examples.setdefault(row.message, [])
        if len(ids) < _EXAMPLES:
            ids.append(row.video_id)


@dataclass(frozen=True, slots=True)
class ShownVideo:
    """A video with all that is known of it. ``seconds`` is None where its duration is unknown."""

    video_id: str
    state: VideoState
    seconds: float | None
    found: Found


@dataclass(frozen=True, slots=True)
class Facts:
    """What a report tells.

    ``seconds_answered`` is the known duration of the answered videos. ``classes`` are those shown, in the order of the
    job; ``classes_left_out`` had fewer videos than any of them.
    """

    folder: Path
    manifest: Manifest
    running: bool
    counts: Counts
    score_source: str | None
    stop_reason: str | None
    stop_code: str | None
    resume_after: str | None
    window: Window | None
    posts: Posts
    stretches: Sequence[Stretch]
    posts_by_reason: Mapping[str, int]
    posts_planned: int
    posts_spent: int
    seconds_answered: float
    tally: Tally
    classes: Sequence[str]
    classes_left_out: int
    videos: Sequence[ShownVideo]
    failures: Sequence[FailuresOfCode]


@dataclass(frozen=True, slots=True)
class _Ledger:
    """What one state of the ledger says; ``lengths`` are the committed bytes of each of ``ROW_FILES``."""

    counts: Counts
    lengths: Mapping[str, int]
    facts: Mapping[str, str | None]
    window: Window | None
    posts: Posts
    posts_spent: int
    failures: Sequence[FailuresOfCode]
    seconds_answered: float


def facts_of(folder: Path, *, wanted: Sequence[str] = ()) -> Facts:
    """Read a run directory; the ``wanted`` videos are among those shown.

    Raises ``UsageError`` for what is no run directory and for a wanted video that is not in it, ``StorageError`` for
    what cannot be read.
    """
    manifest = read_manifest(folder)
    running = is_held(folder)
    job = job_of(manifest.config)
    with Ledger(folder / LEDGER, read_only=True) as ledger, ledger.snapshot():
        _refuse_strangers(wanted, ledger, folder)
        state = _state_of(ledger, manifest.run_id)
        blocks = committed_rows(folder / SCORES, state.lengths[SCORES], ScoreLine)
        tally = tally_of(blocks, (one.name for one in job.classes), MAX_VIDEOS)
        classes = _classes_shown(tally)
        most = max(1, len(wanted), min(MAX_VIDEOS, MAX_CELLS // max(1, len(classes))))
        found = _found(folder, state.lengths, chosen(wanted, (tally.classes[name] for name in classes), most))
        videos = _shown(ledger, found, most)
    return Facts(
        folder=folder,
        manifest=manifest,
        running=running,
        counts=state.counts,
        score_source=state.facts[SCORE_SOURCE],
        stop_reason=state.facts[STOP_REASON],
        stop_code=state.facts[STOP_CODE],
        resume_after=state.facts[RESUME_AFTER],
        window=state.window,
        posts=state.posts,
        stretches=stretches_of(state.posts),
        posts_by_reason=state.counts.posts_by_reason,
        posts_planned=state.counts.packed_chunks * len(prompt_groups(job.classes)),
        posts_spent=state.posts_spent,
        seconds_answered=state.seconds_answered,
        tally=tally,
        classes=classes,
        classes_left_out=len(tally.classes) - len(classes),
        videos=videos,
        failures=state.failures,
    )


def _refuse_strangers(wanted: Sequence[str], ledger: Ledger, folder: Path) -> None:
    known = ledger.videos_named(wanted)
    strangers = [video_id for video_id in wanted if video_id not in known]
    if strangers:
        raise UsageError(f"--video {strangers[0]}: no such video in {folder}; give an id of its input")


def _state_of(ledger: Ledger, run_id: str) -> _Ledger:
    return _Ledger(
        counts=ledger.counts(),
        lengths=dict(zip(ROW_FILES, ledger.file_lengths(), strict=True)),
        facts={name: ledger.fact(name) for name in (SCORE_SOURCE, STOP_REASON, STOP_CODE, RESUME_AFTER)},
        window=ledger.window(),
        posts=posts_of(ledger.posts_made()),
        posts_spent=ledger.posts_spent(),
        failures=_failures_of(ledger.failure_rows(run_id)),
        seconds_answered=ledger.seconds_answered(),
    )


def _failures_of(rows: Iterable[FailureRow]) -> list[FailuresOfCode]:
    """The failures by code, the most frequent first."""
    by_code: dict[str, FailuresOfCode] = {}
    for row in rows:
        by_code.setdefault(row.code, FailuresOfCode(row.code)).add(row)
    return sorted(by_code.values(), key=lambda one: (-one.videos, one.code))


def _classes_shown(tally: Tally) -> list[str]:
    """The classes that most videos match, as many as a page holds, in the order of the job."""
    names = list(tally.classes)
    if len(names) > MAX_CLASSES:
        most = set(sorted(names, key=lambda name: -tally.classes[name].videos)[:MAX_CLASSES])
        names = [name for name in names if name in most]
    return names


def _found(folder: Path, lengths: Mapping[str, int], video_ids: Sequence[str]) -> dict[str, Found]:
    found = scores_of(video_ids, committed_rows(folder / SCORES, lengths[SCORES], ScoreLine))
    add_clips(found, committed_rows(folder / CLIPS, lengths[CLIPS], ClipLine), MAX_CLIPS)
    return found


def _shown(ledger: Ledger, found: dict[str, Found], most: int) -> list[ShownVideo]:
    """The videos with a score first; where there is room, some that have none."""
    for state in (VideoState.NO_MATCH, VideoState.FAILED):
        for video_id in ledger.first_videos(state, max(most - len(found), 0)):
            found.setdefault(video_id, Found())
    known = ledger.videos_named(list(found))
    return [ShownVideo(video_id, *known[video_id], one) for video_id, one in found.items()]
