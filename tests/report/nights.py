"""Run directories to report on, made by the real ledger and row files, and always the same."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from pipeline import rundir
from pipeline.chunks import Chunk, PostState, Segment, Settlement
from pipeline.config_keys import ClassSection, Config, InputSection, JobSection, LimitsSection, ThresholdSection
from pipeline.ledger import SCORE_SOURCE, STOP_REASON, Ledger
from pipeline.manifest import Manifest, write_manifest
from pipeline.models import ClassScore, Clip, DetailedScores, Failure, Result, Video
from pipeline.packing import Packer
from pipeline.quota import Window
from pipeline.rows import ROW_FILES, Lines, Origin, RowStyle, lines_of

RUN_ID = "20261122T213000Z-abcdef"
BEGAN_AT = 1_795_383_000.0
"""2026-11-22 21:30 UTC."""
AT = "2026-11-22T21:30:00.000Z"
USUAL_CLASSES = ("DanceTok", "CookTok", "PetTok", "GoalTok", "MakerTok", "TravelTok", "MusicTok", "BeautyTok")
FAILURES = (
    Failure("", "resource_not_exist", "The resource with id {id} does not exist.", 404, retryable=False),
    Failure("", "incomplete_answer", "the platform announced more videos than it showed, 4 times", None),
    Failure("", "platform_overloaded", "HTTP 503", 503),
    Failure(
        "", "duration_limit", "The total duration(seconds) 37600 of videos exceeds the limit.", 400, retryable=False
    ),
)


@dataclass(frozen=True, slots=True)
class Night:
    """What happened: ``videos`` of which some fail, match nothing, or stay open.

    A share of the videos; what is left over is scored. Each scored video matches up to ``matches`` classes. Of the
    ``failures`` the first happens most often.
    """

    videos: int = 300
    classes: Sequence[str] = USUAL_CLASSES
    matches: int = 4
    clips: int = 3
    no_match: float = 0.1
    failed: float = 0.04
    open: float = 0.0
    failures: Sequence[Failure] = FAILURES
    include_clips: bool = True
    stop_reason: str | None = None
    score_source: str | None = "twelvelabs/v1.2"
    seed: int = 0


_SECONDS_APART = 21.0


def video_id(number: int) -> str:
    return f"{number:06x}{'c0ffee' * 3}"


def make(folder: Path, night: Night) -> Path:
    """Make the run directory of a night; its path."""
    rundir.prepare(folder)
    chance = random.Random(night.seed)
    with Ledger(folder / rundir.LEDGER) as ledger, rundir.RowFiles(folder, [0] * len(ROW_FILES)) as files:
        write_manifest(folder, Manifest(RUN_ID, AT, config_of(night), night.score_source, versions={}))
        with ledger.atomic():
            ledger.take_in(Video(video_id(number), chance.uniform(20, 1200)) for number in range(night.videos))
            ledger.pack(Packer())
            if night.score_source:
                ledger.remember(SCORE_SOURCE, night.score_source)
            if night.stop_reason:
                ledger.remember(STOP_REASON, night.stop_reason)
            _work(ledger, files, night, chance)
    return folder


def config_of(night: Night) -> Config:
    """The configuration that such a night begins with."""
    return Config(
        name="overnight",
        job=JobSection(
            options=("visual", "conversation"),
            classes=tuple(
                ClassSection(name=name, prompts=(f"{name} tutorial", f"Best of {name}")) for name in night.classes
            ),
            include_clips=night.include_clips,
            show_detailed_score=True,
            threshold=ThresholdSection(min_video_score=20.0, min_clip_score=30.0, min_duration_ratio=0.01),
        ),
        input=InputSection(ids=("/ids.csv",)),
        limits=LimitsSection(tariff="v1.2-developer", requests_per_second=1.0, posts_per_window=1200),
    )


def _work(ledger: Ledger, files: rundir.RowFiles, night: Night, chance: random.Random) -> None:
    moment, sent = BEGAN_AT, 0
    open_from = round(night.videos * (1 - night.open))
    for chunk in ledger.pending_after(0, 1_000_000):
        if int(chunk.videos[0].video_id[:6], 16) >= open_from:
            break
        for state, status in _fates(chance):
            moment += chance.expovariate(1 / _SECONDS_APART)
            sent += state is not PostState.REFUSED
            window = Window(sent, BEGAN_AT + 86_400, 1200)
            reason = "first" if state is PostState.ANSWERED else "resend"
            post = ledger.intend_post(chunk.number, 0, reason, intended_at=moment, window=window)
            ledger.end_post(post, state, billed=state is PostState.ANSWERED, http_status=status)
        _settle(ledger, files, night, chance, chunk=chunk)


def _fates(chance: random.Random) -> Iterator[tuple[PostState, int | None]]:
    """What became of the POSTs of a chunk; the last one is answered."""
    if chance.random() < 0.06:
        yield PostState.REFUSED, 429
    if chance.random() < 0.04:
        yield PostState.REFUSED, 503
    if chance.random() < 0.02:
        yield PostState.UNKNOWN, None
    yield PostState.ANSWERED, 200


def _settle(ledger: Ledger, files: rundir.RowFiles, night: Night, chance: random.Random, *, chunk: Chunk) -> None:
    scored, silent, failures = [], [], []
    for video in chunk.videos:
        drawn = chance.random()
        if drawn < night.failed:
            kind = night.failures[min(len(night.failures) - 1, int(chance.expovariate(1)))]
            message = kind.message.format(id=video.video_id)
            failures.append(Failure(video.video_id, kind.code, message, kind.http_status, kind.retryable))
        elif drawn < night.failed + night.no_match:
            silent.append(Result(video.video_id, ()))
        else:
            scored.append(_result(video, night, chance))
    style = RowStyle(RUN_ID, night.include_clips, show_detailed_score=True)
    lines = lines_of([*scored, *silent], Origin(style, chunk.number, AT))
    settlement = Settlement(
        chunk.number,
        scored=tuple(one.video_id for one in scored),
        no_match=tuple(one.video_id for one in silent),
        failures=tuple(failures),
        settled_at=AT,
    )
    ledger.settle(settlement, _written(files, lines))


def _written(files: rundir.RowFiles, lines: Lines) -> list[Segment]:
    segments = [
        Segment(file, files.lengths[file], len(block), crc32(block)) for file, block in enumerate(lines) if block
    ]
    files.append(lines)
    return segments


def _result(video: Video, night: Night, chance: random.Random) -> Result:
    names = chance.sample(list(night.classes), chance.randint(1, min(night.matches, len(night.classes))))
    return Result(video.video_id, tuple(_score(name, video, night, chance) for name in names))


def _score(name: str, video: Video, night: Night, chance: random.Random) -> ClassScore:
    seconds = video.duration_seconds or 60.0
    top = 20 + 80 * chance.betavariate(1 + len(name) % 3, 2)
    clips = []
    for place in range(chance.randint(1, night.clips)):
        start = seconds * (place + chance.random() * 0.4) / night.clips
        end = start + seconds / night.clips * chance.uniform(0.1, 0.6)
        option = chance.choice(("visual", "visual", "conversation"))
        prompt = chance.choice((f"{name} tutorial", f"Best of {name}"))
        clips.append(Clip(round(start, 1), round(end, 1), round(max(30.0, top - 9 * place), 2), option, prompt))
    score = round(top * 0.95, 2)
    ratio = round(chance.uniform(0.05, 0.9), 3)
    return ClassScore(name, score, ratio, tuple(clips), DetailedScores(round(top, 2), score, 25.0))
