"""How near a run comes to the time that its POSTs must take; ``--quick`` for a smoke test.

The server answers 100 ms after a POST came, so no client can need less than the latency times the POSTs, divided by how
many are under way at once. Beside each run stands the bare loop, which keeps nothing, in turn with it: what that is
above the ideal is the server's and the machine's. The POSTs are from the first one's arrival to the last one's answer,
as the server saw them; the whole is the process, from its start to its end. Ratios are of one round; what is printed is
their median.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from statistics import median

from runs import HERE, Server, chunks_of, fast_server, head, row, timed, write_config, write_ids

LATENCY = 0.1
CHUNK = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[8, 32, 128])
    parser.add_argument("--videos", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    videos, rounds, most = (200, 2, [8]) if given.quick else (given.videos, given.rounds, given.concurrency)
    head("concurrency", "POSTs", "ideal", "POSTs by the ideal", "whole run", "bare loop's POSTs", "CPU", "load")
    with fast_server(LATENCY) as server:
        for concurrency in most:
            measure(server, videos, concurrency, rounds)


def measure(server: Server, videos: int, concurrency: int, rounds: int) -> None:
    ideal = videos / CHUNK * LATENCY / concurrency
    posting, whole, bare, cpu = [], [], [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_config(folder)
            write_ids(folder, videos)
            numbers = map(str, (server.port, videos, CHUNK, concurrency))
            timed([str(HERE / "bare_loop.py"), *numbers], folder)
            bare.append(server.told().seconds / ideal)
            run = ["-m", "pipeline", "run", "run.toml", "--quiet", "--api-url", server.url, *chunks_of(CHUNK)]
            cost = timed([*run, "--set", f"limits.concurrency={concurrency}"], folder)
            posting.append(server.told().seconds / ideal)
            whole.append(cost.seconds / ideal)
            cpu.append(cost.cpu_seconds)
    row(
        *(concurrency, f"{videos // CHUNK:,}", f"{ideal:.2f} s", spread(posting), spread(whole), spread(bare)),
        *(f"{median(cpu):.2f} s", f"{os.getloadavg()[0]:.1f}"),
    )


def spread(ratios: list[float]) -> str:
    return f"{median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


if __name__ == "__main__":
    main()
