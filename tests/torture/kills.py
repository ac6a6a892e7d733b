"""Kills at random moments: from the start of the process, while it reads its input, to its very end.

A moment is chosen by what the platform has seen of this process, plus next to nothing, or by time alone. Faults are on
all the while: those that a good client bears without losing a video, two videos that do not exist, and two that are
longer than the id list says.
"""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Awaitable
from dataclasses import astuple, dataclass
from operator import add
from pathlib import Path

import anyio
from anyio.abc import Process

from tests.runs import KEY, Desk, library
from tests.servers.contract import (
    ContractServer,
    Cut,
    Delay,
    DuplicateVideo,
    ExpireToken,
    Fault,
    MissingVideos,
    NotJson,
    RequestSeen,
    Reset,
    Status,
)
from tests.torture.witness import Witness, require, require_whole

CONCURRENCY = 4
VIDEOS_A_POST = 12
CLASSES = tuple(
    {"name": f"class {number}", "prompts": [f"prompt {number}.{one}" for one in range(40)]} for number in range(5)
)
PROMPT_GROUPS = 3
_FAULT_SHARE = 0.08
_FAULTS: tuple[Fault, ...] = (
    Status(500),
    Status(502, b"<html>bad gateway</html>"),
    Status(503, b"", {"Retry-After": "0"}),
    Status(429, b"", {"Retry-After": "0"}),
    Reset(),
    Reset(executed=True),
    Reset(after_headers=True, executed=True),
    Cut(0.7),
    NotJson(),
    Delay(0.05),
    Delay(0.3),
    ExpireToken(),
    ExpireToken(),
    DuplicateVideo(),
    MissingVideos(),
    MissingVideos(),
)


@dataclass(frozen=True, slots=True)
class KillReport:
    """What the kills did, summed over all runs. ``planned`` POSTs are those of undisturbed runs."""

    kills: int = 0
    runs: int = 0
    sent: int = 0
    planned: int = 0
    repeated: int = 0
    rows: int = 0

    def __add__(self, other: KillReport) -> KillReport:
        return KillReport(*map(add, astuple(self), astuple(other)))


class Trouble:
    """Chooses the platform's faults, and tells who waits for a number of requests."""

    def __init__(self, dice: random.Random) -> None:
        self.totals_known = False
        self._dice = dice
        self._spared: set[tuple[str, tuple[str, ...]]] = set()
        self._to_come = 0
        self._arrived = anyio.Event()

    async def requests(self, count: int) -> None:
        """Wait until that many more requests have arrived."""
        self._to_come = count
        self._arrived = anyio.Event()
        await self._arrived.wait()

    def __call__(self, seen: RequestSeen) -> Fault | None:
        self._to_come -= 1
        if self._to_come == 0:
            self._arrived.set()
        fault = self._dice.choice(_FAULTS) if self._dice.random() < _FAULT_SHARE else None
        walk = (seen.kind, seen.video_ids)
        # A client may give up on the parts of a split chunk after one failure, and on anything that fails again and
        # again; and two walks that end short before one that does not are taken for a platform that counts otherwise.
        if len(seen.video_ids) < VIDEOS_A_POST / 2 or walk in self._spared:
            fault = None
        if isinstance(fault, MissingVideos) and not self.totals_known:
            fault = None
        self._spared.discard(walk)
        if fault:
            self._spared.add(walk)
        return fault


async def torture(folder: Path, *, seed: int, kills: int, videos: int) -> KillReport:
    """Run after run in ``folder``, each killed until it ends by itself, until there were so many kills.

    Raises ``BrokenPromise``; then ``folder`` holds the run that broke it, and no other.
    """
    dice = random.Random(seed)
    report = KillReport()
    while report.kills < kills:
        desk = Desk(folder / f"run {report.runs + 1}")
        desk.folder.mkdir(parents=True)
        report += await _killed_run(desk, dice, kills - report.kills, videos)
        shutil.rmtree(desk.folder)
    return report


async def _killed_run(desk: Desk, dice: random.Random, most_kills: int, count: int) -> KillReport:
    listed = library(count)
    poisoned = dice.sample(sorted(listed)[VIDEOS_A_POST:], 2)
    existing = {one: seconds for one, seconds in listed.items() if one not in poisoned}
    long = dice.randrange(count // VIDEOS_A_POST) * VIDEOS_A_POST
    existing |= {one: 20_000.0 for one in sorted(listed)[long : long + 2] if one in existing}
    trouble = Trouble(dice)
    async with ContractServer(existing, key=KEY, faults=trouble) as server:
        desk.write_ids(listed)
        settings = {"max_videos_per_post": VIDEOS_A_POST, "concurrency": CONCURRENCY, "max_unknown_posts": 1000}
        desk.write_config(
            server.url, CLASSES, job__page_limit=4, **{f"limits__{name}": value for name, value in settings.items()}
        )
        witness = Witness(desk, server, CONCURRENCY)
        kills = await _kill_until_it_ends(desk, witness, trouble, dice, most_kills)
        rows = require_whole(desk, server, existing, CLASSES, dict.fromkeys(poisoned, "resource_not_exist"))
        planned = -(-count // VIDEOS_A_POST) * PROMPT_GROUPS
        return KillReport(kills, 1, len(witness.posts), planned, witness.check_posts(), rows)


async def _kill_until_it_ends(
    desk: Desk, witness: Witness, trouble: Trouble, dice: random.Random, most_kills: int
) -> int:
    kills = 0
    seconds_to_start = 0.0
    while True:
        began_at = anyio.current_time()
        process = await desk.start("run", desk.config)
        if kills < most_kills and not seconds_to_start:
            await _unless_ended(process, trouble.requests(1))
            seconds_to_start = anyio.current_time() - began_at
        elif kills < most_kills and dice.random() < 0.4:
            await _unless_ended(process, anyio.sleep(dice.uniform(0, 1.3 * seconds_to_start)))
        elif kills < most_kills:
            await _unless_ended(process, trouble.requests(dice.randint(1, 30)))
            await _unless_ended(process, anyio.sleep(dice.uniform(0, 0.02)))
        if kills < most_kills and process.returncode is None:
            process.kill()
        exit_code = await process.wait()
        ending = await witness.note_ending()
        trouble.totals_known |= ending.answered_videos > 0
        if exit_code != -signal.SIGKILL:
            require(exit_code == 3, f"exit code {exit_code}: {desk.stderr[-2000:]}")
            return kills
        kills += 1


async def _unless_ended(process: Process, moment: Awaitable[None]) -> None:
    """Wait for a moment, or for the process's end if that comes first."""
    async with anyio.create_task_group() as tasks:

        async def wait() -> None:
            await process.wait()
            tasks.cancel_scope.cancel()

        tasks.start_soon(wait)
        await moment
        tasks.cancel_scope.cancel()
