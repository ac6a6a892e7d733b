"""What a shell proposes when Tab is pressed: config files, run directories, config keys and their values, codes.

click does the rest, for bash, zsh and fish. Bash takes ``limits.tariff=v1.1`` for three words, so for it they are
joined before and cut off again after; it puts a space behind what is unfinished, unless it is told
not to; and it quotes what has a space in it only where it is told that these are file names.
"""

# ruff: noqa: PLC0415 - as in cli: --help is answered at once

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

Item = CompletionItem[str]
SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_BULK_CLASSIFY_COMPLETE"
_MOST = 200
_MOST_BYTES = 2**20  # of failures.ndjson: Tab must not take long

_BASH = """\
%(complete_func)s() {
    local IFS=$'\\n' line value
    for line in $(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD %(complete_var)s=bash_complete $1); do
        value=${line#*,}
        case $line in
        plain,*)
            COMPREPLY+=("$value")
            case $value in *=) compopt -o nospace ;; esac
            case $value in *[!A-Za-z0-9_./:,=@%%+-]*) compopt -o filenames ;; esac
            ;;
        dir,*) compopt -o dirnames ;;
        file,*) compopt -o default ;;
        esac
    done
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class _Bash(BashComplete):
    source_template = _BASH
    _cut_off = ""

    def get_completion_args(self) -> tuple[list[str], str]:
        words = split_arg_string(os.environ["COMP_WORDS"])
        at = int(os.environ["COMP_CWORD"])
        words, incomplete = words[:at], words[at] if at < len(words) else ""
        if words and (incomplete == "=" or words[-1] == "="):
            if incomplete == "=":
                words.append(incomplete)
                incomplete = ""
            key = words[-2] if len(words) > 1 else ""
            if key.startswith("--"):  # ``--option=value`` is an option and its value
                return words[1:-1], incomplete
            self._cut_off = f"{key}="
            return words[1:-2], f"{key}={incomplete}"
        return words[1:], incomplete

    def format_completion(self, item: Item) -> str:
        return f"{item.type},{item.value.removeprefix(self._cut_off)}"


class _WholeWords(ShellComplete):
    """``--option=value`` is one word to zsh and fish, so what is proposed begins with the option."""

    _option = ""

    def get_completion_args(self) -> tuple[list[str], str]:
        words, incomplete = super().get_completion_args()
        name, equals, _ = incomplete.partition("=")
        self._option = f"{name}=" if equals and name.startswith("--") else ""
        return words, incomplete

    def format_completion(self, item: Item) -> str:
        if item.type == "plain":
            item.value = self._option + item.value
        return super().format_completion(item)


class _Zsh(_WholeWords, ZshComplete):
    pass


class _Fish(_WholeWords, FishComplete):
    pass


for _shell in (_Bash, _Zsh, _Fish):
    add_completion_class(_shell)


def script(program: click.Command, shell: str) -> str:
    """What a shell has to read once, so that it completes our commands."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None, shell
    return found(program, {}, "bulk-classify", VARIABLE).source()


# ----------------------------------------------------------------------------------------------------------- proposals


def config_files(_: click.Context, __: click.Parameter, incomplete: str) -> list[Item]:
    """TOML files here and in the folders here; else any file."""
    return _found(incomplete, "*.toml", "*/*.toml") or [Item(incomplete, type="file")]


def run_directories(_: click.Context, __: click.Parameter, incomplete: str) -> list[Item]:
    """Run directories here and in the folders here; else any directory."""
    return _found(incomplete, "*/run.json", "*/*/run.json", parent=True) or [Item(incomplete, type="dir")]


def any_file(_: click.Context, __: click.Parameter, incomplete: str) -> list[Item]:
    """Any file."""
    return [Item(incomplete, type="file")]


def _found(incomplete: str, *patterns: str, parent: bool = False) -> list[Item]:
    begun = glob.escape(incomplete)
    paths = (path for pattern in patterns for path in glob.iglob(begun + pattern))  # noqa: PTH207 - what is typed may be half a name
    return [Item(os.path.dirname(path) if parent else path) for path in sorted(islice(paths, _MOST))]  # noqa: PTH120


def settings(_: click.Context, __: click.Parameter, incomplete: str) -> list[Item]:
    """Config keys; behind the ``=`` the words that a key may hold, where it holds one of a few."""
    from pipeline.config_keys import KEYS, choices

    key, equals, begun = incomplete.partition("=")
    if equals:
        return [Item(f"{key}={word}") for word in choices(key) if word.startswith(begun)]
    return [Item(f"{name}=") for name in KEYS if name.startswith(incomplete)]


def failure_codes(context: click.Context, _: click.Parameter, incomplete: str) -> list[Item]:
    """The codes of the run's failures, as far as its directory is typed already; else every code that we know."""
    from pipeline.failure_codes import MEANINGS

    # An option without its value ends click's reading early: then the directory is among what is left.
    directory = context.params.get("directory") or next(iter(context.args), None)
    there = set(_codes_in(os.path.join(directory, "failures.ndjson"))) if directory else set()  # noqa: PTH118
    return [Item(code) for code in sorted(there or MEANINGS) if code.startswith(incomplete)]


def _codes_in(path: str) -> Iterator[str]:
    import json

    with suppress(OSError, ValueError, KeyError, TypeError), open(path, "rb") as file:  # noqa: PTH123
        for line in file.readlines(_MOST_BYTES):
            yield str(json.loads(line)["code"])
