"""How a run stands, from its directory alone: also while another process works on it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.chunks import ChunkState, PostState, VideoState
from pipeline.config import job_of
from pipeline.ledger import RESUME_AFTER, SCORE_SOURCE, STOP_REASON, Ledger
from pipeline.manifest import read_manifest
from pipeline.packing import prompt_groups
from pipeline.rows import FAILURES, ROW_FILES
from pipeline.rundir import LEDGER, is_held


@dataclass(frozen=True, slots=True)
class Status:
    """Counts of one run directory. ``posts`` counts by what became of them, ``posts_by_reason`` by why they were sent.

    ``posts_planned`` is what its chunks take while nothing goes wrong, ``posts_sent`` what has left, by all reasons.

    ``stop_reason`` says why it stopped before its end, and ``resume_after`` when the quota starts anew that it stopped
    for (RFC 3339, UTC); both are None while it goes on.

    ``committed_bytes`` is the length up to which each file may be read. ``seconds`` is the videos' known duration.
    """

    run_id: str
    directory: str
    running: bool
    score_source: str | None
    videos: int
    scored: int
    no_match: int
    failed: int
    open: int
    seconds: float
    chunks: Mapping[str, int]
    posts_planned: int
    posts_sent: int
    posts: Mapping[str, int]
    posts_by_reason: Mapping[str, int]
    failures: Mapping[str, int]
    committed_bytes: Mapping[str, int]
    stop_reason: str | None
    resume_after: str | None
    next_command: str | None


def status_of(folder: Path) -> Status:
    """Read how a run stands. Raises ``UsageError`` for what is no run directory, and ``StorageError``."""
    manifest = read_manifest(folder)
    running = is_held(folder)
    with Ledger(folder / LEDGER, read_only=True) as ledger, ledger.snapshot():
        counts = ledger.counts()
        lengths = ledger.file_lengths()
        score_source, stop_reason = ledger.fact(SCORE_SOURCE), ledger.fact(STOP_REASON)
        resume_after = ledger.fact(RESUME_AFTER)
    posts = {state.name.lower(): 0 for state in PostState}
    reasons: dict[str, int] = {}
    for (reason, state), number in counts.posts.items():
        posts[state.name.lower()] += number
        if state is not PostState.NOT_SENT:
            reasons[reason] = reasons.get(reason, 0) + number
    left = counts.videos[VideoState.OPEN]
    return Status(
        run_id=manifest.run_id,
        directory=str(folder),
        running=running,
        score_source=score_source,
        videos=sum(counts.videos.values()),
        scored=counts.videos[VideoState.SCORED],
        no_match=counts.videos[VideoState.NO_MATCH],
        failed=counts.videos[VideoState.FAILED],
        open=left,
        seconds=counts.seconds,
        chunks={state.name.lower(): counts.chunks[state] for state in ChunkState},
        posts_planned=counts.packed_chunks * len(prompt_groups(job_of(manifest.config).classes)),
        posts_sent=sum(reasons.values()),
        posts=posts,
        posts_by_reason=reasons,
        failures=counts.failures,
        committed_bytes=dict(zip(ROW_FILES, lengths, strict=True)),
        stop_reason=stop_reason,
        resume_after=resume_after,
        next_command=None if running else _next_command(folder, left, counts.retryable),
    )


def next_command(folder: Path, command: str = "resume") -> str:
    """What to type to go on with the run in a directory."""
    return f"bulk-classify {command} {shlex.quote(str(folder))}"


def _next_command(folder: Path, left: int, retryable: int) -> str | None:
    if left:
        return next_command(folder)
    return next_command(folder, "retry") if retryable else None


def in_words(status: Status) -> list[str]:
    """The status for people, a line each."""
    done = status.scored + status.no_match
    unknown = status.posts["unknown"]
    reasons = "".join(f", {number:,} {reason}" for reason, number in status.posts_by_reason.items())
    lines = [
        f"run {status.run_id} in {status.directory}" + (" (running)" if status.running else ""),
        f"videos: {done:,} of {status.videos:,} answered, {status.failed:,} failed, {status.open:,} open",
        f"answers: {status.scored:,} scored, {status.no_match:,} without a match",
        f"POSTs: {status.posts_planned:,} planned, {status.posts_sent:,} sent{reasons}"
        + (f"; {unknown:,} of unknown fate" if unknown else ""),
    ]
    lines += [f"failed: {number:,} with {code}, see {FAILURES}" for code, number in status.failures.items()]
    lines += [f"{name}: {length:,} bytes" for name, length in status.committed_bytes.items()]
    if status.stop_reason:
        lines.append(f"stopped: {status.stop_reason}")
    if status.next_command:
        after = f", after {status.resume_after}" if status.resume_after else ""
        lines.append(f"next{after}: {status.next_command}")
    return lines
