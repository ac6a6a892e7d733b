"""Runs of the command as benchmarks make them: a config, ids, a process of its own, and what it took.

Moments are by the system's steady clock, as the fast server's are; memory is the most that a process held, as the
operating system counts it (its ``VmHWM``).
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
UNLIMITED = ("--set", "limits.tariff=none")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one process took: when it began and ended, user and system seconds, bytes."""

    began: float
    ended: float
    cpu_seconds: float
    peak_bytes: int

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass(frozen=True, slots=True)
class Told:
    """What the server saw: POSTs, the most under way at once, the first one's arrival, the last one's answer."""

    posts: int
    at_once: int
    first: float
    last: float

    @property
    def seconds(self) -> float:
        return self.last - self.first


class Server:
    """The fast server, running."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def told(self) -> Told:
        """What came since this was last asked; at least one POST."""
        with urllib.request.urlopen(f"{self.url}/told") as answer:
            return Told(**json.load(answer))


@contextmanager
def fast_server(latency: float = 0.0) -> Iterator[Server]:
    """A server that answers after so many seconds."""
    command = [sys.executable, str(HERE / "fast_server.py"), "--latency", str(latency)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Server(int(process.stdout.readline()))
        finally:
            process.terminate()


def timed(command: Sequence[str], folder: Path, *, exit_code: int = 0) -> Cost:
    """What a Python command costs, from its start to its end, in this folder."""
    environment = {**os.environ, "TWELVELABS_API_KEY": "key", "PYTHONPATH": str(HERE.parent)}
    began = time.monotonic()
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        _, status, used = os.wait4(process.pid, 0)
    ended = time.monotonic()
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == exit_code, (process.returncode, (folder / "output").read_text()[-2000:])
    return Cost(began, ended, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


def write_config(folder: Path, *, classes: int = 4, include_clips: bool = True, ids: str = "ids.txt") -> None:
    """A job of so many classes with one prompt each, whose thresholds let everything through."""
    names = ", ".join(f'{{name = "class {number}", prompts = ["prompt {number}"]}}' for number in range(classes))
    told = str(include_clips).lower()
    (folder / "run.toml").write_text(
        f'[job]\noptions = ["visual"]\ninclude_clips = {told}\nshow_detailed_score = {told}\npage_limit = 50\n'
        "threshold = {min_video_score = 1, min_clip_score = 1, min_duration_ratio = 0.01}\n"
        f'classes = [{names}]\n[input]\nids = ["{ids}"]\n[limits]\ntariff = "none"\n[output]\ndir = "out"\n'
    )


def write_ids(folder: Path, videos: int) -> None:
    """``ids.txt``, without durations."""
    (folder / "ids.txt").write_text("".join(f"{number:024x}\n" for number in range(videos)))


def write_durations(folder: Path, videos: int) -> None:
    """``ids.csv``, with durations as real ones are spread: about 91 videos in ten hours."""
    dice = random.Random(1)
    with (folder / "ids.csv").open("w") as ids:
        ids.write("video_id,duration_seconds\n")
        for number in range(videos):
            ids.write(f"{number:024x},{min(dice.lognormvariate(5.48, 1), 7_200):.3f}\n")


def chunks_of(videos: int) -> list[str]:
    """So many videos of unknown duration in a POST, and never more: a run widens as long as nothing is refused."""
    return [
        *("--set", f"limits.default_videos_per_post={videos}"),
        *("--set", f"limits.max_videos_per_post={videos}"),
    ]


def ledger_bytes(folder: Path) -> int:
    """The ledger's files in a run directory."""
    return sum(path.stat().st_size for path in (folder / "out").glob("ledger.sqlite*"))


def head(*columns: str) -> None:
    """The head of a table."""
    row(*columns)
    print("|---" * len(columns) + "|", flush=True)


def row(*cells: object) -> None:
    """A line of it."""
    print("|", " | ".join(map(str, cells)), "|", flush=True)
