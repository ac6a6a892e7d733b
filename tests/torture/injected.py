"""A kill, EIO and ENOSPC at every single write, sync, rename and unlink of a short run, by ``strace``.

strace counts the calls of each kind and thread apart, and fails or kills at the n-th. Two threads touch the run
directory: the main one opens and closes it, a worker thread writes in between. So that one number means one call, the
calls of the main thread are met without following threads, in a new directory and in one with torn rows; those of the
worker thread in a directory whose ledger is there already, so that no call of the main thread has the same number
before. Only one file's calls are counted at a time.

An error in place of a call must end the run with 74 and one line, unless nothing relies on the call: an event of
``run.log``, and what SQLite does to tidy up. Wherever it is met, what is acknowledged is there, and the next run
completes it.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import astuple, dataclass
from itertools import cycle, product
from operator import add
from pathlib import Path
from typing import Literal

import anyio

from pipeline.rows import FAILURES, ROW_FILES, VIDEOS
from pipeline.rundir import LEDGER, LOG, RUN_JSON
from tests.runs import KEY, Desk, library
from tests.servers.contract import ContractServer
from tests.torture.witness import Witness, require, require_whole

Scene = Literal["new", "opened", "torn"]
Blow = Literal["SIGKILL", "EIO", "ENOSPC"]

CLASSES = tuple(
    {"name": f"class {number}", "prompts": [f"prompt {number}.{one}" for one in range(60)]} for number in range(2)
)
TOO_LONG = "video0008"
"""A video that goes alone, is refused, and so fails: without it there would be no failure to write down."""
ANSWERED = library(8)
LIBRARY = ANSWERED | {TOO_LONG: 40_000.0}
CONCURRENCY = 1
_DONE = 3
_SCENES: tuple[Scene, ...] = ("new", "opened", "torn")
_BLOWS: tuple[Blow, ...] = ("SIGKILL", "EIO", "ENOSPC")
_CALLS = (
    "write,pwrite64,writev,pwritev,pwritev2,fsync,fdatasync,msync,rename,renameat,renameat2,unlink,unlinkat,ftruncate,"
    "truncate,fallocate,mkdir,link,linkat"
)
_FILES = (
    *ROW_FILES,
    *(name for draft in (FAILURES, RUN_JSON) for name in (draft, f".{draft}.draft")),
    *(LEDGER + suffix for suffix in ("", "-wal", "-shm", "-journal")),
    LOG,
    ".",
    "..",
)
_LINE = re.compile(r"^(?:(\d+) +)?(\w+)\((.*)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Point:
    """The ``number``-th ``call`` on a file of the run directory, in a scene.

    ``closing``: it comes after ``run.json`` was written for the last time, when all that counts is durable.
    """

    scene: Scene
    call: str
    file: str
    number: int
    closing: bool = False


@dataclass(frozen=True, slots=True)
class InjectionReport:
    """What the injections did.

    ``missed`` are those whose call did not come, since what one commit holds is a matter of time; ``ignored`` are
    errors that nothing relies on.
    """

    points: int = 0
    runs: int = 0
    missed: int = 0
    ignored: int = 0
    repeated: int = 0

    def __add__(self, other: InjectionReport) -> InjectionReport:
        return InjectionReport(*map(add, astuple(self), astuple(other)))


class Bench:
    """Short runs against one platform, each from a copy of its scene's folder."""

    def __init__(self, folder: Path, server: ContractServer) -> None:
        self._folder = folder.resolve()
        self._server = server

    async def prepare(self) -> None:
        """Make the folders from which the scenes begin."""
        for scene in _SCENES:
            (self._folder / scene).mkdir(parents=True)
        new, opened, torn = (Desk(self._folder / scene) for scene in _SCENES)
        self._write_job(new)
        self._write_job(opened)
        (opened.folder / "ids.csv").write_text("video_id\nnot an id\n")
        require((await opened.command("run", opened.config)).exit_code == 2, "a bad line is not refused")
        opened.write_ids(LIBRARY)
        self._write_job(torn)
        before_the_second_sync = Point("opened", "fdatasync", VIDEOS, 2)
        exit_code, _ = await self._struck(torn, before_the_second_sync, "SIGKILL")
        require(exit_code == -signal.SIGKILL, f"the scene with torn rows was not made: {exit_code}")

    def _write_job(self, desk: Desk) -> None:
        desk.write_ids(LIBRARY)
        limits = {"limits__max_videos_per_post": 4, "limits__concurrency": CONCURRENCY}
        desk.write_config(self._server.url, CLASSES, job__page_limit=2, **limits)

    async def points(self) -> list[Point]:
        """Every call of an undisturbed run that concerns the run directory, in the order of their scenes."""
        found = []
        for scene in _SCENES:
            desk = self._copied(scene, "traced")
            exit_code, trace = await self._traced(desk, scene, _CALLS, _FILES)
            require(exit_code == _DONE, f"undisturbed: exit code {exit_code}: {desk.stderr}")
            found += _points(scene, trace, desk.out)
            shutil.rmtree(desk.folder)
        return found

    async def strike(self, point: Point, blow: Blow) -> InjectionReport:
        """Run once with the blow, look at what is left, and run to the end.

        Raises ``BrokenPromise``; then the run's folder is kept.
        """
        desk = self._copied(point.scene, f"{point.scene} {point.call} {point.file} {point.number} {blow}")
        witness = Witness(desk, self._server, CONCURRENCY)
        await witness.note_ending()
        exit_code, trace = await self._struck(desk, point, blow)
        await witness.note_ending()
        met = exit_code == -signal.SIGKILL if blow == "SIGKILL" else "(INJECTED)" in trace
        if met and blow != "SIGKILL":
            _check_exit(point, exit_code, desk.stderr)
        elif not met:
            require(exit_code == _DONE, f"not met, and exit code {exit_code}: {desk.stderr}")
        if exit_code == _DONE:
            self._check_end(desk)
        finished = await desk.command("run", desk.config)
        require(finished.exit_code == _DONE, f"the last run: exit code {finished.exit_code}: {finished.stderr}")
        await witness.note_ending()
        self._check_end(desk)
        repeated = witness.check_posts()
        shutil.rmtree(desk.folder)
        return InjectionReport(0, 1, not met, met and exit_code == _DONE, repeated)

    def _check_end(self, desk: Desk) -> None:
        require_whole(desk, self._server, ANSWERED, CLASSES, {TOO_LONG: "parameter_invalid"})

    def _copied(self, scene: Scene, name: str) -> Desk:
        return Desk(Path(shutil.copytree(self._folder / scene, self._folder / name)))

    async def _struck(self, desk: Desk, point: Point, blow: Blow) -> tuple[int, str]:
        kind = "signal" if blow == "SIGKILL" else "error"
        injection = f"inject={point.call}:{kind}={blow}:when={point.number}"
        return await self._traced(desk, point.scene, point.call, [point.file], "-e", injection)

    @staticmethod
    async def _traced(desk: Desk, scene: Scene, calls: str, files: Sequence[str], *injection: str) -> tuple[int, str]:
        """A run under strace; its exit code, and what was traced."""
        trace = desk.folder / "trace"
        paths = [str(desk.folder if name == ".." else desk.out / name) for name in files]
        command = [
            # Not --seccomp-bpf, which would be faster: with it, strace 6.1 does not deliver the signals.
            *("strace", "--quiet=all", "-y", "-o", str(trace), "-e", f"trace={calls}"),
            *(argument for path in paths for argument in ("-P", path)),
            *(["-f"] if scene == "opened" else []),
            *injection,
            *(sys.executable, "-m", "pipeline", "run", str(desk.config)),
        ]
        with (desk.folder / "stderr.txt").open("wb") as stderr:
            finished = await anyio.run_process(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                check=False,
                cwd=desk.folder,
                env=desk._environment({}),
            )
        return finished.returncode, trace.read_text(errors="replace")


def _points(scene: Scene, trace: str, out: Path) -> list[Point]:
    """The calls in a trace of one thread, or of all but the first where threads are followed.

    Raises ``BrokenPromise`` where a number means another thread's call, which comes first.
    """
    counts: Counter[tuple[str, str, str]] = Counter()
    met: set[tuple[str, str, int]] = set()
    points = []
    calls: list[tuple[str, str, str]] = _LINE.findall(trace)
    main_thread = calls[0][0]
    last_rename = max(place for place, (_, call, _) in enumerate(calls) if call.startswith("rename"))
    for place, (thread, call, arguments) in enumerate(calls):
        file = _file_in(arguments, out)
        counts[thread, call, file] += 1
        number = counts[thread, call, file]
        if not thread or thread != main_thread:
            require((call, file, number) not in met, f"call {number} of {call} on {file} cannot be met")
            points.append(Point(scene, call, file, number, place > last_rename))
        met.add((call, file, number))
    return points


def _file_in(arguments: str, out: Path) -> str:
    paths = re.findall(r'[<"](/[^">]+)[">]', arguments)
    return next(os.path.relpath(path, out) for path in paths if Path(path).is_relative_to(out.parent))


def _check_exit(point: Point, exit_code: int, stderr: str) -> None:
    where = f"{point}: exit code {exit_code}: {stderr[-2000:]}"
    require("Traceback" not in stderr, where)
    if exit_code == _DONE:
        require(_nothing_relies_on(point), where)
    else:
        require(exit_code == 74, where)
        require(sum(line.startswith("error: ") for line in stderr.splitlines()) == 1, where)


def _nothing_relies_on(point: Point) -> bool:
    # SQLite passes over errors of its own syncs of the directory; those of the run itself are by fsync, and count.
    return point.closing or point.file == LOG or (point.call, point.file) == ("fdatasync", ".")


async def torture(folder: Path, *, seed: int, most: int | None = None, lanes: int = 1) -> InjectionReport:
    """Strike at every point, or at ``most`` of them: then the first, the last, and others of different kinds.

    ``lanes`` runs go on at a time. Raises ``BrokenPromise``, in a group; then ``folder`` holds the runs that broke it.
    """
    reports: list[InjectionReport] = []
    async with AsyncExitStack() as opened:
        benches = []
        for lane in range(lanes):
            server = await opened.enter_async_context(ContractServer(LIBRARY, key=KEY, page_ttl_seconds=86_400))
            benches.append(Bench(folder / f"lane {lane + 1}", server))
            await benches[-1].prepare()
        points = await benches[0].points()
        strikes = _sample(points, most, random.Random(seed)) if most else list(product(points, _BLOWS))

        async def strike(bench: Bench, some: Sequence[tuple[Point, Blow]]) -> None:
            for point, blow in some:
                reports.append(await bench.strike(point, blow))

        async with anyio.create_task_group() as tasks:
            for lane, bench in enumerate(benches):
                tasks.start_soon(strike, bench, strikes[lane::lanes])
    return sum(reports, InjectionReport(points=len(points)))


def _sample(points: Sequence[Point], most: int, dice: random.Random) -> list[tuple[Point, Blow]]:
    by_kind = {(point.call, point.file): point for point in dice.sample(points, len(points))}
    chosen = dice.sample([*by_kind.values()], min(most - 2, len(by_kind)))
    return list(zip([points[0], *chosen, points[-1]], cycle(_BLOWS), strict=False))
