"""A run, looked at from beside: what its live view, its heartbeat and its metrics tell of it.

Nothing is counted for the sake of being shown but what a chunk has come to. All else (the gate's count of the quota,
what became of the POSTs, how long the files are) is read where it is kept when a view is drawn, twice a second, or when
the metrics are written, four times a minute; so the hot path knows nothing of being watched.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import anyio

import pipeline
from pipeline.chunks import Counts, PostState, VideoState
from pipeline.config import Config, job_of
from pipeline.console import Console
from pipeline.errors import StopRun, StorageError
from pipeline.ledger import RESUME_AFTER, STOP_CODE, STOP_REASON, Ledger
from pipeline.log import Log
from pipeline.metrics import Ending, Gauges, Histogram, exposition
from pipeline.pacing import Gate
from pipeline.packing import prompt_groups
from pipeline.posting import Requests
from pipeline.progress import Activity, Allowance, Facts, duration, heartbeat, live_view, seconds_left
from pipeline.rows import ROW_FILES
from pipeline.rundir import METRICS, RowFiles, publish
from pipeline.status import PACE_SECONDS, allowance_of
from pipeline.stopping import Stop
from pipeline.wording import counted

_SECONDS_BETWEEN_METRICS = 15.0  # a usual scrape interval
_GRACE_SECONDS = 10.0  # the gate waits a little longer than a window lasts: people are told its end
OUTCOMES = {PostState.ANSWERED: "answered", PostState.REFUSED: "refused", PostState.UNKNOWN: "unknown"}
"""What becomes of a POST that has left."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What is looked at. ``counts`` is how the run stood when this process began."""

    counts: Counts
    gate: Gate
    requests: Requests
    stop: Stop
    files: RowFiles


@dataclass(frozen=True, slots=True)
class Place:
    """Which run it is, and where it is shown. ``clock`` gives seconds since the epoch, as does ``last_success_at``."""

    config: Config
    folder: Path
    run_id: str
    console: Console
    log: Log
    clock: Callable[[], float]
    last_success_at: float | None = None


class Watch:
    """Shows one process of a run to its end. ``posts_planned`` are the POSTs that the run takes while nothing fails."""

    def __init__(self, watched: Watched, place: Place) -> None:
        self.posts_planned = 0
        self._watched = watched
        self._place = place
        self._started_at = place.clock()
        self._videos = Counter(watched.counts.videos)
        self._failures = Counter(watched.counts.failures)
        self._settled_now = 0
        self._speed = Speed(anyio.current_time())
        self._unwritable: set[Path] = set()

    def count(self, scored: int, no_match: int, failures: Mapping[str, int]) -> None:
        """So many videos have been answered, and so many have failed, by code."""
        self._videos.update({VideoState.SCORED: scored, VideoState.NO_MATCH: no_match})
        self._failures.update(failures)
        self._settled_now += scored + no_match + sum(failures.values())

    # ------------------------------------------------------------------------------------------------------- facts

    def facts(self) -> Facts:
        """How the run stands now."""
        watched, limits = self._watched, self._place.config.limits
        now, gate = self._place.clock(), watched.gate
        count = gate.window_count
        activity, allowance = self._activity(now), allowance_of(count.window, count.limit, limits.window_seconds, now)
        ended = sum(number for state, number in watched.requests.ended.items() if state in OUTCOMES)
        pace = self._speed.pace(anyio.current_time(), ended, is_waiting=activity.kind == "waiting_for_quota")
        return Facts(
            now=now,
            videos=sum(watched.counts.videos.values()),
            scored=self._videos[VideoState.SCORED],
            no_match=self._videos[VideoState.NO_MATCH],
            failures=dict(self._failures),
            posts=gate.posts_spent,
            posts_planned=self.posts_planned,
            pace=pace,
            pace_allowed=limits.requests_per_second or None,
            allowance=allowance,
            activity=activity,
            seconds_left=self._seconds_left(allowance, now),
        )

    def _activity(self, now: float) -> Activity:
        gate, count = self._watched.gate, self._watched.gate.window_count
        pause = gate.paused_seconds
        if (reason := self._watched.stop.reason) is not None:
            return Activity("draining", detail=str(reason))
        if (opens_at := count.opens_at()) > now and not count.under_way:
            resets_at = count.window.resets_at if count.window else opens_at
            is_reset = 0 <= opens_at - resets_at < _GRACE_SECONDS
            return Activity("waiting_for_quota", resets_at if is_reset else opens_at)
        if gate.broken:
            silent = gate.silent_seconds
            gives_up_at = now - silent + self._place.config.limits.give_up_after_seconds
            return Activity("probing", now + pause if pause else None, duration(silent), gives_up_at)
        if pause:
            return Activity("held_back", now + pause)
        under_way = f"{counted(count.under_way, 'POST')} under way or next" if count.under_way else ""
        return Activity("answering", detail=under_way)

    def _seconds_left(self, allowance: Allowance | None, now: float) -> float | None:
        """None until a video is settled, and for a run that is to stop before its end."""
        watched, is_waiting_allowed = self._watched, self._place.config.limits.on_quota == "wait"
        posts = max(self.posts_planned - watched.gate.posts_spent, 0)
        if not self._settled_now or watched.stop.reason is not None or watched.gate.broken:
            return None
        if allowance is not None and posts > allowance.left and not is_waiting_allowed:
            return None
        before = watched.counts.videos[VideoState.OPEN]
        each = self._speed.busy_seconds / self._settled_now
        return seconds_left(before - self._settled_now, each, posts, allowance, now)

    # ------------------------------------------------------------------------------------------------------- views

    async def show(self) -> None:
        """Draw the view again and again, or write heartbeats, until cancelled."""
        console = self._place.console
        if not console.is_live:
            await anyio.sleep(console.seconds_between_lines)
        while True:
            facts = self.facts()
            console.draw(partial(live_view, facts), partial(heartbeat, facts))
            await anyio.sleep(console.seconds_between_lines)

    async def publish(self) -> None:
        """Write the metrics again and again, until cancelled."""
        while True:
            self._write(None)
            await anyio.sleep(_SECONDS_BETWEEN_METRICS)

    def end(self, exit_code: int, stopped: StopRun | None) -> None:
        """Write the metrics a last time."""
        self._write(Ending(exit_code, None if stopped is None else stopped.code))

    def _write(self, ending: Ending | None) -> None:
        """Some milliseconds, for nobody waits for the disk. In no thread: the sink is to have the only one."""
        _write_metrics(self._place, self._gauges(ending), self._unwritable)

    def _gauges(self, ending: Ending | None) -> Gauges:
        watched = self._watched
        return _gauges(
            self._place,
            self.facts(),
            started_at=self._started_at,
            posts=_outcomes(watched.counts, watched.requests.ended),
            lengths=watched.files.lengths,
            durations=watched.requests.durations,
            ending=ending,
        )


class Speed:
    """How fast POSTs are made, from how many were made when somebody looked. Moments are by a clock that only rises.

    ``busy_seconds`` have passed in which the quota was not waited for.
    """

    def __init__(self, now: float) -> None:
        self._seen = deque([(now, 0)])
        self._looked_at = now
        self.busy_seconds = 0.0

    def pace(self, now: float, posts: int, *, is_waiting: bool) -> float | None:
        """POSTs in a second over the last minute, where somebody has looked before; None in the first second."""
        if not is_waiting:
            self.busy_seconds += now - self._looked_at
        self._looked_at = now
        while len(self._seen) > 1 and self._seen[1][0] <= now - PACE_SECONDS:
            self._seen.popleft()
        then, before = self._seen[0]
        if now > self._seen[-1][0] + 1:
            self._seen.append((now, posts))
        return (posts - before) / (now - then) if now - then >= 1 else None


@contextmanager
def refusal_told(place: Place, ledger: Ledger) -> Iterator[None]:
    """Tell in log, ledger and metrics how a process ends that is stopped in here, before anything watches it."""
    started_at = place.clock()
    try:
        yield
    except StopRun as refusal:
        place.log.event("run_ended", "error", exit_code=refusal.exit_code, code=refusal.code, reason=str(refusal))
        with suppress(StorageError):  # the same full disk, as like as not
            with ledger.atomic():
                ledger.forget(STOP_REASON, STOP_CODE, RESUME_AFTER)
                ledger.remember(STOP_REASON, str(refusal))
                ledger.remember(STOP_CODE, refusal.code)
            _write_metrics(place, _gauges_at_rest(place, ledger, started_at, refusal), set())
        raise


def _gauges_at_rest(place: Place, ledger: Ledger, started_at: float, refusal: StopRun) -> Gauges:
    """How a run stands of which a process has ended before it asked anything: its pace and quota are not looked at."""
    counts, spent = ledger.counts(), ledger.posts_spent()
    facts = Facts(
        now=place.clock(),
        videos=sum(counts.videos.values()),
        scored=counts.videos[VideoState.SCORED],
        no_match=counts.videos[VideoState.NO_MATCH],
        failures=counts.failures,
        posts=spent,
        posts_planned=spent + counts.open_chunks * len(prompt_groups(job_of(place.config).classes)),
        pace_allowed=place.config.limits.requests_per_second or None,
    )
    return _gauges(
        place,
        facts,
        started_at=started_at,
        posts=_outcomes(counts, {}),
        lengths=ledger.file_lengths(),
        durations={},
        ending=Ending(refusal.exit_code, refusal.code),
    )


def _gauges(
    place: Place,
    facts: Facts,
    *,
    started_at: float,
    posts: Mapping[str, int],
    lengths: Sequence[int],
    durations: Mapping[str, Histogram],
    ending: Ending | None,
) -> Gauges:
    has_succeeded = ending is not None and ending.exit_code == 0
    return Gauges(
        directory=str(place.folder.absolute()),
        name=place.config.name,
        run_id=place.run_id,
        version=pipeline.__version__,
        facts=facts,
        started_at=started_at,
        posts=posts,
        committed_bytes=dict(zip(ROW_FILES, lengths, strict=True)),
        durations=durations,
        last_success_at=facts.now if has_succeeded else place.last_success_at,
        ending=ending,
    )


def _write_metrics(place: Place, gauges: Gauges, unwritable: set[Path]) -> None:
    """Write the metrics to each of their files. One that cannot be written is ``unwritable``, and an event, once."""
    content = exposition(gauges)
    elsewhere = place.config.output.metrics_file
    files = {place.folder / METRICS: True} | ({Path(elsewhere): False} if elsewhere else {})
    for path, is_private in files.items():
        try:
            publish(path, content, is_private=is_private)
        except OSError as error:
            if path not in unwritable:  # told once, and tried again all night
                place.log.event("metrics_not_written", "warning", file=str(path), reason=str(error.strerror))
            unwritable.add(path)


def _outcomes(counts: Counts, ended: Mapping[PostState, int]) -> dict[str, int]:
    """What became of the POSTs that have left: before this process, and in it."""
    posts = dict.fromkeys(OUTCOMES.values(), 0)
    before = ((state, number) for (_, state), number in counts.posts.items())
    for state, number in chain(before, ended.items()):
        if state in OUTCOMES:
            posts[OUTCOMES[state]] += number
    return posts
