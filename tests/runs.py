"""What the tests of a run share: configurations, id lists, a run in this process or as a command, and its rows.

Nothing here knows how a run works: it writes what a user writes, and reads what a user reads.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import anyio
from aiolimiter import AsyncLimiter
from anyio.abc import Process

from pipeline.config import ApiKey, load
from pipeline.console import Console
from pipeline.order import Order
from pipeline.rate import Timer
from pipeline.rows import CLIPS, FAILURES, SCORES, VIDEOS
from pipeline.run import Outcome, run
from pipeline.status import Status, status_of
from pipeline.verify import verify
from tests.servers.contract import ContractServer, Fault, JsonObject, RequestSeen

ROOT = Path(__file__).parents[1]
KEY = "sesame-4711-never-to-be-seen"
"""The API key of every test: a text that stands nowhere by accident."""
CLASSES: tuple[JsonObject, ...] = (
    {"name": "DanceTok", "prompts": ["Dance tutorial", "Dance group"]},
    {"name": "CookTok", "prompts": ["Cooking tutorial"]},
    {"name": "PetTok", "prompts": ["Funny cats", "Dog training", "Kittens"]},
)
MANY_CLASSES: tuple[JsonObject, ...] = tuple(
    {"name": f"class {number:03}", "prompts": [f"prompt {number}.{one}" for one in range(2 + number % 8)]}
    for number in range(250)
)
"""250 classes of 2 to 9 prompts, 1,371 together: 14 requests for one chunk."""


def library(count: int, seconds: float = 600.5, *, first: int = 0) -> dict[str, float]:
    """That many videos, each as long."""
    return {f"video{number:04}": seconds for number in range(first, first + count)}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def working_strace() -> str | None:
    """Where strace is; None where there is none (it is for Linux), or where it may not look at processes."""
    found = shutil.which("strace")
    if found is None or subprocess.run([found, "-o", os.devnull, "true"], check=False, capture_output=True).returncode:
        return None
    return found


def faults(*places: tuple[str, int, Fault]) -> Callable[[RequestSeen], Fault | None]:
    """Faults for single requests, each by its kind and number."""
    chosen = {(kind, number): fault for kind, number, fault in places}
    return lambda seen: chosen.get((seen.kind, seen.number))


class MovedClock:
    """Seconds since the epoch, which pass only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        due = self.now + seconds
        await anyio.lowlevel.checkpoint()
        self.now = max(self.now, due)

    def may_pass(self) -> bool:
        """Whether time may pass now for a limiter."""
        return True

    def limiter(self, capacity: float, period: float) -> AsyncLimiter:
        """A real limiter that asks us, in place of its event loop, for the time and to be woken."""
        limiter = AsyncLimiter(capacity, period)
        limiter._event_loop = cast("asyncio.AbstractEventLoop", _LoopOnClock(self))
        return limiter

    @property
    def timer(self) -> Timer:
        return Timer(self, self.sleep, self.limiter)


class _LoopOnClock:
    """As much of an event loop as a limiter asks for, on a moved clock."""

    def __init__(self, clock: MovedClock) -> None:
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self.create_future, self.call_soon, self.is_closed = (
            self._loop.create_future,
            self._loop.call_soon,
            self._loop.is_closed,
        )

    def time(self) -> float:
        return self._clock.now

    def call_at(self, moment: float, wake: Callable[[], object]) -> asyncio.Handle:
        return self._loop.call_soon(self._pass, moment, wake)

    def _pass(self, moment: float, wake: Callable[[], object]) -> None:
        if not self._clock.may_pass():
            self._loop.call_soon(self._pass, moment, wake)
            return
        self._clock.now = max(self._clock.now, moment) + 1e-6  # nobody wakes in time, and floats cannot tell less apart
        wake()


@dataclass(frozen=True, slots=True)
class Finished:
    """What a command left behind."""

    exit_code: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class Desk:
    """A folder of a user's: ``run.toml``, ``ids.csv``, and the run directory ``out``."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "run.toml"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def write_ids(self, videos: Mapping[str, float | None]) -> None:
        lines = [f"{video_id},{'' if seconds is None else seconds}" for video_id, seconds in videos.items()]
        (self.folder / "ids.csv").write_text("\n".join(["video_id,duration_seconds", *lines, ""]))

    def write_config(self, url: str, classes: Sequence[JsonObject] = CLASSES, /, **settings: object) -> None:
        """A configuration without pace and quota; ``settings`` are by dotted key, with ``__`` for the dot."""
        wanted: dict[str, object] = {
            "job.options": ["visual"],
            "job.include_clips": True,
            "job.show_detailed_score": True,
            "job.threshold": {"min_video_score": 1, "min_clip_score": 1, "min_duration_ratio": 0.01},
            "job.classes": classes,
            "input.ids": ["ids.csv"],
            "api.url": url,
            "limits.tariff": "none",
            "output.dir": "out",
        }
        wanted |= {name.replace("__", "."): value for name, value in settings.items()}
        self.config.write_text("".join(f"{key} = {_toml(value)}\n" for key, value in wanted.items()))

    # ----------------------------------------------------------------------------------------------- in this process

    def order(self, *, console: Console | None = None, stdin: bytes = b"", **changes: Any) -> Order:
        """The order that ``run CONFIG`` gives."""
        config = load(self.config, flags={"--out": str(self.out)}, environment={}).config
        quiet = console or Console(io.StringIO())
        changes.setdefault("jitter", lambda: 0.0)  # how long resends wait is tested elsewhere
        return Order(config, self.out, ApiKey(KEY), quiet, io.BytesIO(stdin), self.folder / "cache", **changes)

    async def run(self) -> Outcome:
        return await run(self.order())

    # ------------------------------------------------------------------------------------------------- as a command

    async def start(self, *arguments: str | Path, **environment: str) -> Process:
        """A command that goes on; its stderr goes to ``stderr.txt``."""
        with (self.folder / "stderr.txt").open("wb") as stderr:
            return await anyio.open_process(
                [sys.executable, "-m", "pipeline", *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                cwd=self.folder,
                env=self._environment(environment),
            )

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr.txt").read_text()

    async def command(self, *arguments: str | Path, stdin: bytes = b"", **environment: str) -> Finished:
        """A command, to its end."""
        finished = await anyio.run_process(
            [sys.executable, "-m", "pipeline", *map(str, arguments)],
            input=stdin,
            check=False,
            cwd=self.folder,
            env=self._environment(environment),
        )
        return Finished(finished.returncode, finished.stdout.decode(), finished.stderr.decode())

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        home = {"HOME": str(self.folder), "PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
        return home | {"TWELVELABS_API_KEY": KEY} | dict(more)

    # ------------------------------------------------------------------------------------------------ what came of it

    def rows(self, name: str) -> list[JsonObject]:
        return [json.loads(line) for line in (self.out / name).read_bytes().splitlines()]

    def failures(self) -> dict[str, str]:
        """Why each failed video failed."""
        return {row["video_id"]: row["code"] for row in self.rows(FAILURES)}

    def status(self) -> Status:
        return status_of(self.out)

    def content(self) -> dict[str, list[JsonObject]]:
        """The rows without what differs from run to run: their order, chunk, run and moment."""
        return {name: _sorted(map(_without_origin, self.rows(name))) for name in (SCORES, CLIPS, VIDEOS)}

    def check(
        self,
        server: ContractServer,
        video_ids: Iterable[str],
        classes: Sequence[JsonObject] = CLASSES,
        *,
        answers_lost: bool = False,
    ) -> None:
        """The run is proven sound, and has just the right rows of these videos, by the server's own account.

        Where an answer was lost on its way (``answers_lost``) the last page of a walk may have been asked for again.
        """
        again = "belongs to a walk that was finished" if answers_lost else "nothing is overlooked"
        assert [one for one in server.violations if again not in one] == []
        assert verify(self.out).differences == []
        assert self.content() == expected_content(server, video_ids, classes)

    def files_with(self, text: str) -> list[str]:
        """The files of the run directory, and of the run's stderr, that hold a text."""
        files = [*self.out.rglob("*"), *self.folder.glob("stderr.txt")]
        return [str(path) for path in files if path.is_file() and text.encode() in path.read_bytes()]


def expected_content(
    server: ContractServer, video_ids: Iterable[str], classes: Sequence[JsonObject]
) -> dict[str, list[JsonObject]]:
    """The rows that these videos must have, with clips and detailed scores."""
    rows: dict[str, list[JsonObject]] = {SCORES: [], CLIPS: [], VIDEOS: []}
    for video_id in video_ids:
        entry = server.expected(video_id, classes, include_clips=True, detailed=True)
        found = entry["classes"] if entry else []
        rows[SCORES] += [_score_row(video_id, one) for one in found]
        clips = [_clip_row(video_id, one["name"], clip) for one in found for clip in one["clips"]]
        rows[CLIPS] += clips
        status = "scored" if found else "no_match"
        rows[VIDEOS].append(
            {"video_id": video_id, "status": status, "class_count": len(found), "clip_count": len(clips)}
        )
    return {name: _sorted(some) for name, some in rows.items()}


def _score_row(video_id: str, one: JsonObject) -> JsonObject:
    return {
        "video_id": video_id,
        "class_name": one["name"],
        "score": one["score"],
        "duration_ratio": one["duration_ratio"],
        **one["detailed_scores"],
        "clip_count": len(one["clips"]),
    }


def _clip_row(video_id: str, class_name: str, clip: JsonObject) -> JsonObject:
    url = clip.get("thumbnail_url")
    return {
        "video_id": video_id,
        "class_name": class_name,
        "start_seconds": clip["start"],
        "end_seconds": clip["end"],
        "score": clip["score"],
        "option": clip["option"],
        "prompt": clip["prompt"],
        "thumbnail_url": url and url.partition("?")[0],
    }


def _without_origin(row: JsonObject) -> JsonObject:
    return {key: value for key, value in row.items() if key not in {"chunk_id", "run_id", "classified_at"}}


def _sorted(rows: Iterable[JsonObject]) -> list[JsonObject]:
    return sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name} = {_toml(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)
