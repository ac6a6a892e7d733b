"""How a run stands, for Prometheus: a text file for the node exporter's textfile collector, whole each time.

A batch job that comes and goes needs no port: the file stays and tells how it ended. Names and units follow Prometheus'
conventions (https://prometheus.io/docs/practices/naming/). Every series has the label ``directory``, for the collector
joins all files into one page and refuses it whole where two of them tell the same series. What is not known is left
out, never zero. Nothing here may cost the run anything: a file that cannot be written is an event, and no error.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from pipeline.progress import ACTIVITIES, Facts

PREFIX = "bulk_classify"
SECONDS_BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Up to the default of ``api.request_timeout_seconds``."""


class Metric(NamedTuple):
    """A metric's name without the prefix, its type, and what it tells."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str


METRICS = (
    Metric("info", "gauge", "Which run this is; always 1."),
    Metric("running", "gauge", "Whether the run went on when the file was written."),
    Metric("updated_timestamp_seconds", "gauge", "When this file was written."),
    Metric("started_timestamp_seconds", "gauge", "When the last process of the run began."),
    Metric("ended_timestamp_seconds", "gauge", "When it ended; absent while it goes on."),
    Metric("exit_code", "gauge", "What it ended with; absent while it goes on."),
    Metric("stopped", "gauge", "1 under the reason for which it stopped before its end; absent otherwise."),
    Metric("last_success_timestamp_seconds", "gauge", "When the run last ended with every video answered."),
    Metric("videos", "gauge", "Videos of the run by state."),
    Metric("failed_videos", "gauge", "Videos that have failed, by code."),
    Metric("posts_total", "counter", "POSTs that have left in all the life of the run, by what became of them."),
    Metric("posts_planned", "gauge", "POSTs used so far, and those that the rest takes while nothing fails."),
    Metric("posts_per_second", "gauge", "POSTs in a second over the last minute."),
    Metric("requests_per_second_limit", "gauge", "limits.requests_per_second; absent where there is none."),
    Metric("quota_limit_posts", "gauge", "POSTs that the present window of the quota allows; absent without a quota."),
    Metric("quota_left_posts", "gauge", "POSTs that are left of them."),
    Metric("quota_resets_timestamp_seconds", "gauge", "When the window ends."),
    Metric("activity", "gauge", "1 for what the run is doing, 0 for the rest."),
    Metric("remaining_seconds", "gauge", "How long the rest is estimated to take; absent while nobody can know."),
    Metric("committed_bytes", "gauge", "The length up to which a file of rows may be read."),
    Metric("request_duration_seconds", "histogram", "From sending a request to its whole answer, in this process."),
)
"""Every metric, in the order of the file."""
_KNOWN = {metric.name for metric in METRICS}


@dataclass(slots=True)
class Histogram:
    """How long requests took: how many in each span between two bounds, and all together in seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(SECONDS_BOUNDS) + 1))
    total: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one request. A clock that was set back counts as no time."""
        self.counts[bisect_left(SECONDS_BOUNDS, seconds)] += 1
        self.total += max(seconds, 0.0)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process of the run ended: its exit code, and the kind of its reason where it stopped before the end."""

    exit_code: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Gauges:
    """All that the file tells. Moments are in seconds since the epoch.

    ``posts`` counts by what became of them, ``committed_bytes`` is by file, ``durations`` by HTTP method.
    """

    directory: str
    name: str
    run_id: str
    version: str
    facts: Facts
    started_at: float
    posts: Mapping[str, int]
    committed_bytes: Mapping[str, int]
    durations: Mapping[str, Histogram]
    last_success_at: float | None = None
    ending: Ending | None = None


class _Sample(NamedTuple):
    metric: str
    value: float
    labels: Mapping[str, str] = {}
    suffix: str = ""


def exposition(gauges: Gauges) -> bytes:
    """The whole file, in Prometheus' text format 0.0.4."""
    samples: dict[str, list[_Sample]] = {}
    for sample in _samples(gauges):
        assert sample.metric in _KNOWN, sample.metric
        samples.setdefault(sample.metric, []).append(sample)
    lines: list[str] = []
    for metric in METRICS:
        if found := samples.get(metric.name):
            lines += [
                f"# HELP {PREFIX}_{metric.name} {metric.help}",
                f"# TYPE {PREFIX}_{metric.name} {metric.kind}",
                *(_line(one, gauges.directory) for one in found),
            ]
    return ("\n".join(lines) + "\n").encode()


def _samples(gauges: Gauges) -> Iterator[_Sample]:
    yield from _of_the_process(gauges)
    yield from _of_the_run(gauges.facts)
    for outcome, number in gauges.posts.items():
        yield _Sample("posts_total", number, {"outcome": outcome})
    for file, length in gauges.committed_bytes.items():
        yield _Sample("committed_bytes", length, {"file": file})
    for method, histogram in gauges.durations.items():
        yield from _buckets(method, histogram)


def _of_the_process(gauges: Gauges) -> Iterator[_Sample]:
    ending, facts = gauges.ending, gauges.facts
    yield _Sample("info", 1, {"name": gauges.name, "run_id": gauges.run_id, "version": gauges.version})
    yield _Sample("running", ending is None)
    yield _Sample("updated_timestamp_seconds", facts.now)
    yield _Sample("started_timestamp_seconds", gauges.started_at)
    if gauges.last_success_at is not None:
        yield _Sample("last_success_timestamp_seconds", gauges.last_success_at)
    if ending is None:
        yield from (_Sample("activity", kind == facts.activity.kind, {"activity": kind}) for kind in ACTIVITIES)
        if facts.seconds_left is not None:
            yield _Sample("remaining_seconds", facts.seconds_left)
        return
    yield _Sample("ended_timestamp_seconds", facts.now)
    yield _Sample("exit_code", ending.exit_code)
    if ending.reason is not None:
        yield _Sample("stopped", 1, {"reason": ending.reason})


def _of_the_run(facts: Facts) -> Iterator[_Sample]:
    states = {
        "open": facts.videos - facts.settled,
        "scored": facts.scored,
        "no_match": facts.no_match,
        "failed": facts.failed,
    }
    yield from (_Sample("videos", number, {"state": state}) for state, number in states.items())
    yield from (_Sample("failed_videos", number, {"code": code}) for code, number in facts.failures.items())
    yield _Sample("posts_planned", facts.posts_planned)
    if facts.pace is not None:
        yield _Sample("posts_per_second", facts.pace)
    if facts.pace_allowed is not None:
        yield _Sample("requests_per_second_limit", facts.pace_allowed)
    if facts.allowance is not None:
        yield _Sample("quota_limit_posts", facts.allowance.limit)
        yield _Sample("quota_left_posts", facts.allowance.left)
        yield _Sample("quota_resets_timestamp_seconds", facts.allowance.resets_at)


def _buckets(method: str, histogram: Histogram) -> Iterator[_Sample]:
    """Each bucket counts all that took no longer than its bound."""
    so_far = 0
    for bound, count in zip((*map(repr, SECONDS_BOUNDS), "+Inf"), histogram.counts, strict=True):
        so_far += count
        yield _Sample("request_duration_seconds", so_far, {"method": method, "le": bound}, "_bucket")
    yield _Sample("request_duration_seconds", histogram.total, {"method": method}, "_sum")
    yield _Sample("request_duration_seconds", so_far, {"method": method}, "_count")


def _line(sample: _Sample, directory: str) -> str:
    labels = {"directory": directory, **sample.labels}
    told = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{PREFIX}_{sample.metric}{sample.suffix}{{{told}}} {_number(sample.value)}"


def _escaped(value: str) -> str:
    unicode = value.encode("utf-8", "backslashreplace").decode()  # a folder's name may be none
    return unicode.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
