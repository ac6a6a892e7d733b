"""The command line: parse, call, print, exit. What a command does is in the module that it calls.

Modules are imported inside the commands, so that ``--help`` and a typing mistake are answered at once. What was asked
for goes to stdout, all else to stderr.
"""

# ruff: noqa: PLC0415 - see above

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline import __version__, completion
from pipeline.command_line import (
    CONFIG,
    DIRECTORY,
    NOTHING_ASKED,
    PATH,
    TARIFF_NAMES,
    NumberRange,
    Sections,
    api_url_option,
    as_json_option,
    config_of_a_run,
    embedder_of,
    embedder_options,
    environment,
    example,
    of_a_process,
    option,
    order_of,
    say,
    set_option,
    settings_of,
    tell,
)
from pipeline.errors import Interrupted, RunHeld, StopRun, StorageError
from pipeline.index_commands import index, quickstart
from pipeline.result_commands import export, report, status, verify

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.order import Retry


def main() -> None:
    """Run the command line; every error of ours is a line, and an exit code."""
    if sys.platform == "win32":
        sys.exit("bulk-classify runs on Linux and macOS; on Windows, use WSL")
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - for as long as the process lives
    try:
        _commands.main(standalone_mode=False, prog_name="bulk-classify")
        sys.stdout.flush()
    except BrokenPipeError:
        # Nobody reads on, as behind ``| head``. What is left in the buffer must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        say(f"error: the output cannot be written: {error.strerror}")
        sys.exit(StorageError.exit_code)
    except click.Abort:
        sys.exit(Interrupted.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except StopRun as error:
        for line in str(error).splitlines():
            say(f"error: {line}")
        sys.exit(error.exit_code)


_HEADINGS = {
    "Runs": ("plan", "run", "resume", "retry"),
    "What came of them": ("status", "verify", "export", "report"),
    "Input and settings": ("ids", "config", "completion"),
    "The local platform": ("serve", "index"),
}


@click.group(cls=Sections, headings=_HEADINGS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def _commands() -> None:
    """Classify thousands of indexed videos: few requests, exact pace, nothing lost, nothing paid for twice.

    What was asked for goes to stdout, all else to stderr. Every command has its own --help, with an example.

    \b
    Exit codes: 0 all videos answered   3 some failed      69 platform down
                2 usage, config, input  4 key refused      73 run held by another process
               75 quota or budget used  74 disk or file   130 stopped by a signal
                1 a bug, or verify found a difference
    """


# --------------------------------------------------------------------------------------------------------------- runs


@_commands.command(
    epilog=example(
        "run configs/quickstart.toml",
        "run configs/overnight.toml --ids my-videos.csv --out runs/friday",
    )
)
@config_of_a_run
@of_a_process
def run(config: Path, **options: Any) -> None:
    """Classify every video that CONFIG names, or go on where an earlier run of the same job stopped."""
    loaded = _loaded(config, options)
    _run(loaded, Path(loaded.output.dir), read_input=True, options=options)


@_commands.command(epilog=example("plan configs/overnight.toml --ids my-videos.csv"))
@config_of_a_run
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


@_commands.command(epilog=example("resume runs/overnight", "resume runs/overnight --set limits.max_posts=500"))
@DIRECTORY
@set_option
@of_a_process
def resume(directory: Path, **options: Any) -> None:
    """Go on with the run in DIRECTORY, from its own frozen config; --set may change its limits."""
    from pipeline.config import freeze, thaw
    from pipeline.manifest import read_manifest

    stored = read_manifest(directory).config
    _run(thaw(freeze(stored), flags=settings_of(options["settings"])), directory, read_input=False, options=options)


@_commands.command(
    epilog=example("retry runs/overnight", "retry runs/overnight --code timed_out --code gateway_failed")
)
@DIRECTORY
@option(
    "--code",
    "codes",
    multiple=True,
    metavar="CODE",
    help="Only failures with this code, whatever their chances; repeatable.",
    without="all that can succeed",
    shell_complete=completion.failure_codes,
)
@click.option("--all", "every", is_flag=True, help="Also failures that another try is not likely to mend.")
@set_option
@of_a_process
def retry(directory: Path, codes: Sequence[str], every: bool, **options: Any) -> None:
    """Take failed videos of the run in DIRECTORY again; by default those that can succeed."""
    from pipeline.config import freeze, thaw
    from pipeline.manifest import read_manifest
    from pipeline.order import Retry

    config = thaw(freeze(read_manifest(directory).config), flags=settings_of(options["settings"]))
    _run(config, directory, read_input=False, options=options, retry=Retry(frozenset(codes), every))


def _run(
    config: Config, folder: Path, *, read_input: bool, options: dict[str, Any], retry: Retry | None = None
) -> None:
    import anyio

    from pipeline import run as runs
    from pipeline.config import warnings_of
    from pipeline.ending import tell_end, tell_refusal
    from pipeline.stopping import unmoved_by_signals

    began = time.monotonic()
    order = replace(order_of(config, folder, read_input=read_input, options=options), retry=retry)
    for warning in warnings_of(config):
        order.console.say(f"warning: {warning}")
    gc.set_threshold(50_000)  # answers and rows are trees, freed when they are let go of: few cycles are to be found
    try:
        outcome = anyio.run(runs.run, order)
    except RunHeld:  # the run goes on, in another process
        raise
    except StopRun as refusal:
        tell_refusal(config, folder, refusal)
        raise
    with unmoved_by_signals():
        tell_end(order, outcome, time.monotonic() - began, as_json=options["as_json"], is_quiet=options["quiet"])
        sys.exit(outcome.exit_code)


def _loaded(config: Path, options: Mapping[str, Any]) -> Config:
    from pipeline.config import load

    flags = {"--ids": list(options["ids"]) or None, "--out": options["out"], "--api-url": options["api_url"]}
    flags["--log-level"] = options.get("log_level")
    return load(config, flags=settings_of(options["settings"]) | flags, environment=environment()).config


for _command in (status, verify, report, export):
    _commands.add_command(_command)


@_commands.command(epilog=example("ids --index 6298d673f1090f1100476d4c --config configs/overnight.toml"))
@option(
    "--index",
    "index_id",
    required=True,
    metavar="INDEX_ID",
    help="The index of the platform to list.",
    key="input.index_id",
)
@option(
    "--config",
    type=PATH,
    metavar="CONFIG",
    help="A run's config, for its api and limits.",
    without="every key's own default",
    shell_complete=completion.config_files,
)
@api_url_option
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


@config.command(epilog=example("config check configs/overnight.toml"))
@CONFIG
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
        say(f"warning: {warning}")
    if hint := shape_hint(job_of(loaded.config).classes):
        say(f"hint: {hint}")


# -------------------------------------------------------------------------------------------------- the local platform


@_commands.command(epilog=example("serve", "serve --index my.sqlite --port 9000 --tariff v1.2-developer"))
@option(
    "--index", type=PATH, help="The index file.", without="the quickstart index", shell_complete=completion.any_file
)
@option("--host", default="127.0.0.1", help="The address to listen on.")
@option("--port", default=8088, help="The port to listen on; 0 takes a free one.")
@option(
    "--tariff",
    type=click.Choice(TARIFF_NAMES),
    default="none",
    help="The limits to enforce, as the vendor's plans have them.",
)
@option(
    "--page-ttl",
    type=NumberRange(0, 31_536_000, min_open=True),
    default=600.0,
    help="How long a page token lives, a year at most.",
    unit="seconds",
)
@option(
    "--latency",
    type=NumberRange(0, 3_600),
    default=0.0,
    help="Delay every answer by this much, an hour at most.",
    unit="seconds",
)
@option(
    "--faults",
    type=PATH,
    metavar="FILE",
    help="A fault plan: what is to go wrong, and when. See docs/faults.md.",
    without="nothing does",
    shell_complete=completion.any_file,
)
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
            say(f"warning: {warning}")
        click.echo(f"serving {url} (Ctrl-C ends it)", err=True)

    anyio.run(serve_until_stopped, index or quickstart(), settings, host, port, announce)


_commands.add_command(index)


@_commands.command("completion", epilog=example("completion bash", "completion zsh", "completion fish"))
@click.argument("shell", type=click.Choice(completion.SHELLS))
def print_completion(shell: str) -> None:
    """Print what makes SHELL complete commands, options, config files, run directories, keys and codes.

    \b
    bash: put this line into ~/.bashrc
      eval "$(bulk-classify completion bash)"
    zsh: put this line into ~/.zshrc, below compinit
      eval "$(bulk-classify completion zsh)"
    fish: type this once
      bulk-classify completion fish > ~/.config/fish/completions/bulk-classify.fish
    """
    click.echo(completion.script(_commands, shell))


# -------------------------------------------------------------------------------------------------------------- pieces


def _settings_with_origins(facts: Mapping[str, Mapping[str, object]]) -> list[str]:
    import orjson

    return [f"{key} = {orjson.dumps(fact['value']).decode()}  ({fact['origin']})" for key, fact in facts.items()]
