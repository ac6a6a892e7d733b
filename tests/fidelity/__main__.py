"""The long form, which ``scripts/fidelity`` starts: random requests, then schemathesis."""

from __future__ import annotations

import secrets
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from tests.fidelity.asking import KEY, Tally, ask, asker
from tests.fidelity.conformity import conformity
from tests.fidelity.library import library, short_library

_REQUESTS_OF_A_LIBRARY = 500


@click.command()
@click.option("--requests", default=10_000, show_default=True, type=click.IntRange(0), help="Random requests.")
@click.option(
    "--cases", default=500, show_default=True, type=click.IntRange(0), help="Schemathesis' for each operation."
)
@click.option("--seed", type=click.IntRange(0), help="What they are drawn from; by default another one each time.")
def main(requests: int, cases: int, seed: int | None) -> None:
    """Ask the local platform at random; exit 1 if it answers one request wrong."""
    seed = secrets.randbelow(2**32) if seed is None else seed
    click.echo(f"seed {seed}")
    _ask_libraries(requests, seed)
    if cases:
        _check_conformity(cases, seed)


def _ask_libraries(requests: int, seed: int) -> None:
    total = Tally()
    for first in range(0, requests, _REQUESTS_OF_A_LIBRARY):
        number = seed + first
        with asker(library(number)) as one:
            ask(one, min(_REQUESTS_OF_A_LIBRARY, requests - first), number)
        total.add(one.tally)
        click.echo(
            f"{total.requests} requests: {total.answered} with videos, {total.empty} without, {total.refused} refused"
        )


def _check_conformity(cases: int, seed: int) -> None:
    with TemporaryDirectory() as folder, asker(short_library(seed), thumbnails=True) as one:
        done = conformity(one.url, KEY, cases=cases, seed=seed, folder=Path(folder))
    click.echo(done.stdout + done.stderr)
    if done.returncode:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
