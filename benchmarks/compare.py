"""This pipeline beside what people would use instead, on the same work; ``--quick`` for a smoke test.

Prints the tables of ``README.md``. All ask one server, a process of its own, in turn, and in rounds, so that a busy
minute hits each of them. What speed does not tell is counted by the server, and in the rows that are there in the end:
after a kill and a second start, under a limit, and under faults.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from contestants import ALTERNATIVES, FLOOR, OURS, Contestant, Ended, Kept, Started, Task, installed, kept
from runs import HERE


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is done: videos and rounds of the speed tables, kills, and POSTs of each question."""

    videos: int
    rounds: int
    kills: int
    kill_posts: int
    rate_posts: int
    fault_posts: int
    fault_share: float


FULL = Sizes(videos=20_000, rounds=3, kills=5, kill_posts=200, rate_posts=400, fault_posts=2_000, fault_share=0.01)
QUICK = Sizes(videos=100, rounds=1, kills=1, kill_posts=20, rate_posts=10, fault_posts=10, fault_share=0.1)
RATE = 50
KEPT_AND_PAID = ("rows double", "POSTs paid twice")


class Server:
    """The counting server; see there what can be planned."""

    def __init__(self, port: int) -> None:
        self.port = port

    def plan(self, **plan: object) -> None:
        body = json.dumps(plan).encode()
        with urllib.request.urlopen(
            urllib.request.Request(f"http://127.0.0.1:{self.port}/plan", data=body, method="PUT")
        ):
            pass

    def counts(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/counts") as answer:
            counts: dict[str, Any] = json.load(answer)
        return counts


@contextmanager
def counting_server() -> Iterator[Server]:
    process = subprocess.Popen([sys.executable, HERE / "counting_server.py"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield Server(int(process.stdout.readline()))
    finally:
        process.terminate()
        process.wait()


@dataclass(frozen=True, slots=True)
class Arena:
    """The server, the interpreter of the alternatives, and who takes part."""

    server: Server
    python: str
    alternatives: tuple[Contestant, ...]

    @contextmanager
    def task(self, videos: int, videos_per_post: int, rate: int = 0) -> Iterator[Task]:
        with tempfile.TemporaryDirectory() as folder:
            task = Task(self.server.port, Path(folder), videos, videos_per_post, rate)
            task.write_input()
            yield task

    def start(self, contestant: Contestant, task: Task) -> Started:
        return Started(contestant.command(task, self.python), task.folder)


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def timed(arena: Arena, contestant: Contestant, videos: int, videos_per_post: int) -> Ended:
    """A run without limit, latency or fault, whose rows must all be there."""
    with arena.task(videos, videos_per_post) as task:
        arena.server.plan()
        started = arena.start(contestant, task)
        ended = started.go()
        if ended.exit_code or (contestant is not FLOOR and kept(contestant, task) != Kept(0, 0, 0)):
            raise SystemExit(f"{contestant.name}: exit code {ended.exit_code}\n{started.errors()}")
    return ended


def speed(arena: Arena, sizes: Sizes, videos_per_post: int) -> Iterator[str]:
    everyone = (FLOOR, OURS, *arena.alternatives)
    ends: dict[str, list[Ended]] = {one.name: [] for one in everyone}
    for number in range(sizes.rounds):
        for one in everyone if number % 2 == 0 else reversed(everyone):
            ends[one.name].append(timed(arena, one, sizes.videos, videos_per_post))
            say(f"{videos_per_post} a POST, round {number + 1}: {one.name}: {ends[one.name][-1].wall_seconds:.1f} s")
    yield f"{sizes.videos:,} videos, {videos_per_post} a POST, median of {sizes.rounds} (range):"
    yield ""
    yield row("", "wall, s", "CPU, s", "CPU by the floor's", "wall by bulk-classify's", "peak memory")
    yield "|---|---|---|---|---|---|"
    for one in everyone:
        mine, floor, ours = ends[one.name], ends[FLOOR.name], ends[OURS.name]
        cpu = [end.cpu_seconds / other.cpu_seconds for end, other in zip(mine, floor, strict=True)]
        wall = [end.wall_seconds / other.wall_seconds for end, other in zip(mine, ours, strict=True)]
        cells = [
            spread([end.wall_seconds for end in mine]),
            spread([end.cpu_seconds for end in mine]),
            spread(cpu),
            spread(wall),
            f"{median(end.peak_megabytes for end in mine):.0f} MB",
        ]
        yield row(one.name, *cells)


def spread(numbers: Sequence[float]) -> str:
    return f"{median(numbers):.2f} ({min(numbers):.2f} to {max(numbers):.2f})"


def row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


@dataclass(frozen=True, slots=True)
class Restarted:
    """What a kill and a second start left."""

    kept: Kept
    paid_again: int
    exit_code: int


def kills(arena: Arena, sizes: Sizes, contestants: Sequence[Contestant]) -> Iterator[str]:
    yield (
        f"{sizes.kill_posts} POSTs of 10 videos, 20 ms each; SIGKILL when about a third of them have arrived, then "
        f"the same command again; sums over {sizes.kills} kills:"
    )
    yield ""
    yield row("", "videos without rows", "lines torn", *KEPT_AND_PAID, "exit code of the second start")
    yield "|---|---|---|---|---|---|"
    for one in contestants:
        ends = [restarted(arena, one, sizes.kill_posts, seed) for seed in range(sizes.kills)]
        say(f"killed {sizes.kills} times: {one.name}")
        counted = [(end.kept.lost, end.kept.torn, end.kept.double, end.paid_again) for end in ends]
        sums = [sum(column) for column in zip(*counted, strict=True)]
        yield row(one.name, *sums, ", ".join(sorted({str(end.exit_code) for end in ends})))


def restarted(arena: Arena, contestant: Contestant, posts: int, seed: int) -> Restarted:
    kill_at = round(posts * random.Random(seed).uniform(0.3, 0.37))
    with arena.task(posts * 10, 10) as task:
        first = arena.start(contestant, task)
        arena.server.plan(latency_seconds=0.02, kill=first.pid, kill_at=kill_at)
        if first.go().exit_code != -9:
            raise SystemExit(f"{contestant.name}: it ended before it was killed\n{first.errors()}")
        arena.server.plan(latency_seconds=0.02, new_account=False)
        second = arena.start(contestant, task).go()
        return Restarted(kept(contestant, task), arena.server.counts()["paid_again"], second.exit_code)


def rates(arena: Arena, sizes: Sizes, contestants: Sequence[Contestant]) -> Iterator[str]:
    yield (
        f"{sizes.rate_posts} POSTs at {RATE} a second, each up to 2 ms on its way; how many of them a strict "
        "sliding second would refuse:"
    )
    yield ""
    yield row("", "refused", "share of the rate")
    yield "|---|---|---|"
    for one in contestants:
        with arena.task(sizes.rate_posts, 1, RATE) as task:
            arena.server.plan(rate=float(RATE), jitter_seconds=0.002)
            arena.start(one, task).go()
        counts = arena.server.counts()
        say(f"at {RATE} a second: {one.name}")
        share = (counts["posts"] - 1) / (counts["last"] - counts["first"]) / RATE
        yield row(one.name, counts["refused"], f"{share:.0%}")


def faults(arena: Arena, sizes: Sizes, contestants: Sequence[Contestant]) -> Iterator[str]:
    yield (
        f"{sizes.fault_posts:,} POSTs of 2 videos, of which {sizes.fault_share:.0%} end in a 500, an empty 429 or a "
        "reset after the answer was paid for; then the same command again, without faults:"
    )
    yield ""
    yield row("", "faults met", "videos without rows", "exit code", "and after the second start", *KEPT_AND_PAID)
    yield "|---|---|---|---|---|---|---|"
    for one in contestants:
        with arena.task(2 * sizes.fault_posts, 2) as task:
            arena.server.plan(fault_share=sizes.fault_share)
            ended = arena.start(one, task).go()
            first, before = kept(one, task), arena.server.counts()
            arena.server.plan(new_account=False)
            arena.start(one, task).go()
            second, after = kept(one, task), arena.server.counts()
        say(f"with faults: {one.name}")
        paid_again = before["paid_again"] + after["paid_again"]
        yield row(one.name, before["faults"], first.lost, ended.exit_code, second.lost, second.double, paid_again)


def machine(versions: dict[str, str]) -> str:
    named = ", ".join(f"{name} {version}" for name, version in sorted(versions.items(), key=str))
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), {platform.system()} {platform.release()}, Python "
        f"{platform.python_version()}; {named}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has the alternatives")
    given = parser.parse_args()
    sizes = QUICK if given.quick else FULL
    versions = installed(given.python, sorted({name for one in ALTERNATIVES for name in one.needs}))
    at_hand = tuple(one for one in ALTERNATIVES if set(one.needs) <= versions.keys())
    load = os.getloadavg()[0]
    with counting_server() as server:
        arena = Arena(server, given.python, at_hand)
        asked = (OURS, *(at_hand[-1:] if given.quick else at_hand))
        tables = [list(speed(arena, sizes, size)) for size in ((10,) if given.quick else (10, 100))]
        tables += [list(question(arena, sizes, asked)) for question in (kills, rates, faults)]
    print(f"{machine(versions)}; load {load:.1f} at the start, {os.getloadavg()[0]:.1f} at the end.")
    for table in tables:
        print("", *table, sep="\n")


if __name__ == "__main__":
    main()
