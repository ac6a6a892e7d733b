"""What README and docs say is done or looked up: commands, links, rows, keys, codes, modules.

The kind of a fenced block says what is done with it. ``sh`` is run, block after block of a page, in a folder that has
the checkout's ``configs``; every line must succeed. ``console`` holds what cannot be run here (it needs a key, or goes
on for ever): its commands are parsed and not carried out. A block with a file name behind its language is that file.
Rows in the README's ``json`` blocks are looked up in what the quickstart wrote.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec
import pytest

from pipeline import cli, errors
from pipeline.failure_codes import MEANINGS, Meaning
from pipeline.metrics import METRICS, PREFIX, Ending, Histogram
from pipeline.plan import Plan
from pipeline.progress import ACTIVITIES, live_view, plain
from pipeline.rows import CLIPS, FAILURES, ROW_FILES, SCORES, VIDEOS, ClipRow, FailureRow, ScoreRow, VideoRow
from pipeline.status import Status
from tests.test_metrics import GAUGES, families
from tests.test_progress import FACTS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README, DOCS = ROOT / "README.md", ROOT / "docs"
PROGRAM = "bulk-classify"
_FENCED = re.compile(r"^```(?P<language>\w*)(?: (?P<file>\S+))?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_DIFFERS_BY_RUN = {"run_id", "classified_at"}

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    file: str | None
    text: str


def blocks(page: Path) -> list[Block]:
    return [Block(*found.group("language", "file", "text")) for found in _FENCED.finditer(page.read_text("utf-8"))]


def prose(page: Path) -> str:
    return _FENCED.sub("", page.read_text("utf-8"))


def section(page: Path, heading: str) -> str:
    """What stands under a heading, down to the next one of any level."""
    _, found, rest = prose(page).partition(f"\n{heading}\n")
    assert found, f"{page.name} has no heading {heading!r}"
    return re.split(r"^#", rest, maxsplit=1, flags=re.MULTILINE)[0]


def first_column(table: str) -> list[str]:
    return [cell.strip("`") for cell in re.findall(r"^\| (`[^`|]+`|\d+) \|", table, re.MULTILINE)]


# ----------------------------------------------------------------------------------------------------------- commands


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


def run_blocks(page: Path, folder: Path, environment: dict[str, str]) -> None:
    """Carry out a page, as somebody would who types what it says."""
    shutil.copytree(ROOT / "configs", folder / "configs")
    for block in blocks(page):
        if block.file:
            (folder / block.file).write_text(block.text)
        elif block.language == "sh":
            ours = "\n".join(line for line in block.text.splitlines() if not line.startswith("./scripts/"))
            done = subprocess.run(
                ["sh", "-eu"], input=ours, cwd=folder, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{block.text}\n{done.stderr}"


@pytest.fixture(scope="module")
def vendor() -> Iterator[dict[str, str]]:
    """The variables of somebody whose index is with the vendor, whose part a fake of version 1.3 takes."""
    few = ["--videos", "2", "--key", "a-key"]  # at the pace that the page takes for granted
    command = [sys.executable, "-m", "tests.servers.vendor", *few, "--index-id", "6298d673f1090f1100476d4c"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield {"TWELVELABS_BASE_URL": process.stdout.readline().strip(), "TWELVELABS_API_KEY": "a-key"}
        process.terminate()


@every_page
def test_every_sh_block_runs(page: Path, tmp_path: Path, environment: dict[str, str], vendor: dict[str, str]) -> None:
    run_blocks(page, tmp_path, environment | (vendor if page == DOCS / "migration.md" else {}))


@every_page
def test_sh_blocks_hold_nothing_but_our_own_commands(page: Path) -> None:
    """What the blocks run must be ours, or a failure could be anybody's; scripts are run by the checks themselves."""
    lines = [line for block in blocks(page) if block.language == "sh" for line in block.text.splitlines()]
    for line in lines:
        program = line.split()[0]
        assert program == PROGRAM or os.access(ROOT / program, os.X_OK), line


def commands_to_parse(page: Path) -> Iterator[str]:
    for block in blocks(page):
        if block.language == "console":
            yield from (line[2:] for line in block.text.splitlines() if line.startswith("$ "))
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
        if words[0] == PROGRAM:
            parse(words[1:])


def leaves(group: click.Group, path: str) -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, f"{path} {name}")
        else:
            yield f"{path} {name}"


def test_readme_lists_every_command_and_no_other() -> None:
    listed = [re.sub(r" [A-Z]+$", "", cell) for cell in first_column(section(README, "## Commands"))]

    assert sorted(listed) == sorted(leaves(cli._commands, PROGRAM))


# -------------------------------------------------------------------------------------------------------------- links


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@every_page
def test_relative_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.is_relative_to(ROOT)
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


# --------------------------------------------------------------------------------------------------------------- rows


def recurring(row: dict[str, Any]) -> str:
    return json.dumps({key: value for key, value in row.items() if key not in _DIFFERS_BY_RUN})


def test_the_rows_in_the_readme_are_those_of_the_quickstart(tmp_path: Path, environment: dict[str, str]) -> None:
    run_blocks(README, tmp_path, environment)
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


@pytest.mark.parametrize(
    ("name", "row"), [(SCORES, ScoreRow), (CLIPS, ClipRow), (VIDEOS, VideoRow), (FAILURES, FailureRow)]
)
def test_every_key_of_a_row_is_explained_in_its_order(name: str, row: type[msgspec.Struct]) -> None:
    assert first_column(section(DOCS / "output.md", f"## `{name}`")) == list(row.__struct_fields__)


def test_every_key_of_the_status_is_explained_in_its_order() -> None:
    explained = first_column(section(DOCS / "json.md", "## `status`"))

    assert explained == [field.name for field in dataclasses.fields(Status)]


def test_every_key_of_the_plan_is_explained_in_its_order() -> None:
    explained = first_column(section(DOCS / "json.md", "## `plan`"))

    assert explained == [field.name for field in dataclasses.fields(Plan)]


def test_the_plan_that_is_shown_is_that_of_the_quickstart(tmp_path: Path, environment: dict[str, str]) -> None:
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    command, shown = blocks(DOCS / "cost.md")[:2]
    done = subprocess.run(
        ["sh", "-eu"], input=command.text, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    moment = re.compile(r"until [^,]+")

    assert moment.sub("until then", done.stdout) == moment.sub("until then", shown.text)
    assert not (tmp_path / "runs").exists()


# ----------------------------------------------------------------------------------------------------- codes and names


def exit_codes(stop: type[errors.StopRun]) -> Iterator[int]:
    yield stop.exit_code
    for narrower in stop.__subclasses__():
        yield from exit_codes(narrower)


def test_every_exit_code_is_explained() -> None:
    explained = [int(code) for code in first_column(section(DOCS / "codes.md", "## Exit codes"))]

    assert explained == sorted({0, 3, *exit_codes(errors.StopRun)})


def test_every_event_is_explained() -> None:
    logged = {
        name
        for module in (ROOT / "pipeline").rglob("*.py")
        for name in re.findall(r"\.event\(\s*\"(\w+)\"", module.read_text("utf-8"))
    }

    assert set(first_column(section(DOCS / "output.md", "## `run.log`"))) == logged


def facts_logged() -> dict[str, set[str]]:
    """The facts of every event, as the code names them."""
    found: dict[str, set[str]] = {}
    for module in (ROOT / "pipeline").rglob("*.py"):
        for call in (one for one in ast.walk(ast.parse(module.read_bytes())) if isinstance(one, ast.Call)):
            if isinstance(call.func, ast.Attribute) and call.func.attr == "event" and call.args:
                assert isinstance(call.args[0], ast.Constant)
                facts = {str(keyword.arg) for keyword in call.keywords}
                found.setdefault(str(call.args[0].value), set()).update(facts)
    return found


def test_every_fact_of_every_event_is_explained() -> None:
    rows = re.findall(r"^\| `(\w+)` \| \w+ \| (.*?) \|", section(DOCS / "output.md", "## `run.log`"), re.MULTILINE)

    assert {name: set(re.findall(r"`(\w+)`", facts)) for name, facts in rows} == facts_logged()


def test_every_failure_code_is_explained() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (.+) \| (.+) \|$", section(DOCS / "codes.md", "## Codes of failed videos"), re.MULTILINE
    )

    assert {code: Meaning(what, advice) for code, what, advice in rows} == dict(MEANINGS)


def own_codes(failed: type[errors.RequestFailed]) -> Iterator[str]:
    yield failed.code
    for narrower in failed.__subclasses__():
        yield from own_codes(narrower)


def test_every_code_of_our_own_has_a_meaning() -> None:
    written = {
        code
        for name in ("client", "transport", "walk")
        for code in re.findall(r"code=\"(\w+)\"", (ROOT / f"pipeline/{name}.py").read_text("utf-8"))
    }

    assert {*own_codes(errors.RequestFailed), *written} - set(MEANINGS) == set()


# ------------------------------------------------------------------------------------------------------------- metrics


def test_every_metric_is_explained_with_its_type_and_labels() -> None:
    rows = re.findall(
        r"^\| `bulk_classify_(\w+)` \| (\w+) \| (.*?) ?\| .+ \|$",
        section(DOCS / "monitoring.md", "### Metrics"),
        re.MULTILINE,
    )

    assert [(name, kind) for name, kind, _ in rows] == [(metric.name, metric.kind) for metric in METRICS]
    ended = dataclasses.replace(
        GAUGES, durations={"POST": Histogram()}, ending=Ending(75, "quota_reached"), last_success_at=1.0
    )
    labels = {
        name.removeprefix(f"{PREFIX}_"): {label for one in family.samples for label in one.labels} - {"le", "directory"}
        for name, family in {**families(GAUGES), **families(ended)}.items()
    }
    assert {name.removesuffix("_total"): set(re.findall(r"`(\w+)`", told)) for name, _, told in rows} == labels


def test_the_example_alerts_are_about_metrics_that_exist() -> None:
    (rules,) = [block.text for block in blocks(DOCS / "monitoring.md") if block.language == "yaml"]
    known = {f"{PREFIX}_{metric.name}" for metric in METRICS}

    assert set(re.findall(rf"{PREFIX}_\w+", rules)) - known == set()
    assert re.findall(r"activity=\"(\w+)\"", rules) == ["probing"]
    assert "probing" in ACTIVITIES


def test_the_view_that_is_shown_is_the_one_that_is_drawn() -> None:
    shown = next(block.text for block in blocks(DOCS / "monitoring.md") if block.language == "text")

    assert shown.splitlines() == [plain(line) for line in live_view(FACTS, 79)]


def test_every_module_is_in_the_architecture_and_no_other() -> None:
    package = ROOT / "pipeline"
    modules = {
        path.relative_to(package).with_suffix("").as_posix()
        for path in package.rglob("*.py")
        if not path.stem.startswith("__")
    }

    assert set(first_column(section(DOCS / "architecture.md", "## Ranks"))) == modules
