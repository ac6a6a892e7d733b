"""The way from a video id to its rows: id lists → ledger → producer → workers → sink.

The input is read and packed whole before the first POST. Then the producer hands pending chunks to the workers, each
worker brings one chunk at a time to its end, and the sink makes durable what they bring. Whatever stops a run stops it
in one way: nothing new is sent, what is under way is finished and committed, and the ledger knows the rest.
"""

from __future__ import annotations

from collections import Counter
from contextlib import AsyncExitStack, ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import anyio
from anyio.abc import ObjectReceiveStream, ObjectSendStream, TaskGroup

import pipeline
from pipeline import rundir
from pipeline.bulk import IndexWorker
from pipeline.chunks import Chunk, Counts, Settlement, VideoState
from pipeline.client import Client
from pipeline.connection import Connection
from pipeline.errors import Drained, Interrupted, PlatformDown, QuotaReached, StopRun, StorageError, UsageError
from pipeline.failure_codes import MEANINGS
from pipeline.intake import Input, packer_of, take_in
from pipeline.ledger import (
    BEGAN_AT,
    INPUT_FINGERPRINT,
    LAST_SUCCESS,
    RESUME_AFTER,
    SCORE_SOURCE,
    STOP_CODE,
    STOP_REASON,
    Ledger,
)
from pipeline.listing import CHANGING
from pipeline.log import Level, Log, utc
from pipeline.manifest import Manifest, write_manifest
from pipeline.news import News
from pipeline.order import (
    Order,
    Retry,
    account_of,
    agreed_manifest,
    connection_of,
    gate_of,
    question_of,
    refuse_lost_ledger,
)
from pipeline.pacing import Gate
from pipeline.plan import in_words, plan_of
from pipeline.posting import Experience, Requests
from pipeline.reaction import useless_answer
from pipeline.rows import FAILURES, encode
from pipeline.sink import Sink
from pipeline.stopping import Stop, ended_by_signals, unmoved_by_signals
from pipeline.survey import Taken, survey
from pipeline.watch import Place, Watch, Watched, refusal_told
from pipeline.wording import counted
from pipeline.worker import Worker

_CHUNKS_READ_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: with every video answered, with failures, or stopped before its end."""

    counts: Counts
    stopped: StopRun | None

    @property
    def exit_code(self) -> int:
        """The exit code of the process."""
        if self.stopped is not None:
            return self.stopped.exit_code
        return 3 if self.counts.videos[VideoState.FAILED] else 0


async def run(order: Order) -> Outcome:
    """Bring a run as far as it goes. Raises a ``StopRun`` for whatever forbids it to begin."""
    folder, clock = order.folder, order.clock
    rundir.prepare(folder)
    async with AsyncExitStack() as opened:
        beginning = opened.enter_context(ExitStack())
        beginning.enter_context(ended_by_signals(order.console))
        opened.enter_context(rundir.held(folder))
        if order.config.api.url != "embedded":
            opened.enter_context(rundir.account_held(order.cache / "accounts", account_of(order), folder))
        refuse_lost_ledger(folder)
        ledger = opened.enter_context(Ledger(folder / rundir.LEDGER))
        manifest = agreed_manifest(order, ledger)
        write_manifest(folder, manifest)
        level = order.log_level or order.config.output.log_level
        told = order.console.say if order.console.verbose else None
        log = opened.enter_context(Log(folder / rundir.LOG, level=level, clock=clock, told=told))
        log.event("run_began", run_id=manifest.run_id, version=pipeline.__version__)
        beginning.enter_context(ended_by_signals(order.console, partial(_interruption_logged, log)))
        place = Place(order.config, folder, manifest.run_id, order.console, log, clock, _last_success(ledger))
        opened.enter_context(refusal_told(place, ledger))
        connection = await opened.enter_async_context(connection_of(order))
        gate = gate_of(order, ledger)
        taken = Taken(index_warning=connection.index_warning)
        if order.read_input:
            taken = await _take_in(order, ledger, connection, gate, log)
        files = opened.enter_context(rundir.RowFiles(folder, ledger.file_lengths()))
        with ledger.atomic():
            ledger.recover()
            ledger.forget(STOP_REASON, STOP_CODE, RESUME_AFTER)
            ledger.remember(BEGAN_AT, repr(clock()))
            if order.retry:
                _take_again(order, order.retry, ledger)
        plan = plan_of(survey(ledger, folder, order.config, taken), order.config, now=clock())
        for line in in_words(plan):
            order.console.say(line)
        flow = _Flow(order, place, ledger, files, connection.client, gate)
        beginning.close()  # from here on the flow meets signals
        stopped, watch = await flow.run(plan.posts)
        opened.enter_context(unmoved_by_signals())
        outcome = _finished(folder, manifest, ledger, stopped, clock())
        watch.end(outcome.exit_code, outcome.stopped)
        code, reason = (outcome.stopped.code, str(outcome.stopped)) if outcome.stopped else (None, None)
        gravity: Level = "error" if outcome.stopped else "info"
        log.event("run_ended", gravity, exit_code=outcome.exit_code, code=code, reason=reason)
        return outcome


class _Flow:
    """Producer, workers and sink of one process, and what they share."""

    def __init__(  # noqa: PLR0917 - each is used once, by the one caller above
        self,
        order: Order,
        place: Place,
        ledger: Ledger,
        files: rundir.RowFiles,
        client: Client,
        gate: Gate,
    ) -> None:
        config = order.config
        question = question_of(config, place.run_id)
        self._order = order
        self._gate = gate
        self._stop = Stop(self._gate, order.console)
        self._sink = Sink(ledger, files, reserve_bytes=config.limits.reserve_bytes, on_low_space=self._stop_for_space)
        requests = Requests(
            question,
            client,
            self._gate,
            self._sink,
            experience=Experience.of(ledger, max_videos=config.limits.max_videos_per_post),
            log=place.log,
            clock=order.clock,
            jitter=order.jitter,
        )
        self._watch = Watch(Watched(ledger.counts(), gate, requests, self._stop, files), place)
        self._worker = Worker(requests, max_bisect_posts=config.limits.max_bisect_posts, told=self._settled)
        self._index_worker = IndexWorker(requests, config.input.index_id or "", told=self._watch.count)
        self._handed_out = self._ended = 0
        self._news = News()

    async def run(self, posts: int) -> tuple[StopRun | None, Watch]:
        """Answer every pending chunk, as planned with so many POSTs. Returns why it stopped before that, if it did."""
        self._watch.posts_planned = self._gate.posts_spent + posts
        drain_seconds = self._order.config.limits.drain_seconds
        try:
            async with anyio.create_task_group() as watching:
                watching.start_soon(self._stop.watch_signals)
                watching.start_soon(self._watch.show)
                watching.start_soon(self._watch.publish)
                async with anyio.create_task_group() as writing:
                    writing.start_soon(self._sink.run)
                    with closing(self._sink):
                        async with anyio.create_task_group() as asking:
                            watching.start_soon(self._stop.end_draining, drain_seconds, asking.cancel_scope)
                            self._ask(asking)
                watching.cancel_scope.cancel()
        except* StopRun as stops:
            self._stop.because(_first(stops))
        finally:
            self._order.console.erase()
        return self._stop.reason, self._watch

    def _ask(self, asking: TaskGroup) -> None:
        """Set going what asks: of a whole index one worker, of single videos a producer and the workers."""
        if self._order.config.input.mode == "index":
            asking.start_soon(self._ask_index)
            return
        send, receive = anyio.create_memory_object_stream[Chunk](_CHUNKS_READ_AT_ONCE)
        asking.start_soon(self._produce, send)
        with receive:
            for _ in range(self._order.config.limits.concurrency):
                asking.start_soon(self._work, receive.clone())

    async def _produce(self, chunks: ObjectSendStream[Chunk]) -> None:
        """Hand out pending chunks in the order of their numbers, until nothing is pending, in flight or to be packed.

        Children have higher numbers than their parents, so going on upwards after each end meets them all.
        """
        last = 0
        async with chunks:
            while self._stop.reason is None:
                ended = self._ended
                pending = await self._sink.read(
                    lambda ledger, last=last: ledger.pending_after(last, _CHUNKS_READ_AT_ONCE)  # type: ignore[misc]
                )
                for chunk in pending:
                    last = chunk.number
                    self._handed_out += 1
                    try:
                        await chunks.send(chunk)
                    except anyio.BrokenResourceError:  # the workers have stopped
                        return
                if not pending and self._handed_out == self._ended and not await self._sink.record(self._packed_again):
                    return
                if not pending and self._ended == ended != self._handed_out:
                    await self._news.wait()

    def _packed_again(self, ledger: Ledger) -> int:
        """How many chunks were made of videos that were taken out of others."""
        return ledger.pack(packer_of(self._order.config, ledger), "repack")

    async def _work(self, chunks: ObjectReceiveStream[Chunk]) -> None:
        """Bring one chunk after another to its end."""
        async with chunks:
            async for chunk in chunks:
                try:
                    await self._worker.answer(chunk)
                except Drained:
                    self._chunk_ended()
                    return
                except StopRun as reason:
                    self._stop.because(reason)
                    self._chunk_ended()
                    return

    def _settled(self, end: Settlement) -> None:
        """The end of a chunk is durable."""
        self._watch.count(len(end.scored), len(end.no_match), Counter(failure.code for failure in end.failures))
        try:
            self._gate.settled(useless_answer(end))
        except PlatformDown as reason:
            self._stop.because(reason)
        self._chunk_ended()

    def _chunk_ended(self) -> None:
        self._ended += 1
        self._news.tell()

    async def _ask_index(self) -> None:
        """Have the whole index answered, in place of producer and workers: it is one chunk."""
        try:
            await self._index_worker.answer()
        except Drained:
            return
        except StopRun as reason:
            self._stop.because(reason)
        if extra := self._index_worker.not_listed:
            self._order.console.say(
                f"warning: the platform has shown {counted(extra, 'video')} that came into the index after it was "
                "listed; `bulk-classify run` takes them in"
            )

    def _stop_for_space(self) -> None:
        reserve = self._order.config.limits.reserve_bytes
        self._stop.because(
            StorageError(
                f"{self._order.folder}: less than {reserve:,} bytes are free (limits.reserve_bytes): make room"
            )
        )


def _interruption_logged(log: Log) -> None:
    """Tell in the log how a process ends that was still beginning."""
    reason = "stopped by a signal before anything was sent"
    log.event("run_ended", "error", exit_code=Interrupted.exit_code, code=Interrupted.code, reason=reason)


def _last_success(ledger: Ledger) -> float | None:
    return float(told) if (told := ledger.fact(LAST_SUCCESS)) else None


def _take_again(order: Order, retry: Retry, ledger: Ledger) -> None:
    """Open failed videos again. Raises ``UsageError`` for a code that no failure has and that we do not know."""
    there = ledger.counts().failures
    if strange := retry.codes - there.keys() - MEANINGS.keys():
        raise UsageError(
            f"--code {min(strange)}: no failed video has this code; "
            + (f"there are: {', '.join(there)}" if there else "none has failed")
        )
    again = ledger.take_again(retry.codes, packer_of(order.config, ledger), every=retry.every)
    order.console.say(f"retry: {counted(again, 'failed video is', 'failed videos are')} taken again")


async def _take_in(order: Order, ledger: Ledger, connection: Connection, gate: Gate, log: Log) -> Taken:
    skipped = 0

    def skip(problem: str) -> None:
        nonlocal skipped
        skipped += 1
        log.event("line_skipped", "warning", problem=problem)

    given = Input(order.config, order.stdin, skip, order.jitter, connection.index)
    intake = await take_in(given, ledger, connection.client, gate)
    log.event("input_read", ids=intake.read, duplicates=intake.duplicates, added=intake.added, gone=intake.gone)
    order.console.say(
        f"input: {counted(intake.read, 'id')}, {intake.added:,} new"
        + (f", {intake.duplicates:,} named more than once" if intake.duplicates else "")
        + (f"; {counted(intake.gone, 'id')} of earlier inputs no longer named, and kept" if intake.gone else "")
    )
    if not intake.is_steady:
        log.event("listing_unsteady", "warning")
        order.console.say(CHANGING)
    return Taken(intake.duplicates, skipped, intake.absent, connection.index_warning)


def _finished(folder: Path, manifest: Manifest, ledger: Ledger, stopped: StopRun | None, now: float) -> Outcome:
    """Write down how the run stands ``now``, in the files that are written whole."""
    counts = ledger.counts()
    if not counts.videos[VideoState.OPEN]:
        stopped = None
    try:
        with ledger.atomic():
            ledger.recover()
            if stopped is not None:
                ledger.remember(STOP_REASON, str(stopped))
                ledger.remember(STOP_CODE, stopped.code)
            elif not counts.videos[VideoState.FAILED]:
                ledger.remember(LAST_SUCCESS, repr(now))
            if isinstance(stopped, QuotaReached) and stopped.resume_after is not None:
                ledger.remember(RESUME_AFTER, utc(stopped.resume_after))
        failures = b"".join(encode(row) for row in ledger.failure_rows(manifest.run_id))
        rundir.replace_file(folder / FAILURES, failures)
        source, input_fingerprint = ledger.fact(SCORE_SOURCE), ledger.fact(INPUT_FINGERPRINT)
        write_manifest(folder, replace(manifest, score_source=source, input_fingerprint=input_fingerprint))
    except StorageError as error:  # the same full disk, as like as not: what stopped the run is the reason to tell
        stopped = stopped or error
    return Outcome(counts, stopped)


def _first(stops: BaseExceptionGroup[StopRun]) -> StopRun:
    reason: BaseException = stops
    while isinstance(reason, BaseExceptionGroup):
        reason = reason.exceptions[0]
    assert isinstance(reason, StopRun)
    return reason
