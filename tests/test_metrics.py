"""The metrics file: read by Prometheus' own parser, complete, and never the end of a run."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric as Family
from prometheus_client.parser import text_string_to_metric_families

from pipeline.metrics import METRICS, PREFIX, SECONDS_BOUNDS, Ending, Gauges, Histogram, exposition
from pipeline.progress import Activity, Allowance, Facts
from pipeline.rundir import publish

NOW = 1_700_000_000.25
GAUGES = Gauges(
    directory="/srv/classify/runs/overnight",
    name="overnight",
    run_id="r1",
    version="1.2.3",
    facts=Facts(
        now=NOW,
        videos=100,
        scored=40,
        no_match=10,
        failures={"timed_out": 2, "resource_not_exist": 1},
        posts=12,
        posts_planned=20,
        pace=0.5,
        pace_allowed=1.0,
        allowance=Allowance(1_200, 12, NOW + 60, 86_400),
        activity=Activity("waiting_for_quota", NOW + 60),
        seconds_left=90.5,
    ),
    started_at=NOW - 30,
    posts={"answered": 11, "refused": 0, "unknown": 1},
    committed_bytes={"scores.ndjson": 1_234, "clips.ndjson": 0},
    durations={},
)


def families(gauges: Gauges) -> dict[str, Family]:
    return {one.name: one for one in text_string_to_metric_families(exposition(gauges).decode())}


def values(gauges: Gauges) -> dict[str, float]:
    """Every sample, by its name and its labels but the directory, which all have."""
    found = {}
    for family in families(gauges).values():
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("directory") == gauges.directory
            told = ",".join(f"{name}={value}" for name, value in labels.items())
            found[sample.name.removeprefix(f"{PREFIX}_") + (f"{{{told}}}" if told else "")] = sample.value
    return found


def test_a_run_that_goes_on() -> None:
    assert values(GAUGES) == {
        "info{name=overnight,run_id=r1,version=1.2.3}": 1,
        "running": 1,
        "updated_timestamp_seconds": NOW,
        "started_timestamp_seconds": NOW - 30,
        "activity{activity=answering}": 0,
        "activity{activity=waiting_for_quota}": 1,
        "activity{activity=probing}": 0,
        "activity{activity=held_back}": 0,
        "activity{activity=draining}": 0,
        "remaining_seconds": 90.5,
        "videos{state=open}": 47,
        "videos{state=scored}": 40,
        "videos{state=no_match}": 10,
        "videos{state=failed}": 3,
        "failed_videos{code=timed_out}": 2,
        "failed_videos{code=resource_not_exist}": 1,
        "posts_planned": 20,
        "posts_per_second": 0.5,
        "requests_per_second_limit": 1,
        "quota_limit_posts": 1_200,
        "quota_left_posts": 1_188,
        "quota_resets_timestamp_seconds": NOW + 60,
        "posts_total{outcome=answered}": 11,
        "posts_total{outcome=refused}": 0,
        "posts_total{outcome=unknown}": 1,
        "committed_bytes{file=scores.ndjson}": 1_234,
        "committed_bytes{file=clips.ndjson}": 0,
    }


def test_a_run_that_has_ended_tells_how_and_nothing_of_what_it_does() -> None:
    ended = values(replace(GAUGES, ending=Ending(75, "quota_reached"), last_success_at=1_600_000_000.0))
    told = ("running", "exit_code", "stopped{reason=quota_reached}", "ended_timestamp_seconds")
    assert [ended[name] for name in told] == [0, 75, 1, NOW]
    assert ended["last_success_timestamp_seconds"] == 1_600_000_000
    assert [name for name in ended if name.startswith(("activity", "remaining"))] == []
    assert "stopped" not in "".join(values(replace(GAUGES, ending=Ending(0))))


def test_what_is_not_known_is_left_out_and_never_zero() -> None:
    facts = replace(GAUGES.facts, pace=None, pace_allowed=None, allowance=None, seconds_left=None)
    told = values(replace(GAUGES, facts=facts))
    absent = ("quota", "posts_per_second", "requests", "remaining", "last_success", "exit_code", "ended")
    assert [name for name in told if name.startswith(absent)] == []


def test_durations_are_a_histogram_whose_buckets_add_up() -> None:
    histogram = Histogram()
    for seconds in (0.05, 0.1, 0.3, 20.0, 1_000.0, -5.0):  # a clock was set back
        histogram.observe(seconds)
    told = values(replace(GAUGES, durations={"POST": histogram}))
    buckets = [told[f"request_duration_seconds_bucket{{method=POST,le={le}}}"] for le in (*SECONDS_BOUNDS, "+Inf")]
    assert buckets == [3, 3, 4, 4, 4, 4, 4, 5, 5, 5, 5, 5, 6]
    assert told["request_duration_seconds_count{method=POST}"] == 6
    assert told["request_duration_seconds_sum{method=POST}"] == pytest.approx(1_020.45)


def test_every_metric_has_a_help_a_type_and_a_name_by_the_conventions() -> None:
    whole = replace(GAUGES, durations={"POST": Histogram()}, ending=Ending(75, "quota_reached"), last_success_at=1.0)
    told = families(GAUGES) | families(whole)
    for metric in METRICS:
        family = told[f"{PREFIX}_{metric.name}".removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert len(told) == len(METRICS)


@given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")))
def test_whatever_stands_in_a_label_is_read_as_it_was(directory: str, code: str) -> None:
    gauges = replace(GAUGES, directory=directory, facts=replace(GAUGES.facts, failures={code: 7}))
    (failed,) = (
        sample
        for line in [one for one in exposition(gauges).decode().split("\n") if one.startswith(f"{PREFIX}_failed")]
        for family in text_string_to_metric_families(line + "\n")
        for sample in family.samples
    )
    assert (failed.labels, failed.value) == ({"directory": directory, "code": code}, 7)


def test_a_folder_whose_name_is_not_unicode_is_told_all_the_same() -> None:
    told = families(replace(GAUGES, directory=os.fsdecode(b"x\xff")))
    assert told["bulk_classify_running"].samples[0].labels == {"directory": r"x\udcff"}


# ----------------------------------------------------------------------------------------------------------- the file


@pytest.mark.parametrize(("is_private", "mode"), [(True, 0o600), (False, 0o644)])
def test_a_file_is_replaced_whole_and_read_by_whom_it_is_for(tmp_path: Path, is_private: bool, mode: int) -> None:
    path = tmp_path / "run.prom"
    before = os.umask(0o077)
    try:
        for content in (b"before", b"after"):
            publish(path, content, is_private=is_private)
    finally:
        os.umask(before)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"after", mode)
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_in_the_place_of_the_draft_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / ".run.prom.draft").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        publish(tmp_path / "run.prom", b"x", is_private=True)
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_is_not_there_is_an_error_of_the_systems(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        publish(tmp_path / "nowhere/run.prom", b"x", is_private=False)
