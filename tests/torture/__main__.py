"""The long form: ``python -m tests.torture``. Exit code 1, and the directory kept, at the first broken promise."""

from __future__ import annotations

import argparse
import secrets
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

import anyio

from tests.runs import working_strace
from tests.torture import injected, kills
from tests.torture.witness import BrokenPromise


def main() -> int:
    """Kill, then inject; print what came of it."""
    arguments = _arguments()
    seed = secrets.randbelow(1_000_000) if arguments.seed is None else arguments.seed
    folder = arguments.dir or Path(tempfile.mkdtemp(prefix="torture-"))
    _say(f"seed {seed}, in {folder}")
    broken: list[BaseException] = []
    try:
        _torture(folder, arguments, seed)
    except* BrokenPromise as group:
        broken = _leaves(group)
    for promise in broken:
        _say(f"BROKEN: {promise}")
    if broken:
        _say(f"kept for a look: {folder}; the same choices again: --seed {seed}")
        return 1
    shutil.rmtree(folder)
    return 0


def _torture(folder: Path, arguments: argparse.Namespace, seed: int) -> None:
    rows: list[tuple[str, int]] = []
    if arguments.kills:
        killed = anyio.run(
            partial(kills.torture, folder / "kills", seed=seed, kills=arguments.kills, videos=arguments.videos)
        )
        rows += [
            ("kills", killed.kills),
            ("runs that they hit", killed.runs),
            ("POSTs sent", killed.sent),
            ("POSTs planned", killed.planned),
            ("POSTs repeated because of a kill", killed.repeated),
            ("rows, each as undisturbed", killed.rows),
        ]
    if arguments.injections != 0 and working_strace():
        most = arguments.injections
        report = anyio.run(
            partial(injected.torture, folder / "injections", seed=seed, most=most, lanes=arguments.lanes)
        )
        rows += [
            ("injection points", report.points),
            ("runs with an injection", report.runs),
            ("injections whose call did not come", report.missed),
            ("injected errors that did not matter", report.ignored),
            ("POSTs repeated because of an injection", report.repeated),
        ]
    elif arguments.injections != 0:
        _say("there is no strace here: nothing is injected")
    for name, number in [*rows, ("broken promises", 0)]:
        _say(f"{name:40}{number:>8,}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _leaves(group: BaseException) -> list[BaseException]:
    if isinstance(group, BaseExceptionGroup):
        return [leaf for one in group.exceptions for leaf in _leaves(one)]
    return [group]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/torture", description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="random kills; 0 for none (%(default)s)")
    parser.add_argument("--seed", type=int, help="that of an earlier time (by default a fresh one)")
    parser.add_argument("--videos", type=int, default=240, help="videos of each run that is killed (%(default)s)")
    parser.add_argument(
        "--injections", type=int, metavar="N", help="so many injections of all kinds; 0 for none (by default all)"
    )
    parser.add_argument("--lanes", type=int, default=2, help="runs with an injection at a time (%(default)s)")
    parser.add_argument("--dir", type=Path, help="where to run (by default a fresh directory)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
