"""The command line: parse, call, print, exit. What a command does is in the module that it calls.

Modules are imported inside the commands, so that ``--help`` and a typing mistake are answered at once. What was asked
for goes to stdout, all else to stderr.
"""

# ruff: noqa: PLC0415 - see above

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline import __version__
from pipeline.command_line import (
    NOTHING_ASKED,
    PATH,
    as_json_option,
    embedder_of,
    embedder_options,
    environment,
    order_of,
    print_json,
    quiet_option,
    set_option,
    settings_of,
    tell,
)
from pipeline.errors import Interrupted, StopRun, StorageError
from pipeline.index_commands import index, quickstart

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.run import Retry

_log_level = click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="Which events go to run.log.",
)


def _config_of_a_run(command: Callable[..., None]) -> Callable[..., None]:
    """What names a run that begins: its config, and what the command line puts in the place of settings."""
    for decorate in (
        set_option,
        click.option("--api-url", metavar="URL", help='The platform\'s base URL, or "embedded"; in place of api.url.'),
        click.option("--out", metavar="DIR", help="The run directory; in place of output.dir."),
        click.option("--ids", multiple=True, metavar="FILE", help="An id list, or - for stdin; in place of input.ids."),
        click.argument("config", type=PATH),
    ):
        command = decorate(command)
    return command


def main() -> None:
    """Run the command line; every error of ours is a line, and an exit code."""
    if sys.platform == "win32":
        sys.exit("bulk-classify runs on Linux and macOS; on Windows, use WSL")
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - for as long as the process lives
    try:
        _commands.main(standalone_mode=False, prog_name="bulk-classify")
        sys.stdout.flush()
    except BrokenPipeError:
        # Nobody reads on, as behind ``| head``. What is left in the buffer must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        click.echo(f"error: the output cannot be written: {error.strerror}", err=True)
        sys.exit(StorageError.exit_code)
    except click.Abort:
        sys.exit(Interrupted.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except StopRun as error:
        for line in str(error).splitlines():
            click.echo(f"error: {line}", err=True)
        sys.exit(error.exit_code)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def _commands() -> None:
    """Classify thousands of indexed videos: few requests, exact pace, nothing lost, nothing paid for twice.

    \b
    Exit codes: 0 all videos answered   3 some failed      69 platform down
                2 usage, config, input  4 key refused      73 run held by another process
               75 quota or budget used  74 disk or file   130 stopped by a signal
                1 a bug, or verify found a difference
    """


# --------------------------------------------------------------------------------------------------------------- runs


@_commands.command()
@_config_of_a_run
@quiet_option
@_log_level
@as_json_option
def run(config: Path, **options: Any) -> None:
    """Classify every video that CONFIG names, or go on where an earlier run of the same job stopped."""
    loaded = _loaded(config, options)
    _run(loaded, Path(loaded.output.dir), read_input=True, options=options)


@_commands.command()
@_config_of_a_run
@as_json_option
def plan(config: Path, **options: Any) -> None:
    """Tell what running CONFIG would cost from where it stands now, and spend and change nothing."""
    import anyio

    from pipeline.config import warnings_of
    from pipeline.plan import in_words
    from pipeline.rehearsal import rehearsed

    loaded = _loaded(config, options)
    sends = loaded.input.index_id is not None
    order = order_of(loaded, Path(loaded.output.dir), read_input=True, options=options, needs_key=sends)
    for warning in warnings_of(loaded):
        order.console.say(f"warning: {warning}")
    tell(anyio.run(rehearsed, order), in_words, as_json=options["as_json"])


@_commands.command()
@click.argument("directory", type=PATH)
@set_option
@quiet_option
@_log_level
@as_json_option
def resume(directory: Path, **options: Any) -> None:
    """Go on with the run in DIRECTORY, from its own frozen config; --set may change its limits."""
    from pipeline.config import freeze, thaw
    from pipeline.manifest import read_manifest

    stored = read_manifest(directory).config
    _run(thaw(freeze(stored), flags=settings_of(options["settings"])), directory, read_input=False, options=options)


@_commands.command()
@click.argument("directory", type=PATH)
@click.option("--code", "codes", multiple=True, metavar="CODE", help="Only failures of this code; may be repeated.")
@click.option("--all", "every", is_flag=True, help="Also failures that asking again cannot help, as far as we know.")
@set_option
@quiet_option
@_log_level
@as_json_option
def retry(directory: Path, codes: Sequence[str], every: bool, **options: Any) -> None:
    """Take failed videos of the run in DIRECTORY again; by default those that can succeed."""
    from pipeline.config import freeze, thaw
    from pipeline.manifest import read_manifest
    from pipeline.run import Retry

    config = thaw(freeze(read_manifest(directory).config), flags=settings_of(options["settings"]))
    _run(config, directory, read_input=False, options=options, retry=Retry(frozenset(codes), every))


def _run(
    config: Config, folder: Path, *, read_input: bool, options: dict[str, Any], retry: Retry | None = None
) -> None:
    import anyio

    from pipeline import run as runs
    from pipeline.config import warnings_of
    from pipeline.notify import notify
    from pipeline.status import in_words, next_command, status_of

    order = replace(order_of(config, folder, read_input=read_input, options=options), retry=retry)
    for warning in warnings_of(config):
        order.console.say(f"warning: {warning}")
    outcome = anyio.run(runs.run, order)
    if outcome.stopped is not None:
        click.echo(f"error: {outcome.stopped}", err=True)
    try:
        status = status_of(folder)
    except StopRun:  # what failed is told, and may have failed for good
        order.console.say(f"next: {next_command(folder)}")
        sys.exit(outcome.exit_code)
    if options["as_json"]:
        print_json(status)
    for line in in_words(status):
        order.console.say(line)
    if options["quiet"] and outcome.stopped is not None and status.next_command:
        click.echo(f"next: {status.next_command}", err=True)
    if problem := notify(config, outcome.exit_code, status, environment()):
        click.echo(f"warning: {problem}", err=True)
    sys.exit(outcome.exit_code)


def _loaded(config: Path, options: Mapping[str, Any]) -> Config:
    from pipeline.config import load

    flags = {"--ids": list(options["ids"]) or None, "--out": options["out"], "--api-url": options["api_url"]}
    return load(config, flags=settings_of(options["settings"]) | flags, environment=environment()).config


@_commands.command()
@click.argument("directory", type=PATH)
@as_json_option
def status(directory: Path, as_json: bool) -> None:
    """Tell how the run in DIRECTORY stands, also while it goes on."""
    from pipeline.status import in_words, status_of

    tell(status_of(directory), in_words, as_json=as_json)


@_commands.command()
@click.argument("directory", type=PATH)
@as_json_option
def verify(directory: Path, as_json: bool) -> None:
    """Prove that input, ledger and files in DIRECTORY agree; exit 1 and a list where they do not."""
    from pipeline.verify import in_words
    from pipeline.verify import verify as verified

    report = verified(directory)
    tell(report, in_words, as_json=as_json)
    if report.found:
        sys.exit(1)


@_commands.command()
@click.argument("directory", type=PATH)
@click.option("--to", type=PATH, metavar="FILE", help="Where the page goes; by default DIRECTORY/report.html.")
@click.option("--video", "wanted", multiple=True, metavar="ID", help="A video to hold a timeline of; may be repeated.")
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


@_commands.command()
@click.option("--index", "index_id", required=True, metavar="INDEX_ID", help="The index of the platform to list.")
@click.option("--config", type=PATH, metavar="CONFIG", help="A run's config, for its api and limits.")
@click.option("--api-url", metavar="URL", help='The platform\'s base URL, or "embedded"; in place of api.url.')
@set_option
def ids(index_id: str, config: Path | None, api_url: str | None, settings: Sequence[str]) -> None:
    """List an index of the platform: an id list in NDJSON, with durations and file names, on stdout."""
    import anyio

    from pipeline.config import load
    from pipeline.id_list import list_index

    flags = settings_of(settings) | {"--api-url": api_url, "input.index_id": index_id}
    loaded = load(config, flags=flags | ({} if config else dict(NOTHING_ASKED)), environment=environment()).config
    order = order_of(loaded, Path(loaded.output.dir), read_input=False, options={})
    anyio.run(list_index, order, index_id, sys.stdout.buffer.write)


# ------------------------------------------------------------------------------------------------------------- config


@_commands.group()
def config() -> None:
    """Check a config file."""


@config.command()
@click.argument("config", type=PATH)
@set_option
@as_json_option
def check(config: Path, settings: Sequence[str], as_json: bool) -> None:
    """Validate CONFIG, and print every key's value and where it comes from."""
    from pipeline.config import effective, job_of, load, warnings_of
    from pipeline.plan import shape_hint

    loaded = load(config, flags=settings_of(settings), environment=environment())
    values = effective(loaded.config)
    facts = {key: {"value": value, "origin": loaded.origins.get(key, "default")} for key, value in values.items()}
    tell(facts, _settings_with_origins, as_json=as_json)
    for warning in warnings_of(loaded.config):
        click.echo(f"warning: {warning}", err=True)
    if hint := shape_hint(job_of(loaded.config).classes):
        click.echo(f"hint: {hint}", err=True)


# -------------------------------------------------------------------------------------------------- the local platform


@_commands.command()
@click.option("--index", type=PATH, help="The index file; without it the quickstart index.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8088, show_default=True, help="The port to listen on; 0 takes a free one.")
@click.option("--tariff", default="none", show_default=True, help="The limits to enforce.")
@click.option("--page-ttl", default=600.0, show_default=True, help="Seconds that a page token lives.")
@click.option("--latency", default=0.0, show_default=True, help="Seconds by which every answer is late.")
@click.option("--faults", type=PATH, metavar="FILE", help="A plan of what shall go wrong, as docs/faults.md tells.")
@click.option("--thumbnails", is_flag=True, help="Give each clip the URL of a picture of this server's.")
@embedder_options
def serve(index: Path | None, host: str, port: int, faults: Path | None, **limits: Any) -> None:
    """Serve the local platform: the classify contract, answered from an index on this machine.

    The key it asks for is that of BULK_CLASSIFY_PLATFORM_KEY; without one, any key passes, on loopback only.
    """
    import anyio

    from pipeline.platform.faults import read_plan
    from pipeline.platform.server import Settings, serve_until_stopped

    key = environment().get("BULK_CLASSIFY_PLATFORM_KEY") or None
    rules = read_plan(faults) if faults else ()
    access = embedder_of(limits)
    settings = Settings(
        limits["tariff"], limits["page_ttl"], key, limits["latency"], rules, access, limits["thumbnails"]
    )

    def announce(url: str, warning: str | None) -> None:
        if warning:
            click.echo(f"warning: {warning}", err=True)
        click.echo(f"serving {url} (Ctrl-C ends it)", err=True)

    anyio.run(serve_until_stopped, index or quickstart(), settings, host, port, announce)


_commands.add_command(index)


# -------------------------------------------------------------------------------------------------------------- pieces


def _settings_with_origins(facts: Mapping[str, Mapping[str, object]]) -> list[str]:
    import orjson

    return [f"{key} = {orjson.dumps(fact['value']).decode()}  ({fact['origin']})" for key, fact in facts.items()]
