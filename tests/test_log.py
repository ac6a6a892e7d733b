"""Events: one JSON object a line, whatever the facts are, and never the end of a run."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import StorageError
from pipeline.log import LEVELS, Level, Log, utc


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.log"


@pytest.fixture
def log(path: Path) -> Iterator[Log]:
    with Log(path, level="info", clock=lambda: 1767323045.678) as opened:
        yield opened


def test_an_event_is_a_line_with_its_moment_level_name_and_facts(path: Path, log: Log) -> None:
    log.event("run_began", run_id="r1", videos=3, share=0.5, reason=None)
    log.event("post_failed", "warning", path=Path("/tmp/x"), codes=("a", "b"))
    assert path.read_text() == (
        '{"at":"2026-01-02T03:04:05.678Z","level":"info","event":"run_began",'
        '"run_id":"r1","videos":3,"share":0.5,"reason":null}\n'
        '{"at":"2026-01-02T03:04:05.678Z","level":"warning","event":"post_failed",'
        '"path":"/tmp/x","codes":["a","b"]}\n'
    )


@pytest.mark.parametrize("lowest", LEVELS)
def test_events_below_the_level_are_not_written(path: Path, lowest: Level) -> None:
    with Log(path, level=lowest, clock=lambda: 0.0) as log:
        for level in LEVELS:
            log.event("something", level)
    written = [json.loads(line)["level"] for line in path.read_bytes().splitlines()]
    assert written == list(LEVELS[LEVELS.index(lowest) :])


def test_a_log_goes_on_where_it_was_and_is_its_owners_alone(path: Path) -> None:
    for name in ("first", "second"):
        with Log(path, level="info", clock=lambda: 0.0) as log:
            log.event(name)
    assert [json.loads(line)["event"] for line in path.read_bytes().splitlines()] == ["first", "second"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match=r"run\.log: Too many levels of symbolic links$"):
        Log(path, level="info", clock=lambda: 0.0)
    assert not (tmp_path / "elsewhere").exists()


def test_a_write_that_fails_is_dropped(path: Path, log: Log) -> None:
    read_only = os.open(path, os.O_RDONLY)
    os.dup2(read_only, log._descriptor)
    os.close(read_only)
    log.event("lost")
    assert path.read_bytes() == b""


facts = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(facts)
def test_any_fact_makes_one_line_of_json(path: Path, log: Log, fact: object) -> None:
    """A file's name need not be Unicode, and a number need not fit into 64 bits: no fact may end a run."""
    os.truncate(path, 0)
    log.event("seen", fact=fact)
    (line,) = path.read_bytes().split(b"\n")[:-1]
    assert json.loads(line)["event"] == "seen"


@pytest.mark.parametrize("fact", [os.fsdecode(b"ids-\xff.txt"), 2**64, -(2**63) - 1])
def test_what_json_cannot_hold_is_written_all_the_same(path: Path, log: Log, fact: object) -> None:
    log.event("line_skipped", problem=fact)
    assert json.loads(path.read_bytes())["event"] == "line_skipped"


@pytest.mark.parametrize(
    ("seconds", "moment"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1767323045.678, "2026-01-02T03:04:05.678Z"),
        (1767323045.9999, "2026-01-02T03:04:05.999Z"),
        (-1.5, "1969-12-31T23:59:58.500Z"),
    ],
)
def test_moments_are_utc_with_milliseconds(seconds: float, moment: str) -> None:
    assert utc(seconds) == moment
