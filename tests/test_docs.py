"""What README and docs say of names and keys is looked up: nothing is left out, and nothing is made up.

That their blocks can be carried out is shown in test_doc_blocks, and that their links lead somewhere in test_site.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import anyio
import click
import msgspec
import pytest

from pipeline import cli, errors
from pipeline.failure_codes import MEANINGS
from pipeline.metrics import METRICS, PREFIX, Ending, Histogram
from pipeline.plan import Plan
from pipeline.platform.calibrate import calibrate_index
from pipeline.platform.indexes import Files, create_index, import_texts, remove_videos
from pipeline.platform.server import _CODES
from pipeline.progress import ACTIVITIES, live_view, plain
from pipeline.rows import CLIPS, FAILURES, SCORES, VIDEOS, ClipRow, FailureRow, ScoreRow, VideoRow
from pipeline.status import Status
from pipeline.vendor_import import Imported, ImportPlan
from pipeline.verify import Report
from pipeline.wire_lists import ListedVideo
from tests import command_reference
from tests.pages import DOCS, PROGRAM, README, ROOT, blocks, first_column, section
from tests.test_metrics import GAUGES, families
from tests.test_progress import FACTS

# From its reference of version 1.2; whatever else it sends is passed on.
VENDORS_CODES = {
    "parameter_invalid",
    "parameter_not_provided",
    "parameter_unknown",
    "resource_not_exist",
    "api_key_invalid",
    "unauthorized",
    "too_many_requests",
    "api_upgrade_required",
    "request_canceled_or_timed_out",
}


def fields_of(kind: type) -> Sequence[str]:
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    assert issubclass(kind, msgspec.Struct)
    return kind.__struct_fields__


# ----------------------------------------------------------------------------------------------------------- commands


def leaves(group: click.Group, path: str) -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, f"{path} {name}")
        else:
            yield f"{path} {name}"


def test_readme_lists_every_command_and_no_other() -> None:
    listed = [re.sub(r" [A-Z]+( --to .*)?$", "", cell) for cell in first_column(section(README, "## Commands"))]

    assert sorted(listed) == sorted(leaves(cli._commands, PROGRAM))


def test_the_reference_of_commands_is_what_they_say_of_themselves() -> None:
    """Should this fail, the page is older than the help texts: ``python -m tests.command_reference`` renews it."""
    assert command_reference.PAGE.read_text("utf-8") == command_reference.page()


# --------------------------------------------------------------------------------------------------------------- keys


@pytest.mark.parametrize(
    ("name", "row"), [(SCORES, ScoreRow), (CLIPS, ClipRow), (VIDEOS, VideoRow), (FAILURES, FailureRow)]
)
def test_every_key_of_a_row_is_explained_in_its_order(name: str, row: type) -> None:
    assert first_column(section(DOCS / "output.md", f"## `{name}`")) == list(fields_of(row))


@pytest.mark.parametrize(
    ("command", "facts"),
    [
        ("`plan`", Plan),
        ("`status`", Status),
        ("`verify`", Report),
        ("`ids`", ListedVideo),
        ("`index import vendor`", Imported),
        ("`index import vendor --plan`", ImportPlan),
    ],
)
def test_every_key_of_json_on_stdout_is_explained_in_its_order(command: str, facts: type) -> None:
    assert first_column(section(DOCS / "json.md", f"## {command}")) == list(fields_of(facts))


def test_every_key_that_a_command_about_an_index_prints_is_explained_in_its_order(tmp_path: Path) -> None:
    """These are no values of a class, so they are looked at as they are printed."""
    texts, file = tmp_path / "texts.ndjson", tmp_path / "my.index"
    clips = [{"start": 0, "end": 4, "text": "a dog"}, {"start": 4, "end": 9, "text": "a boat on a lake"}]
    texts.write_text(json.dumps({"video_id": "a", "filename": "a.mp4", "duration_seconds": 9, "visual": clips}))
    printed = {
        "`index create` and `index info`": create_index(file, "mine", texts),
        "`index import texts` and `index import vectors`": import_texts(file, Files([texts])),
        "`index calibrate`": anyio.run(calibrate_index, file, None),
        "`index remove`": remove_videos(file, ["a"]),
    }

    for commands, facts in printed.items():
        assert first_column(section(DOCS / "json.md", f"## {commands}")) == list(facts)


# ----------------------------------------------------------------------------------------------------- codes and names


def exit_codes(stop: type[errors.StopRun]) -> Iterator[int]:
    yield stop.exit_code
    for narrower in stop.__subclasses__():
        yield from exit_codes(narrower)


def test_every_exit_code_is_explained() -> None:
    explained = [int(code) for code in first_column(section(DOCS / "codes.md", "## Exit codes"))]

    assert explained == sorted({0, 3, *exit_codes(errors.StopRun)})


def leaf_errors(kind: type[errors.RequestFailed]) -> Iterator[type[errors.RequestFailed]]:
    yield kind
    for narrower in kind.__subclasses__():
        yield from leaf_errors(narrower)


def codes_in(module: Path) -> Iterator[str]:
    """The codes that a module gives to errors: as ``code=``, as a refusal's, and by HTTP status."""
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        match node:
            case ast.Call(func=ast.Name(id="RequestInvalid"), args=[ast.Constant(value=str(code)), *_]):
                yield code
            case ast.Call(func=ast.Name(id="encode_error"), args=[ast.Constant(value=str(code)), *_]):
                yield code
            case ast.Call(func=ast.Name(id="_refusal"), args=[_, ast.Constant(value=str(code)), *_]):
                yield code
            case ast.keyword(arg="code", value=ast.Constant(value=str(code))):
                yield code


def test_every_error_code_is_explained_and_no_other() -> None:
    ours = {kind.code for kind in leaf_errors(errors.RequestFailed)}
    # An import tells its errors in words alone: no row, no event and no answer has their codes.
    modules = [path for path in (ROOT / "pipeline").rglob("*.py") if not path.stem.startswith("vendor_")]
    in_code = {code for module in modules for code in codes_in(module)}
    explained = {
        code
        for heading in ("### Ours", "### A platform's")
        for code in first_column(section(DOCS / "codes.md", heading))
    }

    assert explained == ours | in_code | set(_CODES.values()) | VENDORS_CODES
    assert ours <= MEANINGS.keys() <= explained, "what a summary says of a failed video"


def test_a_summary_and_the_table_of_codes_name_the_same_option_of_retry() -> None:
    """They are worded twice, for one line and for a page; what is to be typed must not differ."""
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", (DOCS / "codes.md").read_text("utf-8"), re.MULTILINE))
    option = re.compile(r"retry (--all|--code \w+)")

    assert {code: option.findall(one.advice) for code, one in MEANINGS.items()} == {
        code: option.findall(rows[code]) for code in MEANINGS
    }


def stops(kind: type[errors.StopRun]) -> Iterator[type[errors.StopRun]]:
    for narrower in kind.__subclasses__():
        if narrower.__module__ == errors.__name__:
            yield narrower
            yield from stops(narrower)


def test_every_reason_for_which_a_run_stops_is_explained_with_its_exit_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| (\d+) \|$", section(DOCS / "codes.md", "## Why a run stops"), re.MULTILINE)

    assert rows == [(kind.code, str(kind.exit_code)) for kind in stops(errors.StopRun)]
    assert len({code for code, _ in rows}) == len(rows)


def test_the_commands_that_have_no_json_are_named() -> None:
    commands = command_reference.leaves(cli._commands, click.Context(cli._commands))
    without = {command.name for command, _ in commands if "as_json" not in {one.name for one in command.params}}
    (exceptions,) = re.findall(r"All commands take it but (.*?)\n\n", (DOCS / "json.md").read_text("utf-8"), re.DOTALL)

    assert set(re.findall(r"`(\w+)`", exceptions)) == without


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
    assert f"unless on (directory) {PREFIX}_last_success_timestamp_seconds" in rules, "without a success there is none"
    assert f"absent({PREFIX}_" in rules, "without a run there is nothing at all"
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
