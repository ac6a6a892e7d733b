"""The rows that people keep: what each file of a run directory holds, and a result's way into NDJSON lines.

The order of the fields is the order of the keys in the files; every key is always there, null for what is absent.
Numbers are written as the platform sent them. The row classes are msgspec Structs, and a chunk's rows are encoded in
one call: millions are written in a night. ``gc=False``, because nothing that a row holds could hold the row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import msgspec

from pipeline.models import ClassScore, Clip, Result

SCORES, CLIPS, VIDEOS = "scores.ndjson", "clips.ndjson", "videos.ndjson"
ROW_FILES = (SCORES, CLIPS, VIDEOS)
"""The files that only ever grow, in the order in which the ledger numbers them."""
FAILURES = "failures.ndjson"


class ScoreRow(msgspec.Struct, gc=False):
    """One class of one video. ``score`` and the detailed scores 0 to 100, ``duration_ratio`` 0 to 1."""

    video_id: str
    class_name: str
    score: float
    duration_ratio: float
    max_score: float | None
    avg_score: float | None
    normalized_score: float | None
    clip_count: int | None
    chunk_id: int
    run_id: str
    classified_at: str


class ClipRow(msgspec.Struct, gc=False):
    """One stretch of one video that matches a class; times in seconds from its start, ``score`` 0 to 100."""

    video_id: str
    class_name: str
    start_seconds: float
    end_seconds: float
    score: float
    option: str
    prompt: str
    thumbnail_url: str | None
    chunk_id: int
    run_id: str


class VideoRow(msgspec.Struct, gc=False):
    """One answered video and how many rows it has in the other two files."""

    video_id: str
    status: Literal["scored", "no_match"]
    class_count: int
    clip_count: int | None
    chunk_id: int
    run_id: str
    classified_at: str


class FailureRow(msgspec.Struct, gc=False):
    """One video without a result, why, and whether asking again could help."""

    video_id: str
    code: str
    message: str
    http_status: int | None
    retryable: bool
    attempts: int
    chunk_id: int
    run_id: str
    failed_at: str


@dataclass(frozen=True, slots=True)
class RowStyle:
    """What the job asked for, as far as it shapes rows, and the run that they belong to."""

    run_id: str
    include_clips: bool
    show_detailed_score: bool
    keep_signed_urls: bool = False


@dataclass(frozen=True, slots=True)
class Origin:
    """Where and when a chunk's rows come from; ``classified_at`` is RFC 3339, in UTC."""

    style: RowStyle
    chunk_id: int
    classified_at: str


class Lines(NamedTuple):
    """Encoded rows for each of ``ROW_FILES``, in that order."""

    scores: bytes
    clips: bytes
    videos: bytes


_encoder = msgspec.json.Encoder()


def encode(row: object) -> bytes:
    """One row as a line of NDJSON, with its line feed."""
    return _encoder.encode(row) + b"\n"


def lines_of(results: Iterable[Result], origin: Origin) -> Lines:
    """Every row of some results of one chunk."""
    scores: list[ScoreRow] = []
    clips: list[ClipRow] = []
    videos: list[VideoRow] = []
    for result in results:
        before = len(clips)
        for one in result.classes:
            scores.append(_score_row(result.video_id, one, origin))
            if one.clips and origin.style.include_clips:
                clips += _clip_rows(result.video_id, one.name, one.clips, origin)
        videos.append(_video_row(result, len(clips) - before, origin))
    return Lines(_encoder.encode_lines(scores), _encoder.encode_lines(clips), _encoder.encode_lines(videos))


def _score_row(video_id: str, one: ClassScore, origin: Origin) -> ScoreRow:
    style = origin.style
    detailed = one.detailed_scores if style.show_detailed_score else None
    return ScoreRow(
        video_id,
        one.name,
        one.score,
        one.duration_ratio,
        detailed.max_score if detailed else None,
        detailed.avg_score if detailed else None,
        detailed.normalized_score if detailed else None,
        len(one.clips or ()) if style.include_clips else None,
        origin.chunk_id,
        style.run_id,
        origin.classified_at,
    )


def _clip_rows(video_id: str, class_name: str, clips: Iterable[Clip], origin: Origin) -> Iterator[ClipRow]:
    style, chunk = origin.style, origin.chunk_id
    run_id, keep_signed_urls = style.run_id, style.keep_signed_urls
    for clip in clips:
        url = clip.thumbnail_url
        if url is not None and not keep_signed_urls:
            # The query of a presigned URL holds an access key id and a signature.
            url = url.partition("?")[0]
        yield ClipRow(
            video_id, class_name, clip.start, clip.end, clip.score, clip.option, clip.prompt, url, chunk, run_id
        )


def _video_row(result: Result, clip_count: int, origin: Origin) -> VideoRow:
    return VideoRow(
        result.video_id,
        "scored" if result.classes else "no_match",
        len(result.classes),
        clip_count if origin.style.include_clips else None,
        origin.chunk_id,
        origin.style.run_id,
        origin.classified_at,
    )
