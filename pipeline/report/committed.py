"""The committed rows of a run directory, a block at a time: never a byte behind the length that the ledger gives.

Files only grow, so what is committed stays readable while the run goes on. Of each row only the fields that are asked
for are decoded, which is what makes a million rows a matter of a second.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from pipeline.errors import StorageError
from pipeline.rundir import translated

_BLOCK_BYTES = 1 << 20

Row = TypeVar("Row", bound=msgspec.Struct)


class ScoreLine(msgspec.Struct, gc=False):
    """What the report takes from a row of ``scores.ndjson``."""

    video_id: str
    class_name: str
    score: float
    duration_ratio: float


class ClipLine(msgspec.Struct, gc=False):
    """What the report takes from a row of ``clips.ndjson``; times in seconds from the video's start."""

    video_id: str
    class_name: str
    start_seconds: float
    end_seconds: float
    score: float
    option: str
    prompt: str


def committed_rows(path: Path, length: int, row: type[Row], *, block_bytes: int = _BLOCK_BYTES) -> Iterator[list[Row]]:
    """The rows in the first ``length`` bytes of a file, as many at a time as ``block_bytes`` hold.

    Raises ``StorageError`` for a file that is shorter, is no regular file, or holds what no run writes.
    """
    decode = msgspec.json.Decoder(row).decode_lines
    with translated(path), _opened(path) as file:
        start, held = 0, b""
        while start < length:
            block = file.read(min(block_bytes, length - start))
            if not block:
                raise StorageError(
                    f"{path}: {length - start} bytes of committed rows are missing ({start} of {length} are there); "
                    "put the file back as it was"
                )
            start += len(block)
            whole, line_feed, rest = block.rpartition(b"\n")
            if not line_feed:
                held += block
                continue
            try:
                yield decode(held + whole)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise StorageError(
                    f"{path}: not the rows that were written, before byte {start} ({error}); "
                    "`bulk-classify verify` tells what has changed"
                ) from None
            held = rest
        if held:
            raise StorageError(f"{path}: the committed rows end within a line; put the file back as it was")


def _opened(path: Path) -> BinaryIO:
    # A pipe that nobody writes to must not keep us waiting.
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise StorageError(f"{path}: not a regular file; a run directory holds no links")
    return file
