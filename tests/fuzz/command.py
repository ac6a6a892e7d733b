"""The long form, which ``scripts/fuzz`` starts: slices of the cases in as many processes as there are processors."""

from __future__ import annotations

import faulthandler
import os
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import click

from tests.fuzz.configurations import CONFIGURATIONS
from tests.fuzz.id_lists import ID_LISTS
from tests.fuzz.pages import PAGES
from tests.fuzz.running import Reader, Tally, fuzz

READERS: Mapping[str, Reader[Any]] = MappingProxyType({"ids": ID_LISTS, "pages": PAGES, "config": CONFIGURATIONS})
_SLICE = 2_500
# Where no disk needs to see every case.
_MEMORY = Path("/dev/shm")


@click.command()
@click.option("--cases", default=500_000, show_default=True, type=click.IntRange(1), help="Cases for each reader.")
@click.option("--seed", type=click.IntRange(0), help="What the cases are drawn from; by default another one each time.")
@click.option("--first", default=0, show_default=True, type=click.IntRange(0), help="The number of the first case.")
@click.option("--reader", "names", multiple=True, type=click.Choice(sorted(READERS)), help="Only this one; may repeat.")
@click.option("--processes", default=os.cpu_count() or 1, show_default=True, type=click.IntRange(1), help="At a time.")
def main(cases: int, seed: int | None, first: int, names: Sequence[str], processes: int) -> None:
    """Feed hostile input to the id readers, the page decoder and the config reader; exit 1 if one of them fails.

    To repeat a case: --reader NAME --seed SEED --first NUMBER --cases 1.
    """
    seed = secrets.randbelow(10**9) if seed is None else seed
    found = False
    for name in names or READERS:
        began = time.monotonic()
        tally = _in_processes(name, seed, range(first, first + cases), processes)
        click.echo(_line(name, seed, tally, time.monotonic() - began))
        for finding in tally.findings.values():
            click.echo(f"\n{name}, {finding}", err=True)
        found |= bool(tally.findings)
    sys.exit(found)


def _in_processes(name: str, seed: int, numbers: range, processes: int) -> Tally:
    tally = Tally()
    with ProcessPoolExecutor(processes, get_context("spawn"), initializer=faulthandler.enable) as pool:
        slices = [numbers[start : start + _SLICE] for start in range(0, len(numbers), _SLICE)]
        for part, running in [(part, pool.submit(_slice, name, seed, part)) for part in slices]:
            try:
                tally.add(running.result())
            except BrokenProcessPool:
                tally.findings[f"{part}"] = f"a process died at or soon after case {part.start} of seed {seed}"
                break
    return tally


def _slice(name: str, seed: int, numbers: range) -> Tally:
    with TemporaryDirectory(prefix="fuzz-", dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        return fuzz(READERS[name], seed, numbers, Path(folder))


def _line(name: str, seed: int, tally: Tally, seconds: float) -> str:
    return (
        f"{name}: {tally.cases} cases of seed {seed} in {seconds:.1f} s, {tally.cases / seconds:.0f} a second: "
        f"{tally.values} ended in a value, {tally.errors} in an error of ours, {tally.failures} in neither "
        f"(at most {tally.peak_bytes / 2**20:.1f} MiB held; the slowest, {tally.slowest_case}, "
        f"took {tally.slowest_seconds * 1000:.0f} ms)"
    )


if __name__ == "__main__":
    main()
