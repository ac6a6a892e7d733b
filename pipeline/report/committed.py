"""Committed rows as the report takes them, a block at a time.

Of each row only the fields that are asked for are decoded, which is what makes a million rows a matter of a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from pipeline.committed import BLOCK_BYTES, blocks, opened_rows
from pipeline.errors import StorageError
from pipeline.rundir import translated

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


def committed_rows(path: Path, length: int, row: type[Row], *, block_bytes: int = BLOCK_BYTES) -> Iterator[list[Row]]:
    """The rows in the first ``length`` bytes of a file, as many at a time as ``block_bytes`` hold.

    Raises ``StorageError`` for a file that is shorter, is no regular file, or holds what no run writes.
    """
    decode = msgspec.json.Decoder(row).decode_lines
    held, end = b"", 0
    with translated(path), opened_rows(path, length) as descriptor:
        for block in blocks(descriptor, 0, length, most_bytes=block_bytes):
            end += len(block)
            whole, line_feed, rest = block.rpartition(b"\n")
            if not line_feed:
                held += block
                continue
            try:
                yield decode(held + whole)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise StorageError(
                    f"{path}: not the rows that were written, before byte {end} ({error}); "
                    "`bulk-classify verify` tells what has changed"
                ) from None
            held = rest
    if held:
        raise StorageError(f"{path}: the committed rows end within a line; put the file back as it was")
