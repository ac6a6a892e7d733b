"""Small answers, and whole run directories made by the real ledger, sink and row files, for the tests of what lasts."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import anyio
from hypothesis import strategies as st

from pipeline import rundir
from pipeline.chunks import Child, Chunk, Intake, Settlement
from pipeline.config_keys import ClassSection, Config, InputSection, JobSection
from pipeline.ledger import Ledger
from pipeline.manifest import Manifest, write_manifest
from pipeline.models import ClassScore, Clip, DetailedScores, Failure, Result, Video, VideoAnswer
from pipeline.packing import Packer
from pipeline.rows import FAILURES, Origin, RowStyle, encode
from pipeline.sink import Sink

GUIDE: list[dict[str, Any]] = json.loads((Path(__file__).parent / "examples" / "guide.json").read_bytes())["examples"]
"""The guide's request and answer pairs."""
RUN_ID = "20260102T030405Z-abcdef"
AT = "2026-01-02T03:04:05.678Z"
STYLE = RowStyle(RUN_ID, include_clips=True, show_detailed_score=True)


_leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
_keys = st.sampled_from(
    ["data", "page_info", "video_id", "classes", "name", "score", "duration_ratio", "clips", "next_page_token", "x"]
)
_json_values = st.recursive(
    _leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_keys, inner, max_size=6)
)
any_body = st.binary() | _json_values.map(lambda value: json.dumps(value).encode())
"""Bytes that a platform, or whatever stands in front of it, could send."""


def guide_body(number: int) -> bytes:
    """The guide's answer with this number, counted from 1, as bytes."""
    return json.dumps(GUIDE[number - 1]["response"]).encode()


def config(**job: Any) -> Config:
    """A small whole configuration, with these keys of the job set."""
    classes = (ClassSection(name="DanceTok", prompts=("Dance group",)), ClassSection(name="CookTok", prompts=("Cook",)))
    settings: dict[str, Any] = {"options": ("visual",), "classes": classes} | job
    return Config(job=JobSection(**settings), input=InputSection(ids=("/ids.txt",)))


def scored(name: str, score: float = 50, *, clips: int = 0) -> ClassScore:
    """A class's answer with so many clips of a second each."""
    some = tuple(Clip(second, second + 1, score, "visual", name, f"https://t/{second}.jpeg") for second in range(clips))
    return ClassScore(name, score, 0.5, some, DetailedScores(score, score, 100.0))


def answer(video_id: str, *names: str) -> VideoAnswer:
    """What a page says about a video: these classes matched."""
    return VideoAnswer(video_id, tuple(scored(name) for name in names or ("DanceTok",)))


def result_of(video_id: str) -> Result:
    """A result with one to three classes and one to three clips each, always the same for the same video."""
    variety = crc32(video_id.encode())
    return Result(
        video_id,
        tuple(
            scored(f"class {place}", variety % 97 + 0.25, clips=(variety >> place) % 3 + 1)
            for place in range(variety % 3 + 1)
        ),
    )


@dataclass(frozen=True, slots=True)
class End:
    """How a chunk ends, with the results whose rows it writes."""

    settlement: Settlement
    results: list[Result]


def end(
    chunk: int,
    *,
    matched: Sequence[str] = (),
    silent: Sequence[str] = (),
    failed: Sequence[str] = (),
    children: Sequence[Child] = (),
) -> End:
    """The end of a chunk in which these videos are scored, without a match, failed, or go on in children."""
    settlement = Settlement(
        chunk,
        scored=tuple(matched),
        no_match=tuple(silent),
        failures=tuple(Failure(one, "video_refused", f"{one} is refused", 400) for one in failed),
        children=tuple(children),
        settled_at=AT,
    )
    return End(settlement, [result_of(one) for one in matched] + [Result(one, ()) for one in silent])


def fate(chunk: Chunk) -> End:
    """How a chunk ends, always the same for the same one: all matched, or its first video another way."""
    first, *others = (video.video_id for video in chunk.videos)
    match crc32(first.encode()) % 6:
        case 0:
            return end(chunk.number, matched=others, silent=[first])
        case 1:
            return end(chunk.number, matched=others, failed=[first])
        case 2 if chunk.reason == "first":
            return end(chunk.number, matched=others, children=[Child((first,), "bisect")])
    return end(chunk.number, matched=[first, *others])


def take_in(ledger: Ledger, *videos: str | Video, a_chunk: int = 1) -> Intake:
    """Take videos into a ledger, so many a chunk where their duration is unknown."""
    with ledger.atomic():
        intake = ledger.take_in(one if isinstance(one, Video) else Video(one) for one in videos)
        first = ledger.next_chunk_number()
        ledger.pack(Packer(videos_of_unknown_duration=a_chunk, first_chunk=first))
    return intake


def by_hand(path: Path, *statements: str) -> None:
    """Change an SQLite file behind everybody's back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


@dataclass(frozen=True, slots=True)
class OpenRun:
    """An open run directory."""

    folder: Path
    ledger: Ledger
    files: rundir.RowFiles

    def take_in(self, *videos: str | Video, a_chunk: int = 1) -> None:
        """Take videos in, so many a chunk."""
        take_in(self.ledger, *videos, a_chunk=a_chunk)

    def pending(self) -> list[Chunk]:
        """Every chunk that waits."""
        return self.ledger.pending_after(0, 1_000_000)

    def commit(self, *ends: End) -> None:
        """Make chunks' ends durable through a real sink, all at once."""
        anyio.run(commit_all, self.ledger, self.files, ends)

    def finish(self) -> None:
        """Write the list of failures, as the end of a run does."""
        rows = b"".join(encode(row) for row in self.ledger.failure_rows(RUN_ID))
        rundir.replace_file(self.folder / FAILURES, rows)


async def commit_all(ledger: Ledger, files: rundir.RowFiles, ends: Sequence[End]) -> None:
    """Commit these ends, each from a task of its own."""
    sink = Sink(ledger, files, reserve_bytes=0, on_low_space=lambda: None)
    async with anyio.create_task_group() as writing:
        writing.start_soon(sink.run)
        async with anyio.create_task_group() as asking:
            for one in ends:
                asking.start_soon(sink.commit, one.settlement, one.results, origin(one.settlement.chunk))
        sink.close()


def origin(chunk: int) -> Origin:
    """Where the rows of a chunk come from."""
    return Origin(STYLE, chunk, AT)


@contextmanager
def opened(folder: Path) -> Iterator[OpenRun]:
    """Open a run directory as a run does, made first where there is none."""
    rundir.prepare(folder)
    with rundir.held(folder), Ledger(folder / rundir.LEDGER) as ledger:
        if not (folder / rundir.RUN_JSON).exists():
            write_manifest(folder, Manifest(RUN_ID, AT, config(include_clips=True, show_detailed_score=True)))
        with rundir.RowFiles(folder, ledger.file_lengths()) as files:
            with ledger.atomic():
                ledger.recover()
            yield OpenRun(folder, ledger, files)


def small_run(folder: Path) -> None:
    """A finished run of three chunks: scored, without a match, and failed videos; chunk 3 is replaced by chunk 4."""
    with opened(folder) as run:
        run.take_in("a", "b", "c", "d", "e", "f", a_chunk=2)
        run.commit(end(1, matched=["a", "b"]))
        run.commit(end(2, matched=["c"], silent=["d"]))
        run.commit(end(3, failed=["e"], children=[Child(("f",), "bisect")]))
        run.commit(end(4, matched=["f"]))
        run.finish()


def rows_in(path: Path) -> list[Mapping[str, Any]]:
    """The rows of an NDJSON file."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]
