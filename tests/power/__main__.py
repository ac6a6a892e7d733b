"""The long run: ``python -m tests.power [--outcomes N] [--every N] [--gone-on-with N] [--seed N]``.

Records the run anew, cuts the power before every so many operations with so many random outcomes each, and goes on with
some of them by the real command. Exits with 1 where a promise was broken.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from tests.power.cuts import aftermaths, gone_on_with, record
from tests.runs import Desk, working_strace


def main() -> int:
    """Cut the power, and tell what broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.power", description=main.__doc__)
    parser.add_argument("--outcomes", type=int, default=5, help="random ones for each cut, beside the two extremes")
    parser.add_argument("--every", type=int, default=1, help="operations from one cut to the next")
    parser.add_argument("--gone-on-with", type=int, default=50, help="aftermaths that the real command goes on with")
    parser.add_argument("--seed", type=int, default=20260102)
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        return anyio.run(_cut, Path(folder), arguments)


async def _cut(folder: Path, arguments: argparse.Namespace) -> int:
    strace = working_strace()
    if strace is None:
        sys.exit("strace is needed")
    chance = random.Random(arguments.seed)
    (folder / "recorded").mkdir()
    recording = await record(Desk(folder / "recorded"), strace)
    length = len(recording.operations)
    cuts = sorted({*range(0, length, arguments.every), *recording.turning_points()})
    share = arguments.gone_on_with / (len(cuts) * (arguments.outcomes + 2))
    looked_at = broken = gone_on = 0
    for one in aftermaths(recording, cuts, chance, outcomes=arguments.outcomes):
        looked_at += 1
        broken += bool(one.problems)
        sys.stdout.writelines(f"cut before operation {one.cut} of {length}: {problem}\n" for problem in one.problems)
        if chance.random() < share:
            gone_on += 1
            with TemporaryDirectory() as desk:
                await gone_on_with(one, Desk(Path(desk)))
    sys.stdout.write(
        f"{length} operations, {len(recording.posts)} POSTs; "
        f"{looked_at} aftermaths, {gone_on} gone on with, {broken} broken\n"
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
