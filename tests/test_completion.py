"""What Tab proposes, asked as the shells ask, and in real ones."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import CompletionItem, ShellComplete

from pipeline import cli, completion
from pipeline.command_line import TARIFF_NAMES
from pipeline.config_keys import KEYS, TARIFFS
from pipeline.failure_codes import MEANINGS
from tests.runs import ROOT

PROGRAM = "bulk-classify"


def proposed(*words: str) -> list[CompletionItem[str]]:
    """What is proposed for the last of these words."""
    asked = ShellComplete(cli._commands, {}, PROGRAM, completion.VARIABLE)
    return asked.get_completions(list(words[:-1]), words[-1])


def values(*words: str) -> list[str]:
    return [item.value for item in proposed(*words)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with two configs and two run directories, one of them with failures."""
    for name in ("night.toml", "configs/large.toml", "runs/one/run.json", "runs/two/run.json", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    rows = [{"code": "timed_out"}, {"code": "strange_code"}, {"code": "timed_out"}]
    (tmp_path / "runs/one/failures.ndjson").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_commands_and_options_are_proposed(folder: Path) -> None:
    assert values("re") == ["report", "resume", "retry"]
    assert values("config", "") == ["check"]
    assert "--log-level" in values("run", "--l")


def test_configs_and_run_directories_are_found_here_and_one_folder_down(folder: Path) -> None:
    assert values("run", "") == ["configs/large.toml", "night.toml"]
    assert values("plan", "con") == ["configs/large.toml"]
    assert values("status", "") == ["runs/one", "runs/two"]
    assert values("resume", "runs/t") == ["runs/two"]
    assert values("run", "night.toml", "--out", "runs/o") == ["runs/one"]


def test_where_nothing_is_found_the_shell_proposes_what_it_would(folder: Path) -> None:
    assert [(item.type, item.value) for item in proposed("run", "els*[")] == [("file", "els*[")]
    assert [(item.type, item.value) for item in proposed("status", "els")] == [("dir", "els")]
    assert [item.type for item in proposed("run", "x.toml", "--ids", "")] == ["file"]


def test_keys_are_proposed_and_behind_them_the_words_that_they_may_hold(folder: Path) -> None:
    assert values("run", "x", "--set", "") == [f"{key}=" for key in KEYS]
    assert values("run", "x", "--set", "limits.max_p") == ["limits.max_posts="]
    assert values("run", "x", "--set", "limits.tariff=v1.2") == [
        "limits.tariff=v1.2-developer",
        "limits.tariff=v1.2-free",
    ]
    assert values("run", "x", "--set", "job.include_clips=") == ["job.include_clips=true", "job.include_clips=false"]
    assert values("run", "x", "--set", "limits.max_posts=") == values("run", "x", "--set", "nonsense=") == []


def test_codes_are_those_of_the_run_or_else_all_that_we_know(folder: Path) -> None:
    assert values("retry", "runs/one", "--code", "") == ["strange_code", "timed_out"]
    assert values("retry", "runs/two", "--code", "") == sorted(MEANINGS)
    assert values("retry", "--code", "timed") == ["timed_out"]
    (folder / "runs/two/failures.ndjson").write_bytes(b'{"code": "a"}\n\xff[\n')
    assert values("retry", "runs/two", "--code", "") == ["a"]


def test_tariffs_are_proposed_and_are_those_of_the_configuration() -> None:
    assert values("serve", "--tariff", "") == list(TARIFF_NAMES) == list(TARIFFS)


# --------------------------------------------------------------------------------------------------------- real shells

TYPED = {
    "run ": ["configs/large.toml", "night.toml"],
    "status runs/": ["runs/one", "runs/two"],
    "resume runs/one --set limits.max_p": ["limits.max_posts="],
    "run night.toml --set limits.tariff=v1.2-": ["v1.2-developer", "v1.2-free"],
    "retry runs/one --code st": ["strange_code"],
    "run night.toml --log-level=de": ["debug"],
}
# Bash breaks words at each ``=`` and replaces what is behind it; the others replace the whole word.
WHOLE_WORDS = {
    "run night.toml --set limits.tariff=v1.2-": ["limits.tariff=v1.2-developer", "limits.tariff=v1.2-free"],
    "run night.toml --log-level=de": ["--log-level=debug"],
}
_FISH = "bulk-classify completion fish | source; complete -C $argv[1]"
# The script's own function, called as zsh calls it, with its last step put on paper.
_ZSH = """
compdef() { }
compadd() { print -rl -- $completions }
eval "$(bulk-classify completion zsh)"
words=("${(@s: :)1}")
CURRENT=$#words
_bulk_classify_completion
"""
_BASH = """
eval "$(bulk-classify completion bash)"
COMP_LINE=$1 COMP_POINT=${#1}
read -ra COMP_WORDS <<<"${1//=/ = }"
case $1 in *[\\ =]) COMP_WORDS+=("") ;; esac
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
compopt() { :; }
_bulk_classify_completion bulk-classify
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """As in a user's shell, with our program on the PATH."""
    home = tmp_path_factory.mktemp("home")
    (home / PROGRAM).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m pipeline "$@"\n')
    (home / PROGRAM).chmod(0o700)
    return {"HOME": str(home), "PATH": f"{home}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize(("typed", "expected"), TYPED.items(), ids=TYPED)
def test_bash_completes(typed: str, expected: list[str], folder: Path, environment: dict[str, str]) -> None:
    """With its words broken at every ``=``, as readline breaks them."""
    asked = subprocess.run(
        ["bash", "--norc", "-c", _BASH, "bash", f"{PROGRAM} {typed}"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (sorted(asked.stdout.split()), asked.stderr) == (expected, "")


@pytest.mark.parametrize(
    "command", [["fish", "--no-config", "-c", _FISH], ["zsh", "-f", "-c", _ZSH, "zsh"]], ids=lambda it: it[0]
)
@pytest.mark.parametrize("typed", TYPED)
def test_zsh_and_fish_complete(command: list[str], typed: str, folder: Path, environment: dict[str, str]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    asked = subprocess.run(
        [*command, f"{PROGRAM} {typed}"], env=environment, capture_output=True, text=True, check=True
    )
    assert (sorted(asked.stdout.split()), asked.stderr) == (WHOLE_WORDS.get(typed, TYPED[typed]), "")


@pytest.mark.parametrize("command", [["bash", "-n"], ["zsh", "-n"], ["fish", "--no-execute"]], ids=lambda it: it[0])
def test_the_scripts_are_read_by_the_shells_that_they_are_for(command: list[str], environment: dict[str, str]) -> None:
    script = completion.script(cli._commands, command[0])
    assert completion.VARIABLE in script
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    subprocess.run([*command, "/dev/stdin"], input=script.encode(), env=environment, check=True)
