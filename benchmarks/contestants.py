"""Who is compared: each is a whole process, started by one command, whose rows can be counted afterwards.

Alternatives are scripts in ``alternatives/``, run by the interpreter of an environment of their own; the floor and this
pipeline run by the interpreter that runs the comparison.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from floor import CONFIG
from runs import HERE, UNLIMITED, chunks_of, write_ids

LONGEST_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Task:
    """``rate`` is in requests a second, 0 for no limit; the folder keeps what a second start goes on from."""

    port: int
    folder: Path
    videos: int
    videos_per_post: int
    rate: int = 0

    def write_input(self) -> None:
        (self.folder / "run.toml").write_text(CONFIG)
        write_ids(self.folder, self.videos)


@dataclass(frozen=True, slots=True)
class Contestant:
    """``needs`` are the distributions its script imports, the one it is about first; ``rows`` is where its rows are."""

    name: str
    script: str = ""
    needs: tuple[str, ...] = ()
    rows: str = "rows.jsonl"
    rows_per_video: int = 1

    def command(self, task: Task, python: str) -> list[str]:
        """The command that begins the task, and that goes on with it."""
        url = f"http://127.0.0.1:{task.port}"
        if self is FLOOR:
            numbers = (task.port, task.videos, task.videos_per_post)
            return [sys.executable, str(HERE / "bare_loop.py"), *map(str, numbers)]
        if self is OURS:
            run = [sys.executable, "-m", "pipeline", "run", "run.toml", "--out", "out", "--quiet", "--api-url", url]
            paced = ["--set", f"limits.requests_per_second={task.rate}"] if task.rate else []
            return [*run, *UNLIMITED, *chunks_of(task.videos_per_post), *paced]
        size = ["--videos-per-post", str(task.videos_per_post)]
        return [python, str(HERE / "alternatives" / self.script), url, "ids.txt", ".", *size, "--rate", str(task.rate)]


FLOOR = Contestant("bare aiohttp + orjson loop, which keeps nothing")
OURS = Contestant("bulk-classify", rows="out/scores.ndjson", rows_per_video=4)
ALTERNATIVES = (
    Contestant("vendor's SDK, one call after the other", "vendor_sdk.py", ("twelvelabs",)),
    Contestant("vendor's SDK, 16 threads", "vendor_sdk_threads.py", ("twelvelabs", "pyrate-limiter")),
    Contestant("httpx, 8 tasks", "httpx_tasks.py", ("httpx", "aiolimiter", "orjson", "sniffio", "stamina")),
    Contestant("dlt, 8 threads", "dlt_pipeline.py", ("dlt",), rows="rows/videos/*.jsonl"),
    Contestant("Scrapy with JOBDIR", "scrapy_spider.py", ("Scrapy",)),
    Contestant("requests and time.sleep", "throttled.py", ("requests", "orjson")),
)


def installed(python: str, distributions: Sequence[str]) -> dict[str, str]:
    """The versions of those of the distributions that this interpreter has."""
    script = """
import json, sys
from importlib.metadata import distributions
found = {one.name: one.version for one in distributions()}
print(json.dumps({name: found[name] for name in sys.argv[1:] if name in found}))
"""
    told = subprocess.run([python, "-c", script, *distributions], check=True, capture_output=True, text=True)
    versions: dict[str, str] = json.loads(told.stdout)
    return versions


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended; CPU is user and system, of its children too; a negative exit code is a signal."""

    exit_code: int
    wall_seconds: float
    cpu_seconds: float
    peak_megabytes: float


class Started:
    """A process that waits until it is told to go, so that its number can be told to others first."""

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        environment = {**os.environ, "TWELVELABS_API_KEY": "key", "PYTHONPATH": str(HERE.parent)}
        self._errors = folder / "errors.txt"
        with self._errors.open("ab") as errors:
            self._process = subprocess.Popen(
                ["sh", "-c", 'read -r _ && exec "$@"', "sh", *command],
                cwd=folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        self.pid = self._process.pid

    def go(self) -> Ended:
        """Let it run to its end, which comes by force after ``LONGEST_SECONDS``."""
        assert self._process.stdin is not None
        too_long = threading.Timer(LONGEST_SECONDS, self._process.kill)
        too_long.start()
        begun = time.perf_counter()
        with self._process.stdin as stdin:
            stdin.write(b"\n")
        _, status, usage = os.wait4(self.pid, 0)
        wall = time.perf_counter() - begun
        too_long.cancel()
        self._process.returncode = os.waitstatus_to_exitcode(status)
        peak = usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
        return Ended(self._process.returncode, wall, usage.ru_utime + usage.ru_stime, peak)

    def errors(self) -> str:
        return self._errors.read_text(errors="replace")[-2000:]


@dataclass(frozen=True, slots=True)
class Kept:
    """What is there in the end: videos without all their rows, rows that are there again, lines that are torn."""

    lost: int
    double: int
    torn: int


def kept(contestant: Contestant, task: Task) -> Kept:
    rows: Counter[tuple[str, str]] = Counter()
    torn = 0
    for path in task.folder.glob(contestant.rows):
        with path.open(errors="replace") as file:
            for line in file:
                try:
                    row = json.loads(line)
                except ValueError:
                    torn += 1
                else:
                    rows[row["video_id"], row.get("class_name", "")] += 1
    found = Counter(video_id for video_id, _ in rows)
    whole = sum(count == contestant.rows_per_video for count in found.values())
    return Kept(task.videos - whole, sum(count - 1 for count in rows.values()), torn)
