"""How a run stands, from its directory alone: also while another process works on it."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

from pipeline.chunks import ChunkState, Counts, PostState, VideoState
from pipeline.config import Config, job_of
from pipeline.config_keys import LimitsSection
from pipeline.errors import EndpointGone, JobRefused
from pipeline.failure_codes import in_words as meaning_of
from pipeline.ledger import BEGAN_AT, RESUME_AFTER, SCORE_SOURCE, STOP_CODE, STOP_REASON, Ledger
from pipeline.log import utc
from pipeline.manifest import read_manifest
from pipeline.packing import prompt_groups
from pipeline.progress import Allowance, duration, rate, seconds_left
from pipeline.quota import Window, least_limit
from pipeline.rows import FAILURES, ROW_FILES
from pipeline.rundir import LEDGER, is_held, open_rows, translated

PACE_SECONDS = 60.0
"""Over how long the pace is told."""
JOB_NOT_TAKEN = frozenset({JobRefused.code, EndpointGone.code})
"""The ``stop_code`` of runs for which the same config would bring nothing."""
_READ_AT_ONCE = 2**20
_LABEL_WIDTH = 9
_TEXT_WIDTH = 70
# Why POSTs leave, as the ledger names it and as people read it.
_REASONS = {
    "first": "first",
    "resend": "sent again",
    "expiry": "after page tokens died",
    "incomplete": "after incomplete answers",
    "repack": "packed anew",
    "bisect": "in search of refused videos",
    "retry": "by retry",
}


@dataclass(frozen=True, slots=True)
class QuotaStatus:
    """POSTs of the quota's present window, which ends at ``resets_at`` (RFC 3339, UTC)."""

    limit: int
    used: int
    left: int
    resets_at: str


@dataclass(frozen=True, slots=True)
class Finish:
    """What a process of a run adds to the status when it ends: how long it took, and how many rows each file holds."""

    seconds: float
    rows: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Status:
    """Counts of one run directory. ``posts`` counts by what became of them, ``posts_by_reason`` by why they were sent.

    ``posts_planned`` is what its chunks take while nothing goes wrong, ``posts_sent`` what has left, by all reasons.

    ``posts_per_second`` is over the last minute, or since the process began to ask where that is less; None in its
    first second, and where nobody is at work. ``quota`` is that of the present window, None where none is known;
    ``seconds_left`` is an estimate, None while nobody can know.

    ``stop_reason`` says why it stopped before its end, ``stop_code`` the same in a word for programs, and
    ``resume_after`` when the quota starts anew that it stopped for (RFC 3339, UTC); all are None while it goes on.

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
    posts_per_second: float | None
    posts_per_second_allowed: float | None
    quota: QuotaStatus | None
    seconds_left: float | None
    failures: Mapping[str, int]
    committed_bytes: Mapping[str, int]
    stop_reason: str | None
    stop_code: str | None
    resume_after: str | None
    next_command: str | None


def status_of(folder: Path, clock: Callable[[], float] = time.time) -> Status:
    """Read how a run stands. Raises ``UsageError`` for what is no run directory, and ``StorageError``.

    ``clock`` gives seconds since the epoch.
    """
    now = clock()
    manifest = read_manifest(folder)
    running = is_held(folder)
    with Ledger(folder / LEDGER, read_only=True) as ledger, ledger.snapshot():
        counts = ledger.counts()
        lengths = ledger.file_lengths()
        score_source = ledger.fact(SCORE_SOURCE)
        stop_reason, stop_code, resume_after = (
            None if running else ledger.fact(name) for name in (STOP_REASON, STOP_CODE, RESUME_AFTER)
        )
        window, pace = ledger.window(), _pace(ledger, now) if running else None
        spent = ledger.posts_spent()
    posts = {state.name.lower(): 0 for state in PostState}
    for (_, state), number in counts.posts.items():
        posts[state.name.lower()] += number
    reasons = counts.posts_by_reason
    left = counts.videos[VideoState.OPEN]
    groups = len(prompt_groups(job_of(manifest.config).classes))
    limits = manifest.config.limits
    limit = least_limit(limits.posts_per_window or None, window.limit if window else None)
    allowance = allowance_of(window, limit, limits.window_seconds, now)
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
        posts_planned=counts.packed_chunks * groups,
        posts_sent=sum(reasons.values()),
        posts=posts,
        posts_by_reason=reasons,
        posts_per_second=pace,
        posts_per_second_allowed=limits.requests_per_second or None,
        quota=None if allowance is None else _quota_status(allowance),
        seconds_left=_seconds_left(counts.open_chunks * groups, pace, limits, allowance, now) if left else 0.0,
        failures=counts.failures,
        committed_bytes=dict(zip(ROW_FILES, lengths, strict=True)),
        stop_reason=stop_reason,
        stop_code=stop_code,
        resume_after=resume_after,
        next_command=None if running else _next_command(folder, manifest.config, counts, spent, stop_code),
    )


def next_command(folder: Path, command: str = "resume") -> str:
    """What to type to go on with the run in a directory."""
    return f"bulk-classify {command} {shlex.quote(str(folder))}"


def resume_command(folder: Path, config: Config, counts: Counts, spent: int, stop_code: str | None) -> str:
    """What to type to go on with open videos after so many POSTs, and after what stopped it.

    With a budget that suffices, if this one is spent. Where the platform will not take this job, with a corrected
    config, and in another directory if this one has answers.
    """
    if stop_code in JOB_NOT_TAKEN:
        has_answers = any(state is PostState.ANSWERED for _, state in counts.posts)
        return next_command(Path("ANOTHER") if has_answers else folder, "run CONFIG --out")
    posts_left = counts.open_chunks * len(prompt_groups(job_of(config).classes))
    is_spent = 0 < config.limits.max_posts <= spent
    return next_command(folder) + (f" --set limits.max_posts={spent + posts_left}" if is_spent else "")


def _next_command(folder: Path, config: Config, counts: Counts, spent: int, stop_code: str | None) -> str | None:
    if counts.videos[VideoState.OPEN]:
        return resume_command(folder, config, counts, spent, stop_code)
    return next_command(folder, "retry") if counts.retryable else None


def allowance_of(window: Window | None, limit: int | None, seconds: float, now: float) -> Allowance | None:
    """What is known of the quota ``now``: our own count of the last window, if there was one, and what it may have."""
    if limit is None:
        return None
    if window is None or window.resets_at <= now:  # the next POST opens another
        return Allowance(limit, 0, now + seconds, seconds)
    return Allowance(limit, window.used, window.resets_at, seconds)


def _pace(ledger: Ledger, now: float) -> float | None:
    """POSTs in a second over the last minute, or since the process began to ask; None in its first second."""
    began_at = float(ledger.fact(BEGAN_AT) or 0.0)
    seconds = min(PACE_SECONDS, now - began_at)
    return ledger.posts_since(now - seconds) / seconds if seconds >= 1 else None


def _quota_status(allowance: Allowance) -> QuotaStatus:
    return QuotaStatus(allowance.limit, allowance.used, allowance.left, utc(allowance.resets_at))


def _seconds_left(
    posts: int, pace: float | None, limits: LimitsSection, allowance: Allowance | None, now: float
) -> float | None:
    """How long the open POSTs take; None where nobody is at work, or at no pace that is known."""
    per_second = pace or (pace is not None and limits.requests_per_second) or None
    if per_second is None or (allowance is not None and posts > allowance.left and limits.on_quota == "stop"):
        return None
    return seconds_left(posts, 1 / per_second, posts, allowance, now)


def finish(folder: Path, status: Status, seconds: float) -> Finish:
    """What is told of a run that has just ended. Raises ``StorageError`` for a file that cannot be read."""
    return Finish(seconds, {name: _lines(folder / name, length) for name, length in status.committed_bytes.items()})


def _lines(path: Path, length: int) -> int:
    """How many lines the committed part of a file has."""
    lines = 0
    with translated(path), os.fdopen(open_rows(path, length), "rb") as file:
        while length > 0 and (block := file.read(min(_READ_AT_ONCE, length))):
            lines += block.count(b"\n")
            length -= len(block)
    return lines


def in_words(status: Status, finished: Finish | None = None) -> list[str]:
    """The status for people, a line each; the last says what to type, if anything is to be done."""
    lines = [
        line
        for name, said in (*_of_the_run(status, finished), *_of_failures_and_files(status, finished))
        for line in _labelled(name, said)
    ]
    if status.next_command:
        after = f", after {status.resume_after}" if status.resume_after else ""
        lines.append(f"next{after}: {status.next_command}")
    return lines


def _labelled(name: str, said: str) -> Iterator[str]:
    """A fact behind its name, in lines that any terminal holds, but for words that are longer."""
    label = f"{name}:" if name else ""
    is_whole = len(said) <= _TEXT_WIDTH or name == "run"  # a path is to be copied
    parts = [said] if is_whole else wrap(said, _TEXT_WIDTH, break_long_words=False, break_on_hyphens=False)
    for at, part in enumerate(parts):
        yield f"{'' if at else label:<{_LABEL_WIDTH}}{part}"


def _of_the_run(status: Status, finished: Finish | None) -> Iterator[tuple[str, str]]:
    answered, unknown = status.scored + status.no_match, status.posts["unknown"]
    yield "run", f"{status.run_id} in {status.directory}" + (" (running)" if status.running else "")
    yield "videos", f"{answered:,} of {status.videos:,} answered, {status.failed:,} failed, {status.open:,} open"
    yield "answers", f"{status.scored:,} scored, {status.no_match:,} without a match"
    by_reason = [(words, status.posts_by_reason.get(reason, 0)) for reason, words in _REASONS.items()]
    reasons = ", ".join(f"{number:,} {words}" for words, number in by_reason if number)
    unclear = f"; {unknown:,} of unknown fate" if unknown else ""
    yield "POSTs", f"{status.posts_planned:,} planned, {status.posts_sent:,} sent{unclear}"
    if len(status.posts_by_reason) > 1:
        yield "", reasons
    if status.posts_per_second is not None:
        allowed = status.posts_per_second_allowed
        of = f", {rate(allowed)} allowed" if allowed else ""
        yield "pace", f"{rate(status.posts_per_second)} POSTs a second over the last minute{of}"
    if status.quota is not None and status.open:
        yield "quota", f"{status.quota.left:,} of {status.quota.limit:,} POSTs left until {status.quota.resets_at}"
    if status.open and status.seconds_left is not None:
        yield "left", f"about {duration(status.seconds_left)}"
    if finished is not None:
        yield "took", duration(finished.seconds)


def _of_failures_and_files(status: Status, finished: Finish | None) -> Iterator[tuple[str, str]]:
    for code, number in status.failures.items():
        yield "failed", f"{number:,} with {code}"
        yield "", meaning_of(code)
    if status.failures:
        yield "", f"each with its reason in {FAILURES}"
    widest = max(map(len, status.committed_bytes))
    for label, (name, length) in zip(("files", "", ""), status.committed_bytes.items(), strict=True):
        rows = "" if finished is None else f"{finished.rows[name]:>12,} rows"
        yield label, f"{name:<{widest}}{rows}{length:>16,} bytes"
    if status.stop_reason:
        yield "stopped", status.stop_reason
