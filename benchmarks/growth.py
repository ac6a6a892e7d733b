"""How cost grows: with videos, with requests at once, with classes, with clips; ``--quick`` for a smoke test.

One thing grows at a time, the rest stays. A table says what each size costs, and in its last column what that is for
each unit of work: where that rises from line to line, cost grows faster than the work. ``--only`` measures some of it,
``--chart FILE`` draws what was measured. A million videos take some minutes and 3.5 GB of temporary files.

A run of many videos is stopped by its budget when 99 % of its POSTs are made (a small one when four are left), and gone
on with three times, for one more POST each: from the start of the process to the arrival of that POST at the server.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from chart import Line, Panel, drawn
from runs import (
    Cost,
    Server,
    Told,
    chunks_of,
    fast_server,
    head,
    ledger_bytes,
    row,
    timed,
    write_config,
    write_durations,
    write_ids,
)

LATENCY = 0.1
RESUMES = 3
MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Sizes:
    """What is measured: numbers of videos, of requests at once, and of classes, and the videos of the other tables."""

    videos: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    at_once: tuple[int, ...] = (1, 4, 16, 64, 256)
    classes: tuple[int, ...] = (1, 10, 100, 200, 500)
    videos_with_classes: int = 1_000
    videos_with_clips: int = 20_000
    most_posts: int = 2_000


QUICK = Sizes((1_000,), (16,), (1, 200), 100, 200, 20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--chart", type=Path)
    given = parser.parse_args()
    sizes = QUICK if given.quick else Sizes()
    panels = []
    for name in given.only:
        print(f"\nLoad of the machine before it: {os.getloadavg()[0]:.1f}\n")
        panels += TABLES[name](sizes)
    if given.chart:
        given.chart.write_text(drawn(panels), "utf-8")


def by_videos(sizes: Sizes) -> list[Panel]:
    head(
        "videos", "POSTs", "CPU", "peak memory", "ledger", "rows", "resume to its first request", "CPU per 1,000 videos"
    )
    cpu, memory, resumes = [], [], []
    with fast_server() as server:
        for videos in sizes.videos:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                write_config(folder, ids="ids.csv")
                write_durations(folder, videos)
                posts, cost = nearly_all(folder, server)
                began = [first_request(folder, server, posts + number) for number in range(1, RESUMES + 1)]
                rows = sum(path.stat().st_size for path in (folder / "out").glob("*.ndjson"))
                row(
                    *(f"{videos:,}", f"{posts:,}", f"{cost.cpu_seconds:.2f} s", f"{cost.peak_bytes / MB:.0f} MB"),
                    *(f"{ledger_bytes(folder) / MB:.1f} MB", f"{rows / MB:,.0f} MB"),
                    *(f"{median(began):.2f} s", f"{cost.cpu_seconds / videos * 1e6:.0f} ms"),
                )
            cpu.append((videos, cost.cpu_seconds))
            memory.append((videos, cost.peak_bytes / MB))
            resumes.append((videos, median(began)))
    return [
        Panel("videos", "seconds", (Line("CPU of the run", cpu), Line("resume to its first request", resumes))),
        Panel("videos", "MB", (Line("peak memory", memory),)),
    ]


def nearly_all(folder: Path, server: Server) -> tuple[int, Cost]:
    """A run that stops when 99 % of its POSTs are made: how many those are, and what it cost."""
    timed(["-m", "pipeline", "plan", "run.toml", "--json", "--api-url", server.url], folder)
    planned = re.search(r'"posts": *(\d+)', (folder / "output").read_text())
    assert planned
    posts = min(int(planned[1]) * 99 // 100, int(planned[1]) - RESUMES - 1)
    cost = timed([*run_at(server), "--set", f"limits.max_posts={posts}"], folder, exit_code=75)
    assert server.told().posts == posts
    return posts, cost


def first_request(folder: Path, server: Server, most_posts: int) -> float:
    """Seconds from the start of a process that goes on with a run to its first POST, of which there is one."""
    budget = ["--set", f"limits.max_posts={most_posts}"]
    cost = timed(["-m", "pipeline", "resume", "out", "--quiet", *budget], folder, exit_code=75)
    return server.told().first - cost.began


def by_requests(sizes: Sizes) -> list[Panel]:
    head("latency", "requests at once", "POSTs", "POSTs a second", "by the ideal", "CPU per POST")
    lines = []
    for latency in (LATENCY, 0.0):
        points = []
        with fast_server(latency) as server:
            for at_once in sizes.at_once:
                posts = min(100 * at_once, sizes.most_posts)  # ten seconds of latency
                cost, told = ten_a_post(server, posts, "--set", f"limits.concurrency={at_once}")
                ratio = f"{told.seconds / (posts * latency / at_once):.2f}" if latency else ""
                points.append((at_once, posts / told.seconds))
                row(
                    *(f"{latency * 1000:.0f} ms", at_once, f"{posts:,}", f"{posts / told.seconds:,.0f}", ratio),
                    f"{cost.cpu_seconds / posts * 1000:.2f} ms",
                )
        lines.append(Line(f"{latency * 1000:.0f} ms of latency", points))
    return [Panel("requests at once", "POSTs a second", tuple(lines))]


def ten_a_post(server: Server, posts: int, *settings: str, include_clips: bool = True) -> tuple[Cost, Told]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_config(folder, include_clips=include_clips)
        write_ids(folder, 10 * posts)
        cost = timed([*run_at(server), *chunks_of(10), *settings], folder)
        return cost, server.told()


def by_classes(sizes: Sizes) -> list[Panel]:
    head("classes", "prompt groups", "POSTs", "rows", "CPU", "peak memory", "CPU per 1,000 rows")
    cpu = []
    with fast_server() as server:
        for classes in sizes.classes:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                write_config(folder, classes=classes)
                write_ids(folder, sizes.videos_with_classes)
                cost = timed([*run_at(server), *chunks_of(50)], folder)
                posts, rows = server.told().posts, 3 * classes * sizes.videos_with_classes
                cpu.append((classes, cost.cpu_seconds))
                row(
                    *(classes, -(-classes // 100), f"{posts:,}", f"{rows:,}", f"{cost.cpu_seconds:.2f} s"),
                    *(f"{cost.peak_bytes / MB:.0f} MB", f"{cost.cpu_seconds / rows * 1e6:.1f} ms"),
                )
    return [Panel("classes", "seconds", (Line(f"CPU, {sizes.videos_with_classes:,} videos", cpu),))]


def by_clips(sizes: Sizes) -> list[Panel]:
    head("clips", "videos", "rows", "CPU", "peak memory", "CPU per 1,000 videos")
    videos = sizes.videos_with_clips
    with fast_server() as server:
        for clips in (False, True):
            cost, _ = ten_a_post(server, videos // 10, include_clips=clips)
            row(
                *("yes" if clips else "no", f"{videos:,}", f"{videos * (1 + 4 + 8 * clips):,}"),
                *(f"{cost.cpu_seconds:.2f} s", f"{cost.peak_bytes / MB:.0f} MB"),
                f"{cost.cpu_seconds / videos * 1e6:.0f} ms",
            )
    return []


def run_at(server: Server) -> list[str]:
    return ["-m", "pipeline", "run", "run.toml", "--quiet", "--api-url", server.url]


TABLES: dict[str, Callable[[Sizes], list[Panel]]] = {
    "videos": by_videos,
    "requests": by_requests,
    "classes": by_classes,
    "clips": by_clips,
}


if __name__ == "__main__":
    main()
