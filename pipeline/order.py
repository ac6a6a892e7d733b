"""What to run, and with what: the order, and all that follows from it before the first request.

A rehearsal (``plan``) and the other commands that ask the platform take the same steps from here as a run does.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from yarl import URL

from pipeline import rundir
from pipeline.config import ApiKey, Config, job_of, page_limit_of
from pipeline.connection import Connection, connected
from pipeline.console import Console
from pipeline.errors import StorageError, UsageError
from pipeline.ledger import Ledger
from pipeline.log import Level
from pipeline.manifest import Manifest, continued, new_manifest, read_manifest
from pipeline.pacing import Gate, Pace
from pipeline.packing import prompt_groups
from pipeline.platform.access import EmbedderAccess
from pipeline.posting import Question
from pipeline.rate import STEADY, Timer
from pipeline.rows import ROW_FILES, RowStyle
from pipeline.transport import LOOPBACK_HOSTS


@dataclass(frozen=True, slots=True)
class Retry:
    """Which failed videos to take again: of these codes, or else those that can succeed, or ``every`` one."""

    codes: frozenset[str] = frozenset()
    every: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """What to run, and with what. Without ``read_input`` only what is already in the ledger goes on.

    ``cache`` is the folder for the quickstart index and the locks of accounts; ``clock`` gives seconds since the
    epoch, ``timer`` says how to wait for POSTs, ``jitter`` gives numbers from 0 to 1 that spread resends, ``embedder``
    says how the embedded platform has prompts embedded where its index needs a server for that.
    """

    config: Config
    folder: Path
    key: ApiKey
    console: Console
    stdin: BinaryIO
    cache: Path
    read_input: bool = True
    retry: Retry | None = None
    log_level: Level | None = None
    clock: Callable[[], float] = time.time
    timer: Timer = STEADY
    jitter: Callable[[], float] = random.random
    embedder: EmbedderAccess = EmbedderAccess()


def agreed_manifest(order: Order, ledger: Ledger) -> Manifest:
    """The manifest for the directory: the stored one gone on with, or a new one where there is none.

    A run that never got an answer is of no job yet, so it may go on with any. Raises ``UsageError`` where the
    directory holds a run of another job.
    """
    if ledger.next_chunk_number() > 1:
        return continued(read_manifest(order.folder), order.config, is_answered=bool(ledger.answered_groups()))
    _refuse_foreign_rows(order.folder)
    if not order.read_input:
        raise UsageError(f"{order.folder}: the input was never taken in: give `bulk-classify run` its config again")
    if (order.folder / rundir.RUN_JSON).exists():  # of a start that was refused for its input: nothing was asked yet
        return replace(read_manifest(order.folder), config=order.config)
    return new_manifest(order.config, now=order.clock())


def refuse_lost_ledger(folder: Path) -> None:
    """Raise ``StorageError`` for rows without a ledger: one that is made beside them would say that there are none."""
    if not (folder / rundir.LEDGER).exists():
        _refuse_foreign_rows(folder)


def _refuse_foreign_rows(folder: Path) -> None:
    """A kill leaves no row before the first chunk: such rows are somebody else's, or their ledger is lost."""
    for path in (folder / name for name in ROW_FILES):
        if path.exists() and path.stat().st_size:
            raise StorageError(
                f"{path}: holds rows that no ledger here knows of; put {rundir.LEDGER} back, or use another --out"
            )


def account_of(order: Order) -> str:
    """Whose quota this run spends: at this platform, that of the named account or else of the key."""
    api = order.config.api
    platform = URL(api.url)  # however it is spelled, and whatever its version
    host = "loopback" if platform.host in LOOPBACK_HOSTS else platform.host
    return f"{host}:{platform.port}\n{api.account or order.key.reveal()}"


def connection_of(order: Order) -> AbstractAsyncContextManager[Connection]:
    """The connection that an order asks for, to be opened."""
    return connected(order.config, order.key, cache=order.cache, clock=order.clock, embedder=order.embedder)


def gate_of(order: Order, ledger: Ledger) -> Gate:
    """The gate of a run: its limits, and what is used of them by this ledger."""
    return Gate(
        pace_of(order.config),
        window=ledger.window(),
        posts_spent=ledger.posts_spent(),
        clock=order.clock,
        timer=order.timer,
    )


def pace_of(config: Config) -> Pace:
    """What the configuration's limits allow, as the gate takes it."""
    limits = config.limits
    return Pace(
        requests_per_second=limits.requests_per_second,
        pages_paced=limits.pages_paced,
        posts_per_window=limits.posts_per_window,
        window_seconds=limits.window_seconds,
        wait_for_quota=limits.on_quota == "wait",
        give_up_after_seconds=limits.give_up_after_seconds,
        max_posts=limits.max_posts,
        max_unknown_posts=limits.max_unknown_posts,
    )


def question_of(config: Config, run_id: str) -> Question:
    """What the job asks of every video, for the rows of this run."""
    job = job_of(config)
    style = RowStyle(run_id, job.include_clips, job.show_detailed_score, config.output.keep_signed_urls)
    return Question(job, prompt_groups(job.classes), page_limit_of(config), style)
