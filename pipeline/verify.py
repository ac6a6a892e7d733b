"""Proof that input, ledger and files agree. It reads everything back and trusts nothing that it can check.

The segments must tile each file without gap or overlap and carry their checksums; the rows of a segment must be whole
and must be those of the chunk that wrote it; every answered video must have its rows exactly once, as many as its own
row announces; and every video of the input must be in exactly one state. One commit's rows at a time, so that memory
stays small: a whole index is one chunk, but many commits.
"""

from __future__ import annotations

import os
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from pipeline.chunks import Segment, VideoState
from pipeline.errors import StorageError
from pipeline.ledger import INPUT_FINGERPRINT, SCORE_SOURCE, Ledger
from pipeline.manifest import Manifest, read_manifest
from pipeline.rows import CLIPS, FAILURES, ROW_FILES, SCORES, VIDEOS, ClipRow, ScoreRow, VideoRow, encode
from pipeline.rundir import LEDGER, RUN_JSON, is_held, open_rows
from pipeline.wording import counted

_LISTED_DIFFERENCES = 100
_DECODERS = tuple(msgspec.json.Decoder(row) for row in (ScoreRow, ClipRow, VideoRow))


@dataclass(slots=True)
class Report:
    """What was checked, and every difference found (at most the first hundred are told)."""

    videos: int = 0
    rows: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ROW_FILES, 0))
    chunks: int = 0
    differences: list[str] = field(default_factory=list)
    found: int = 0

    def differ(self, line: str) -> None:
        """Note a difference."""
        self.found += 1
        if len(self.differences) < _LISTED_DIFFERENCES:
            self.differences.append(line)


def verify(folder: Path) -> Report:
    """Check a run directory. Raises ``UsageError`` where it is none, and ``StorageError`` for what cannot be read."""
    manifest = read_manifest(folder)
    running = is_held(folder)
    report = Report()
    with ExitStack() as opened:
        ledger = opened.enter_context(Ledger(folder / LEDGER, read_only=True))
        opened.enter_context(ledger.snapshot())
        is_index = manifest.config.input.mode == "index"
        for line in ledger.contradictions(settled_in_parts=is_index):
            report.differ(f"{LEDGER}: {line}")
        try:
            files = [opened.enter_context(file) for file in _opened(folder, ledger.file_lengths(), report)]
            if len(files) == len(ROW_FILES):
                for line in _fact_differences(ledger, manifest):
                    report.differ(f"{LEDGER}: {line}")
                _check_lengths(ledger, files, report, running=running)
                _check_rows(ledger, files, manifest.run_id, report)
                _check_failures(folder, ledger, manifest.run_id, report)
        except (ValueError, LookupError, TypeError) as error:  # whoever damaged it may have left anything
            report.differ(f"{LEDGER}: has what bulk-classify does not write ({error})")
    return report


def _fact_differences(ledger: Ledger, manifest: Manifest) -> Iterator[str]:
    """The ledger's facts against those of ``run.json``, which is written anew when a run ends."""
    if ledger.counts().videos[VideoState.OPEN]:
        return
    if ledger.fact(SCORE_SOURCE) != manifest.score_source:
        yield f"the score source is {ledger.fact(SCORE_SOURCE)!r}, {RUN_JSON} has {manifest.score_source!r}"
    if ledger.fact(INPUT_FINGERPRINT) != manifest.input_fingerprint:
        yield f"the input's fingerprint is not that of {RUN_JSON}"


def _opened(folder: Path, lengths: Sequence[int], report: Report) -> Iterator[BinaryIO]:
    for name, length in zip(ROW_FILES, lengths, strict=True):
        try:
            descriptor = open_rows(folder / name, length)
        except StorageError as error:
            report.differ(str(error))
        else:
            yield os.fdopen(descriptor, "rb")


def _check_lengths(ledger: Ledger, files: Sequence[BinaryIO], report: Report, *, running: bool) -> None:
    for name, file, length in zip(ROW_FILES, files, ledger.file_lengths(), strict=True):
        size = os.fstat(file.fileno()).st_size
        if size < length:
            report.differ(f"{name}: {length - size} bytes of committed rows are missing ({size} of {length} are there)")
        elif size > length and not running:
            report.differ(
                f"{name}: {size - length} bytes stand behind the committed end at {length}; `resume` cuts them off"
            )


def _check_rows(ledger: Ledger, files: Sequence[BinaryIO], run_id: str, report: Report) -> None:
    """Each chunk's segments: in their place, unchanged, and holding the rows of its videos."""
    ends = [0] * len(ROW_FILES)
    for chunk, segments in groupby(ledger.segments(), key=lambda one: one[0]):
        report.chunks += 1
        settled = ledger.settled_by(chunk)
        intact = True
        for commit in _commits(one for _, one in segments):
            rows = _rows_of(chunk, commit, files, ends, report)
            intact = intact and rows is not None
            for line in _commit_differences(chunk, rows, settled, run_id) if rows else ():
                report.differ(line)
        for video_id in sorted(settled) if intact else ():
            report.differ(f"{VIDEOS}: chunk {chunk} has no row for {video_id}")
    for name, end, length in zip(ROW_FILES, ends, ledger.file_lengths(), strict=True):
        if end != length:
            report.differ(f"{name}: the chunks' rows end at {end}, the ledger's length is {length}")
    counts = ledger.counts().videos
    report.videos = sum(counts.values())
    answered = counts[VideoState.SCORED] + counts[VideoState.NO_MATCH]
    if report.rows[VIDEOS] != answered:
        report.differ(
            f"{VIDEOS}: {counted(report.rows[VIDEOS], 'row')}, but the ledger has {counted(answered, 'answered video')}"
        )


def _commits(segments: Iterable[Segment]) -> Iterator[list[Segment]]:
    """The segments of each commit. Its last one is that of the videos' own rows: every settled video has one."""
    commit = []
    for segment in segments:
        commit.append(segment)
        if ROW_FILES[segment.file] == VIDEOS:
            yield commit
            commit = []
    if commit:
        yield commit


def _rows_of(
    chunk: int, commit: Sequence[Segment], files: Sequence[BinaryIO], ends: list[int], report: Report
) -> list[list[Any]] | None:
    """The rows of a commit, by file; None where its bytes are not those that were written. Moves the ``ends`` on."""
    rows: list[list[Any]] = [[] for _ in ROW_FILES]
    intact = True
    for segment in commit:
        name = ROW_FILES[segment.file]
        if segment.offset != ends[segment.file]:
            report.differ(f"{name}: chunk {chunk} stands at {segment.offset}, not at {ends[segment.file]}")
        ends[segment.file] = segment.offset + segment.length
        written = _rows_in(files[segment.file], segment)
        if written is None:
            report.differ(f"{name}: bytes {segment.offset} to {ends[segment.file]} (chunk {chunk}) have changed")
            intact = False
        else:
            rows[segment.file] = written
            report.rows[name] += len(written)
    return rows if intact else None


def _rows_in(file: BinaryIO, segment: Segment) -> list[Any] | None:
    """The rows of a segment; None where its bytes are not those that were written."""
    try:
        content = os.pread(file.fileno(), segment.length, segment.offset)
        if len(content) != segment.length or zlib.crc32(content) != segment.crc:
            return None
        return [_DECODERS[segment.file].decode(line) for line in content.splitlines()]
    except (OSError, ValueError):  # no file that can be read at a place, or bytes that are no rows
        return None


def _commit_differences(
    chunk: int, rows: Sequence[Sequence[Any]], settled: dict[str, VideoState], run_id: str
) -> Iterator[str]:
    """What is wrong with the rows of one commit; takes its videos out of those that its chunk has ``settled``."""
    scores, clips, videos = rows
    for name, some in zip(ROW_FILES, rows, strict=True):
        if any(row.chunk_id != chunk or row.run_id != run_id for row in some):
            yield f"{name}: chunk {chunk} has rows of another chunk or run"
    yield from _repeated(SCORES, (f"{row.video_id}, class {row.class_name!r}," for row in scores))
    yield from _repeated(VIDEOS, (row.video_id for row in videos))
    classes_of = Counter(row.video_id for row in scores)
    clips_of = Counter(row.video_id for row in clips)
    for row in videos:
        state = settled.pop(row.video_id, None)
        if state is None or state.name.lower() != row.status:
            yield f"{VIDEOS}: {row.video_id} is {row.status}, the ledger says {state.name.lower() if state else 'no'}"
        if row.class_count != classes_of[row.video_id] or (row.status == "scored") != (row.class_count > 0):
            yield f"{SCORES}: {row.video_id} has {counted(classes_of[row.video_id], 'row')}, not {row.class_count}"
        if row.clip_count is not None and row.clip_count != clips_of[row.video_id]:
            yield f"{CLIPS}: {row.video_id} has {counted(clips_of[row.video_id], 'row')}, not {row.clip_count}"
    for video_id in sorted((classes_of.keys() | clips_of.keys()) - {row.video_id for row in videos}):
        yield f"{VIDEOS}: chunk {chunk} has no row for {video_id}"


def _repeated(name: str, keys: Iterable[str]) -> Iterator[str]:
    return (f"{name}: {key} has {times} rows" for key, times in Counter(keys).items() if times > 1)


def _check_failures(folder: Path, ledger: Ledger, run_id: str, report: Report) -> None:
    """The list of failures is written at the end of a run; before that it may be missing, or older than the ledger."""
    videos, path = ledger.counts().videos, folder / FAILURES
    if videos[VideoState.OPEN] or not (any(videos.values()) or os.path.lexists(path)):
        return
    expected = b"".join(encode(row) for row in ledger.failure_rows(run_id))
    try:
        written = path.read_bytes()
    except OSError as error:
        report.differ(f"{FAILURES}: {error.strerror}")
        return
    if written != expected:
        report.differ(f"{FAILURES}: not what the ledger says; `resume` writes it anew")


def in_words(report: Report) -> list[str]:
    """The report for people, a line each."""
    if not report.found:
        rows = ", ".join(f"{number:,} in {name}" for name, number in report.rows.items())
        videos, chunks = counted(report.videos, "video"), counted(report.chunks, "chunk")
        return [f"verified: {videos}, each in one state; rows: {rows}; {chunks}"]
    lines = [*report.differences]
    if report.found > len(report.differences):
        lines.append(f"… and {report.found - len(report.differences):,} more")
    return [*lines, f"{counted(report.found, 'difference')} found"]
