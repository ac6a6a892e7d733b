"""``scripts/screenshots``: every part makes its pictures in one folder."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.screenshots import report, terminal

PARTS: Mapping[str, Callable[[Path], Iterator[Path]]] = {"report": report.pictures, "terminal": terminal.take}
"""What there are pictures of. Each part takes the folder, and yields the path of each picture that it has made."""


def main() -> None:
    """Make the pictures of all parts, or of those that are named."""
    parser = argparse.ArgumentParser(prog="scripts/screenshots", description=main.__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="PART", help=f"one of {', '.join(PARTS)}")
    parser.add_argument("--to", type=Path, default=Path("runs/screenshots"), metavar="FOLDER", help="it is made anew")
    arguments = parser.parse_args()
    shutil.rmtree(arguments.to / "runs", ignore_errors=True)
    arguments.to.mkdir(parents=True, exist_ok=True)
    for part in arguments.parts or PARTS:
        for picture in PARTS[part](arguments.to):
            print(picture, flush=True)  # noqa: T201 - what was asked for


if __name__ == "__main__":
    main()
