"""Every fenced block of README and docs is carried out, compared or parsed. Its kind says which.

``sh`` and ``python`` are run, block after block of a page, in a folder that has the checkout's ``configs``; ``sql`` is
given to DuckDB there. Each must succeed. A ``text`` block right behind one of them is what it prints. ``console`` holds
what cannot be run here (it needs a key, or goes on for ever): its commands are parsed, and so are those of ``crontab``.
A block with a file name behind its language is that file. What is only shown must at least be of the form that it has.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from pipeline import cli
from pipeline.command_line import NOTHING_ASKED
from pipeline.config import load
from pipeline.platform.faults import read_plan
from pipeline.rows import ROW_FILES
from tests.pages import DOCS, PAGES, PROGRAM, README, ROOT, Block, blocks, every_page, prose

_SQL = "import duckdb, sys; shown = duckdb.sql(sys.stdin.read()); shown is None or shown.show()"
_RUN: Mapping[str, Sequence[str]] = {
    "sh": ("sh", "-eu"),
    "python": (sys.executable, "-W", "error", "-"),
    "sql": (sys.executable, "-c", _SQL),
}
# Only in the checkout, and run by the checks themselves.
_ENVIRONMENT = ("./scripts/", ". .venv/")
_SHELL_PARTS = re.compile(r"&&|\|\||;|\||\d?>+\S*")
_CRON_TIME = re.compile(r"@(reboot|hourly|daily|weekly|monthly)|([\d*/,-]+\s+){4}[\d*/,-]+")
_CRON_SETTING = re.compile(r"[A-Z_]+=\S+")
_DIFFERS_BY_RUN = {"run_id", "classified_at"}
_MASKS = {
    r"\d{8}T\d{6}Z-[0-9a-f]{6}": "RUN_ID",
    r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?( UTC|Z)": "MOMENT",
}


# ------------------------------------------------------------------------------------------------------- carried out


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """As in a user's shell: our program on the PATH, a home of its own, and none of our variables set."""
    home = tmp_path_factory.mktemp("home")
    program = home / PROGRAM
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m pipeline "$@"\n')
    program.chmod(0o700)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("BULK_CLASSIFY_", "XDG_"))}
    return inherited | {
        "HOME": str(home),
        "PATH": f"{home}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }


@pytest.fixture(scope="module")
def vendor() -> Iterator[dict[str, str]]:
    """The variables of somebody whose index is with the vendor, whose part a fake of version 1.3 takes."""
    few = ["--videos", "2", "--key", "a-key"]  # at the pace that the page takes for granted
    command = [sys.executable, "-m", "tests.servers.vendor", *few, "--index-id", "6298d673f1090f1100476d4c"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield {"TWELVELABS_BASE_URL": process.stdout.readline().strip(), "TWELVELABS_API_KEY": "a-key"}
        process.terminate()


def carried_out(page: Path, folder: Path, environment: dict[str, str]) -> None:
    """Do what a page says, as somebody would who types it, and see what it says they will see."""
    shutil.copytree(ROOT / "configs", folder / "configs")
    found = blocks(page)
    for block, following in pairwise([*found, Block("", None, "")]):
        if block.file:
            (folder / block.file).write_text(block.text)
        elif block.language in _RUN:
            printed = output_of(block, folder, environment)
            if following.language == "text" and f"{block.text}```\n\n```text\n" in page.read_text("utf-8"):
                assert masked(printed, folder) == masked(following.text, folder), block.text


def output_of(block: Block, folder: Path, environment: dict[str, str]) -> str:
    ours = "".join(line for line in block.text.splitlines(keepends=True) if not line.startswith(_ENVIRONMENT))
    done = subprocess.run(
        _RUN[block.language],
        input=ours,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{block.text}\n{done.stdout}"
    return done.stdout


def masked(text: str, folder: Path) -> str:
    """A text without what differs from run to run."""
    for pattern, name in _MASKS.items():
        text = re.sub(pattern, name, text)
    lines = text.replace(f"{folder}/", "").splitlines()
    return "\n".join(line.rstrip() for line in lines).strip()


# The queries of analytics.md are asked of one file: test_analytics does that.
@pytest.mark.parametrize("page", [page for page in PAGES[1:] if page.stem != "analytics"], ids=lambda page: page.stem)
def test_what_a_page_says_can_be_done(
    page: Path, tmp_path: Path, environment: dict[str, str], vendor: dict[str, str]
) -> None:
    carried_out(page, tmp_path, environment | (vendor if page == DOCS / "migration.md" else {}))


def test_what_the_readme_says_can_be_done_and_brings_the_rows_it_shows(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    carried_out(README, tmp_path, environment)
    written = {
        recurring(json.loads(line))
        for name in ROW_FILES
        for line in (tmp_path / "runs/quickstart" / name).read_text().splitlines()
    }
    shown = [
        recurring(json.loads(line))
        for one in blocks(README)
        if one.language == "json"
        for line in one.text.splitlines()
    ]

    assert shown
    assert [row for row in shown if row not in written] == []


def recurring(row: dict[str, Any]) -> str:
    return json.dumps({key: value for key, value in row.items() if key not in _DIFFERS_BY_RUN})


@every_page
def test_sh_blocks_hold_nothing_but_our_own_commands(page: Path) -> None:
    """What the blocks run must be ours, or a failure could be anybody's; scripts are run by the checks themselves."""
    lines = [line for block in blocks(page) if block.language == "sh" for line in block.text.splitlines()]
    for line in lines:
        assert line.startswith((f"{PROGRAM} ", *_ENVIRONMENT)), line


# ------------------------------------------------------------------------------------------------------------ parsed


def commands_to_parse(page: Path) -> Iterator[str]:
    for block in blocks(page):
        lines: Iterable[str] = ()
        if block.language == "console":
            lines = (line[2:] for line in block.text.splitlines() if line.startswith("$ "))
        elif block.language == "crontab":
            lines = cron_commands(block.text)
        yield from (part.strip() for line in lines for part in _SHELL_PARTS.split(line))
    yield from re.findall(r"`(bulk-classify [^`]+)`", prose(page))


def parse(words: Sequence[str]) -> None:
    """Let click parse a command without carrying it out. A group alone may be spoken of."""
    command: click.Command = cli._commands
    parent = click.Context(command, info_name=PROGRAM)
    while isinstance(command, click.Group) and words:
        name, *words = words
        found = command.get_command(parent, name)
        assert found is not None, f"no command {name!r}"
        command, parent = found, click.Context(found, parent=parent, info_name=name)
    if words:
        command.make_context(command.name, list(words))


@every_page
def test_every_other_command_parses(page: Path) -> None:
    for text in commands_to_parse(page):
        words = [word for word in shlex.split(text) if not re.match(r"[A-Z_]+=", word)]
        if words and Path(words[0]).name == PROGRAM:
            parse(words[1:])


def cron_commands(table: str) -> Iterator[str]:
    """The commands of a crontab, each behind a time that cron understands."""
    for line in table.splitlines():
        if line and not line.startswith("#") and not _CRON_SETTING.fullmatch(line):
            at = _CRON_TIME.match(line)
            assert at, line
            yield line[at.end() :].strip()


def parse_toml(text: str, folder: Path) -> None:
    """A plan of faults, or a part of a config: every key of it must be one, with a value that it may have."""
    (folder / "part.toml").write_text(text)
    found = tomllib.loads(text)
    if "rules" in found:
        read_plan(folder / "part.toml")
        return
    rest = {key: value for key, value in NOTHING_ASKED.items() if "job" not in found}
    load(folder / "part.toml", flags=rest | ({} if "input" in found else {"input.index_id": "any"}), environment={})


def parse_csv(text: str, _: Path) -> None:
    header, *rows = csv.reader(text.splitlines())
    assert all(len(row) == len(header) for row in rows)


def parse_json(text: str, _: Path) -> None:
    """One value, or one a line."""
    if text.startswith(("[", "{\n")):
        json.loads(text)
    else:
        assert all(isinstance(json.loads(line), dict) for line in text.splitlines())


def parse_yaml(text: str, _: Path) -> None:
    yaml.safe_load(text)


def parse_crontab(text: str, _: Path) -> None:
    assert list(cron_commands(text))


def shown_as_it_is(_: str, __: Path) -> None:
    """For what has no form of its own."""


_FORMS: Mapping[str, Callable[[str, Path], None]] = {
    "toml": parse_toml,
    "csv": parse_csv,
    "json": parse_json,
    "ndjson": parse_json,
    "yaml": parse_yaml,
    "crontab": parse_crontab,
    "srt": shown_as_it_is,
    "text": shown_as_it_is,
    "console": shown_as_it_is,
}


@every_page
def test_what_is_shown_has_the_form_that_it_is_said_to_have(page: Path, tmp_path: Path) -> None:
    for block in blocks(page):
        if block.file:
            (tmp_path / block.file).write_text(block.text)
        if block.language not in _RUN:
            assert block.language in _FORMS, f"{page.name}: a block of {block.language or 'no language'}"
            _FORMS[block.language](block.text, tmp_path)
