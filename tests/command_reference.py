"""docs/commands.md, made from the commands themselves, so that it says what ``--help`` says and nothing is left out.

    python -m tests.command_reference     writes the page anew

What an option's help says in brackets at its end (its unit, its default, its config key) goes into columns of its own.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click

from pipeline import cli
from pipeline.config_sources import OPTIONS

PROGRAM = "bulk-classify"
PAGE = Path(__file__).parents[1] / "docs" / "commands.md"
RENEWAL = "python -m tests.command_reference"

_HEAD = f"""\
# Commands

<!-- Made from the commands' own help by `{RENEWAL}`. Do not edit it by hand. -->

Every command, and every option it takes. `--help` behind a command says the same in a terminal. What you asked for goes
to stdout and all else to stderr, and the [exit code](codes.md#exit-codes) tells how it went. Where an option stands for
a key of the [configuration](configuration.md), the key is named beside it, and the option wins.
"""
_COLUMNS = ("option", "meaning", "default", "config key")
_NAMES = r"(unit|default|config key): "
_FACTS = re.compile(rf"\s*\[(?={_NAMES})(?P<facts>.+)\]$")


def leaves(command: click.Command, context: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    """Every command that does something, with the context that knows its whole name."""
    if not isinstance(command, click.Group):
        yield command, context
        return
    for name, found in command.commands.items():
        yield from leaves(found, click.Context(found, info_name=name, parent=context))


def page() -> str:
    """The whole page, as it should be."""
    root = cli._commands
    top = click.Context(root, info_name=PROGRAM, max_content_width=100)
    return "\n".join([_HEAD, *(_section(command, context) for command, context in leaves(root, top))])


def _section(command: click.Command, context: click.Context) -> str:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    options = [one for one in command.get_params(context) if isinstance(one, click.Option) and "--help" not in one.opts]
    rows = [_row(option, context) for option in options]
    parts = [f"## `{context.command_path}`", f"```text\n{usage}\n```", _told(command.help), _told(command.epilog)]
    if rows:
        parts.append("\n".join(map(_line, [_COLUMNS, ("---",) * len(_COLUMNS), *rows])))
    return "\n\n".join(part for part in parts if part) + "\n"


def _told(text: str | None) -> str:
    """A help text as Markdown: what click is told to leave as it is, is a block."""
    paragraphs = inspect.cleandoc(text or "").split("\n\n")
    return "\n\n".join(
        f"```text\n{paragraph.removeprefix(chr(8)).strip(chr(10))}\n```" if paragraph.startswith("\b") else paragraph
        for paragraph in paragraphs
    )


def _row(option: click.Option, context: click.Context) -> tuple[str, ...]:
    help_text = option.help or ""
    found = _FACTS.search(help_text)
    named = re.split(rf"(?:^|; ){_NAMES}", found["facts"])[1:] if found else []
    facts = dict(zip(named[::2], named[1::2], strict=True))
    meaning = help_text[: found.start()] if found else help_text
    if "unit" in facts:
        meaning += f" In {facts['unit']}."
    key = facts.get("config key", next((OPTIONS[name] for name in option.opts if name in OPTIONS), ""))
    return (
        f"`{', '.join(option.opts)}{_taken(option, context)}`",
        meaning,
        facts.get("default", _default(option)),
        f"`{key}`" if re.fullmatch(r"[a-z_.]+", key) else key,
    )


def _default(option: click.Option) -> str:
    if option.required:
        return "required"
    default = option.to_info_dict()["default"]
    return "" if option.is_flag or default in (None, ()) else f"`{default}`"


def _taken(option: click.Option, context: click.Context) -> str:
    return "" if option.is_flag else f" {option.make_metavar(context)}"


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
