"""The commands about what came of a run, as ``cli`` has the others: from its directory alone, also while it goes on."""

# ruff: noqa: PLC0415 - as in cli: --help is answered at once

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import click

from pipeline import completion
from pipeline.command_line import DIRECTORY, PATH, as_json_option, example, option, tell


@click.command(epilog=example("status runs/overnight", "status runs/overnight --json"))
@DIRECTORY
@as_json_option
def status(directory: Path, as_json: bool) -> None:
    """Tell how the run in DIRECTORY stands, also while it goes on."""
    from pipeline.status import in_words, status_of

    tell(status_of(directory), in_words, as_json=as_json)


@click.command(epilog=example("verify runs/overnight"))
@DIRECTORY
@as_json_option
def verify(directory: Path, as_json: bool) -> None:
    """Prove that input, ledger and files in DIRECTORY agree; exit 1 and a list where they do not."""
    from pipeline.verify import in_words
    from pipeline.verify import verify as verified

    report = verified(directory)
    tell(report, in_words, as_json=as_json)
    if report.found:
        sys.exit(1)


@click.command(epilog=example("report runs/quickstart"))
@DIRECTORY
@option("--to", type=PATH, metavar="FILE", help="Where the page goes.", without="DIRECTORY/report.html")
@option(
    "--video",
    "wanted",
    multiple=True,
    metavar="ID",
    help="A video whose timeline the page must have; repeatable.",
    without="the best of each class",
)
def report(directory: Path, to: Path | None, wanted: Sequence[str]) -> None:
    """Make one HTML page of the run in DIRECTORY, also while it goes on: what it brought, cost and missed.

    The page needs nothing else: no network, no other file. Its path is printed.
    """
    from pipeline.report.document import document
    from pipeline.report.facts import facts_of
    from pipeline.report.writing import write_page

    page = to or directory / "report.html"
    write_page(page, document(facts_of(directory, wanted=wanted), now=time.time()))
    click.echo(bytes(page))  # a path need not be Unicode


@click.command(
    epilog=example("export runs/overnight --to tables --format parquet", "export runs/a runs/b --to videos.duckdb")
)
@click.argument(
    "directories", nargs=-1, required=True, type=PATH, metavar="DIRECTORY...", shell_complete=completion.run_directories
)
@option(
    "--to",
    "target",
    required=True,
    type=PATH,
    metavar="TARGET",
    help="A folder, or a file that ends in .duckdb.",
)
@option(
    "--format",
    "form",
    type=click.Choice(["parquet", "csv"]),
    help="The form of the files in a folder.",
    without="DuckDB, for a file",
)
@as_json_option
def export(directories: Sequence[Path], target: Path, form: Literal["parquet", "csv"] | None, as_json: bool) -> None:
    """Add the committed rows of runs to TARGET for analytics, also while they go on; again, only what is new."""
    from pipeline.export import export as exported
    from pipeline.export import in_words

    tell(exported(directories, target, form), in_words, as_json=as_json)
