"""What the commands share: options that several have, what a help text tells, and how facts are printed."""

# ruff: noqa: PLC0415 - as in cli: --help is answered at once

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline import completion

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.order import Order
    from pipeline.platform.access import EmbedderAccess

PATH = click.Path(path_type=Path)
_LONGEST_SENTENCE = 200
TARIFF_NAMES = ("v1.1", "v1.2-free", "v1.2-developer", "none")
"""The keys of ``config_keys.TARIFFS``, which would take too long to load."""


def option(
    *names: str, help: str, without: object = None, unit: str = "", key: str = "", **settings: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """An option whose help tells its unit, what counts ``without`` it, and the config key in whose place it stands."""
    told = {"unit": unit, "default": settings.get("default", without), "config key": key}
    facts = "; ".join(f"{name}: {fact}" for name, fact in told.items() if fact not in {None, ""})
    return click.option(*names, help=f"{help}  [{facts}]" if facts else help, **settings)


class NumberRange(click.FloatRange):
    """A number within bounds, which what is no number (``nan``) is not."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number. Raises click's ``BadParameter``."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number", param, ctx)
        return number


def example(*lines: str) -> str:
    """What stands below the options of a command: lines to type, each after the program's name."""
    typed = "".join(f"\n  bulk-classify {line}" for line in lines)
    return f"\b\nExample{'s' * (len(lines) > 1)}:{typed}"


CONFIG = click.argument("config", type=PATH, shell_complete=completion.config_files)
DIRECTORY = click.argument("directory", type=PATH, shell_complete=completion.run_directories)
as_json_option = click.option("--json", "as_json", is_flag=True, help="Print the facts as one JSON object on stdout.")
set_option = option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set any config key, as limits.concurrency=4; repeatable.",
    key="the one that is named",
    without="what the config says",
    shell_complete=completion.settings,
)
quiet_option = click.option(
    "--quiet", "-q", is_flag=True, help="Only errors on stderr, and after a stop what to type next."
)
verbose_option = click.option(
    "--verbose", "-v", is_flag=True, help="Print the events of run.log on stderr, too, as they happen."
)
log_level_option = option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="Write events of this level and above to run.log.",
    without="info",
    key="output.log_level",
)


api_url_option = option(
    "--api-url",
    metavar="URL",
    help='The platform\'s base URL, or "embedded" for the local one in this process.',
    key="api.url",
    without="embedded",
)


def config_of_a_run(command: Callable[..., None]) -> Callable[..., None]:
    """What names a run that begins: its config, and what the command line puts in the place of settings."""
    for decorate in (
        set_option,
        api_url_option,
        option(
            "--out",
            metavar="DIR",
            help="The run directory: made where there is none.",
            key="output.dir",
            without="runs/ and the config's name",
            shell_complete=completion.run_directories,
        ),
        option(
            "--ids",
            multiple=True,
            metavar="FILE",
            help="An id list (txt, csv, ndjson, parquet; .gz, .zst), or - for stdin; repeatable.",
            key="input.ids",
            without="what the config says",
            shell_complete=completion.any_file,
        ),
        CONFIG,
    ):
        command = decorate(command)
    return command


def of_a_process(command: Callable[..., None]) -> Callable[..., None]:
    """What says how much a run tells while it goes on."""
    for decorate in (as_json_option, log_level_option, verbose_option, quiet_option):
        command = decorate(command)
    return command


class Sections(click.Group):
    """A group whose help lists its commands under headings; ``headings`` has the names of the commands by heading."""

    headings: Mapping[str, Sequence[str]]

    def __init__(self, *given: Any, headings: Mapping[str, Sequence[str]], **settings: Any) -> None:
        super().__init__(*given, **settings)
        self.headings = headings

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands under their headings, and those that have none under the last."""
        listed = {name for names in self.headings.values() for name in names}
        others = [name for name in self.commands if name not in listed]
        for heading, names in [*self.headings.items(), ("Others", others)]:
            rows = [
                (name, self.commands[name].get_short_help_str(_LONGEST_SENTENCE))
                for name in names
                if name in self.commands
            ]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)


def say(message: str) -> None:
    """Write a message to standard error, its first word coloured where that is wanted."""
    from pipeline.console import look_of, marked

    click.echo(marked(message, look_of(sys.stderr, environment())), err=True, color=True)


NOTHING_ASKED: Mapping[str, object] = {"job.options": ["visual"], "job.classes": [{"name": "-", "prompts": ["-"]}]}
"""For commands that ask nothing of the videos: a config wants that said."""


def embedder_options(command: Callable[..., None]) -> Callable[..., None]:
    """The keys of the section ``embedder``, where there is no config."""
    for decorate in (
        option(
            "--embedder-key-file",
            metavar="FILE",
            help="A file with its API key, readable by its owner only.",
            key="embedder.key_file",
            without="none",
            shell_complete=completion.any_file,
        ),
        option(
            "--embedder-key-env",
            metavar="NAME",
            help="The environment variable that holds its API key.",
            key="embedder.key_env",
            without="none",
        ),
        option(
            "--embedder-model",
            metavar="NAME",
            help="What the OpenAI-compatible server calls the model.",
            key="embedder.model",
            without="none",
        ),
        option(
            "--embedder-url",
            metavar="URL",
            help="The server that embeds prompts, where the index needs one.",
            key="embedder.url",
            without="none",
        ),
    ):
        command = decorate(command)
    return command


def embedder_of(options: Mapping[str, Any]) -> EmbedderAccess:
    """What the options of ``embedder_options`` say, with the keys that they name."""
    from pipeline.config import embedder_access, embedder_section

    given = {name: options[f"embedder_{name}"] for name in ("url", "model", "key_env", "key_file")}
    return embedder_access(embedder_section(given), environment())


def settings_of(settings: Iterable[str]) -> dict[str, object]:
    """What ``--set`` says, by key."""
    from pipeline.config import parse_set

    return dict(parse_set(text) for text in settings)


def environment() -> dict[str, str]:
    """The process's environment, for those who look something up in it."""
    return dict(os.environ)


def order_of(
    config: Config, folder: Path, *, read_input: bool, options: Mapping[str, Any], needs_key: bool = True
) -> Order:
    """What is to be done, with the key, the terminal and the clock of this process."""
    from platformdirs import user_cache_path

    from pipeline.config import ApiKey, api_key, embedder_access
    from pipeline.console import Console, look_of
    from pipeline.order import Order
    from pipeline.platform.access import EmbedderAccess

    quiet, verbose = options.get("quiet", False), options.get("verbose", False)
    embedded = config.api.url == "embedded"
    return Order(
        config,
        folder,
        api_key(config.api, environment()) if needs_key else ApiKey("none-is-sent"),
        Console(sys.stderr, look=look_of(sys.stderr, environment()), quiet=quiet, verbose=verbose),
        sys.stdin.buffer,
        user_cache_path("bulk-classify"),
        read_input,
        log_level=options.get("log_level"),
        embedder=embedder_access(config.embedder, environment()) if embedded else EmbedderAccess(),
    )


def tell(facts: Any, in_words: Callable[[Any], Iterable[str]], *, as_json: bool) -> None:
    """Print facts, as JSON or in words."""
    if as_json:
        print_json(facts)
    else:
        for line in in_words(facts):
            click.echo(line)


def facts_in_words(facts: Mapping[str, object], prefix: str = "") -> Iterator[str]:
    """A line for each fact; those within another are named by both, with a dot between."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from facts_in_words(value, f"{prefix}{name}.")
        else:
            told = ", ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else value
            yield f"{prefix}{name}: {told}"


def print_json(facts: object) -> None:
    """Print facts as JSON."""
    import orjson

    click.echo(orjson.dumps(facts, default=str, option=orjson.OPT_INDENT_2).decode())
