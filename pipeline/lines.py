"""The bytes of any file as lines: decompressed, unmarked and bounded.

Nothing is held but a block and a line. Decompression goes on in small steps, so that a file made to explode costs time
and no memory, and it is known where a file ends too early. A line that is too long is kept only so far that it can be
told.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, Protocol

import zstandard

from pipeline.errors import InputError
from pipeline.wording import escaped

LONGEST_LINE = 65_536
"""Bytes in a line, or in a csv record of several lines; a longer one is bad."""
LISTED_PROBLEMS = 20
"""Problems of an input that are told one by one."""
UTF8_MARK = b"\xef\xbb\xbf"
"""What a UTF-8 file may begin with (the byte order mark)."""

_BLOCK = 65_536
_LONGEST_PROBLEM = 5_000  # characters; the longest path is 4,096
# Bytes decompressed at a time: 64 can become 66 KB (gzip) or 2 MB (zstd), and no more.
_COMPRESSED_STEP = 64
# What a zstd frame may make us remember: as much as the zstd command allows, which `zstd --long` needs.
_LARGEST_ZSTD_WINDOW = 1 << 27
_GZIP = re.compile(rb"\x1f\x8b")
# The second is a skippable frame, with which pzstd begins.
_ZSTD = re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class Problems:
    """Counts problems, and holds the first twenty."""

    def __init__(self) -> None:
        self._first: list[str] = []
        self.count = 0

    def add(self, problem: str) -> None:
        """Take down one more, as one line that no terminal obeys."""
        self.count += 1
        if self.count <= LISTED_PROBLEMS:
            self._first.append(escaped(problem[:_LONGEST_PROBLEM]))

    def raise_if_any(self) -> None:
        """Raise ``InputError`` with the first of them, and their number where there are more."""
        if self.count > LISTED_PROBLEMS:
            self._first.append(f"{self.count} problems in all: these are the first {LISTED_PROBLEMS}")
        if self.count:
            raise InputError(self._first)


class BadLine(Exception):
    """Why one line cannot be used."""


class BadFile(Exception):
    """Why a file cannot be read, or not to its end."""


def opened(path: str) -> BinaryIO:
    """A file to read. Raises ``BadFile``."""
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise BadFile(reason_of(error)) from None
    except ValueError:
        raise BadFile("no path has a NUL") from None


def blocks_of(stream: BinaryIO) -> Iterator[bytes]:
    """A stream in blocks of 64 KiB. Raises ``BadFile`` where it cannot be read."""
    try:
        while block := stream.read(_BLOCK):
            yield block
    except OSError as error:
        raise BadFile(reason_of(error)) from None


def peek(blocks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The beginning (a block's length, or all there is), and the blocks again, the first of which is that beginning."""
    head = b""
    for block in blocks:
        head += block
        if len(head) >= _BLOCK:
            break
    return head, chain((head,), blocks)


def compression_of(head: bytes) -> Callable[[Iterable[bytes]], Iterator[bytes]] | None:
    """What undoes the compression that a file's first bytes tell of, whatever its name; None where there is none."""
    if _GZIP.match(head):
        return partial(_decompressed, begin=partial(zlib.decompressobj, wbits=31), error=zlib.error)
    if _ZSTD.match(head):
        decompressor = zstandard.ZstdDecompressor(max_window_size=_LARGEST_ZSTD_WINDOW)
        return partial(_decompressed, begin=decompressor.decompressobj, error=zstandard.ZstdError)
    return None


class _Decompression(Protocol):
    """One gzip member or zstd frame. zstandard's readers are no choice: they take a truncated file for a whole one."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def _decompressed(
    blocks: Iterable[bytes], begin: Callable[[], _Decompression], error: type[Exception]
) -> Iterator[bytes]:
    """What members or frames, one after the other, hold; zeros between and behind them (padding) are ignored."""
    member = begin()
    try:
        for block in blocks:
            for start in range(0, len(block), _COMPRESSED_STEP):
                step = block[start : start + _COMPRESSED_STEP]
                while step := (step.lstrip(b"\0") if member.eof else step):
                    member = begin() if member.eof else member
                    if output := member.decompress(step):
                        yield output
                    step = member.unused_data if member.eof else b""
    except error as reason:
        raise BadFile(f"the compressed data is corrupt: {reason}") from None
    if not member.eof:
        raise BadFile("the compressed data is truncated")


def without_mark(head: bytes, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The blocks without a byte order mark. Raises ``BadFile`` for UTF-16."""
    if head.startswith(_UTF16_MARKS):
        raise BadFile("this is UTF-16: save it as UTF-8")
    return chain((head.removeprefix(UTF8_MARK),), islice(blocks, 1, None))


def lines_of(path: str, longest: int = LONGEST_LINE) -> Iterator[bytes]:
    """The lines of a file, which may be compressed, without their LF. Raises ``BadFile``, also in the middle."""
    with opened(path) as stream:
        head, blocks = peek(blocks_of(stream))
        if compression := compression_of(head):
            head, blocks = peek(compression(blocks))
        yield from split_lines(without_mark(head, blocks), longest)


def split_lines(blocks: Iterator[bytes], longest: int = LONGEST_LINE) -> Iterator[bytes]:
    """Lines without their LF. Of one that is too long only so much is kept that ``text_of`` can see it."""
    rest = b""
    for block in blocks:
        lines = (rest + block).split(b"\n")
        rest = lines.pop()[: longest + 1]
        yield from lines
    if rest:
        yield rest


def text_of(line: bytes, longest: int = LONGEST_LINE) -> str:
    """A line as text. Raises ``BadLine`` for one that is too long, has a NUL, or is not UTF-8."""
    if len(line) > longest:
        raise BadLine(f"longer than {longest // 1024} KiB")
    if b"\0" in line:
        raise BadLine("has a NUL character")
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise BadLine(f"not UTF-8: byte {line[error.start]:#04x} at position {error.start + 1}") from None


def reason_of(error: OSError) -> str:
    """The system's words for an error."""
    return error.strerror or str(error)
