"""What the commands share: options that several have, and how facts are printed."""

# ruff: noqa: PLC0415 - as in cli: --help is answered at once

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.platform.access import EmbedderAccess
    from pipeline.run import Order

PATH = click.Path(path_type=Path)
as_json_option = click.option("--json", "as_json", is_flag=True, help="Print the facts as one JSON object on stdout.")
set_option = click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set a config key; repeatable.")
quiet_option = click.option(
    "--quiet", "-q", is_flag=True, help="Only errors on stderr, and after a stop what to type next."
)
NOTHING_ASKED: Mapping[str, object] = {"job.options": ["visual"], "job.classes": [{"name": "-", "prompts": ["-"]}]}
"""For commands that ask nothing of the videos: a config wants that said."""


def embedder_options(command: Callable[..., None]) -> Callable[..., None]:
    """The keys of the section ``embedder``, where there is no config."""
    for decorate in (
        click.option(
            "--embedder-key-file", metavar="FILE", help="A file with its API key, readable by its owner only."
        ),
        click.option("--embedder-key-env", metavar="NAME", help="The environment variable that holds its API key."),
        click.option("--embedder-model", metavar="NAME", help="What the OpenAI-compatible server calls the model."),
        click.option(
            "--embedder-url", metavar="URL", help="The server that embeds prompts, where the index needs one."
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
    import sys

    from platformdirs import user_cache_path

    from pipeline.config import ApiKey, api_key, embedder_access
    from pipeline.platform.access import EmbedderAccess
    from pipeline.progress import Console
    from pipeline.run import Order

    embedded = config.api.url == "embedded"
    return Order(
        config,
        folder,
        api_key(config.api, environment()) if needs_key else ApiKey("none-is-sent"),
        Console(sys.stderr, quiet=options.get("quiet", False)),
        sys.stdin.buffer,
        user_cache_path("bulk-classify"),
        read_input,
        log_level=options.get("log_level", "info"),
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
