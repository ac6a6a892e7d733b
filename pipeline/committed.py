"""What a run directory has committed, for readers: also while the run goes on, or after it was killed.

The ledger is asked once, in one snapshot: how long each file of rows is, and which videos have failed. Bytes behind
those lengths are never read, so no row is torn or taken back later. The list of failures comes from the ledger and not
from its file, which is older than the ledger until a run ends. The run's lock is not touched.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import job_of
from pipeline.errors import StorageError
from pipeline.ledger import SCORE_SOURCE, Ledger
from pipeline.manifest import Manifest, class_hash, read_manifest
from pipeline.rows import ROW_FILES, encode
from pipeline.rundir import LEDGER, RUN_JSON, open_rows, refuse_foreign

BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Committed:
    """A run as it stood at one moment. ``lengths`` are the bytes of each of ``ROW_FILES`` that count."""

    folder: Path
    run_id: str
    job_name: str
    score_source: str | None
    class_hashes: Mapping[str, str]
    lengths: Mapping[str, int]


def checked_manifest(folder: Path) -> Manifest:
    """The manifest of a run directory in which everything is what a run makes.

    Raises ``UsageError`` where it is none, ``StorageError`` for a link in it and for what cannot be read.
    """
    if folder.is_dir():
        refuse_foreign(folder)
    manifest = read_manifest(folder)
    if not re.fullmatch(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*", manifest.run_id):  # it names files
        raise StorageError(f"{folder / RUN_JSON}: its run_id is not one that bulk-classify gives")
    return manifest


@contextmanager
def committed(folder: Path) -> Iterator[tuple[Committed, Iterator[bytes]]]:
    """A run as it stands now, and its failures as lines of NDJSON, which can be read while the context lasts."""
    manifest = checked_manifest(folder)
    job = job_of(manifest.config)
    with Ledger(folder / LEDGER, read_only=True) as ledger, ledger.snapshot():
        run = Committed(
            folder,
            manifest.run_id,
            manifest.config.name,
            ledger.fact(SCORE_SOURCE),
            {one.name: class_hash(one, job) for one in job.classes},
            dict(zip(ROW_FILES, ledger.file_lengths(), strict=True)),
        )
        yield run, (encode(row) for row in ledger.failure_rows(manifest.run_id))


@contextmanager
def opened_rows(path: Path, length: int) -> Iterator[int]:
    """The descriptor of a file of rows. Raises ``StorageError`` where it is shorter than its committed length."""
    descriptor = open_rows(path, length)
    try:
        size = os.fstat(descriptor).st_size
        if size < length:
            raise StorageError(
                f"{path}: {length - size} bytes of committed rows are missing ({size} of {length} are there); "
                "put the file back as it was"
            )
        yield descriptor
    finally:
        os.close(descriptor)


def blocks(descriptor: int, start: int, stop: int, *, most_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """The bytes of a range. Raises ``StorageError`` where the file has become shorter."""
    while start < stop:
        block = os.pread(descriptor, min(most_bytes, stop - start), start)
        if not block:
            raise StorageError("a file of rows has become shorter than its committed length while it was read")
        start += len(block)
        yield block


def slices(descriptor: int, start: int, stop: int, most_bytes: int) -> Iterator[tuple[int, int]]:
    """A range cut into parts of whole lines, each of about so many bytes: at least that, but for the last."""
    while start < stop:
        end = min(start + most_bytes, stop)
        while end < stop and (block := os.pread(descriptor, 4096, end - 1)):
            feed = block.find(b"\n")
            if feed >= 0:
                end += feed
                break
            end += len(block)
        yield start, min(end, stop)
        start = end
