"""A run up to its first POST, on a copy of its ledger: all is checked and packed as a run does it, and nothing kept.

The copy lives in a temporary directory, for its owner alone, and goes with it. In the run directory nothing is made or
changed, and nothing is locked, so a run may begin, or go on, meanwhile.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline import rundir
from pipeline.intake import Input, take_in
from pipeline.ledger import Ledger
from pipeline.order import Order, agreed_manifest, connection_of, gate_of
from pipeline.plan import Plan, plan_of
from pipeline.stopping import ended_by_signals
from pipeline.survey import Taken, survey


async def rehearsed(order: Order) -> Plan:
    """The plan of a run. Raises what the run would raise before its first POST, but for a lock that is taken."""
    with rundir.translated(Path("a temporary directory")):
        spare = TemporaryDirectory(prefix="bulk-classify-", ignore_cleanup_errors=True)
    with spare as folder, ended_by_signals(order.console, spare.cleanup):
        copy = Path(folder) / rundir.LEDGER
        _copy_ledger(order.folder, copy)
        with Ledger(copy, copy_of=order.folder / rundir.LEDGER) as ledger:
            agreed_manifest(order, ledger)
            taken = await _take_in(order, ledger)
            with ledger.atomic():
                ledger.recover()
            return plan_of(survey(ledger, order.folder, order.config, taken), order.config, now=order.clock())


async def _take_in(order: Order, ledger: Ledger) -> Taken:
    skipped = 0

    def skip(_: str) -> None:
        nonlocal skipped
        skipped += 1

    async with connection_of(order) as connection:
        given = Input(order.config, order.stdin, skip, order.jitter, connection.index)
        intake = await take_in(given, ledger, connection.client, gate_of(order, ledger))
        return Taken(intake.duplicates, skipped, intake.absent, connection.index_warning)


def _copy_ledger(folder: Path, copy: Path) -> None:
    """Copy the ledger of a run directory, where there is one. Raises ``StorageError`` for what a run would refuse.

    While no process works on it, its files are at rest and are copied as they are: SQLite itself could not read them
    without leaving files of its own beside them. While one does, those are there, and SQLite takes a snapshot.
    """
    if not os.path.lexists(folder):
        return
    rundir.refuse_foreign(folder)
    if not rundir.is_held(folder):
        for suffix in ("", "-wal"):
            source = folder / f"{rundir.LEDGER}{suffix}"
            with rundir.translated(source):
                if source.exists():
                    shutil.copyfile(source, copy.with_name(source.name))
        if not rundir.is_held(folder):
            return
        for path in copy.parent.iterdir():  # a run has just begun, and may have changed what was read
            path.unlink()
    if (folder / rundir.LEDGER).exists():
        with Ledger(folder / rundir.LEDGER, read_only=True) as ledger:
            ledger.copy_to(copy)
