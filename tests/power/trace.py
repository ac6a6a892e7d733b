"""What a process does to a folder and sends to the network, in its order, as ``strace`` saw it.

Only what changes a file, a name or what is durable is kept. Between the beginning and the end of a call others may run
in other threads: a write may be on the disk as soon as it has begun, but a sync helps only once it has ended, and only
what was written before it began. What the model of a disk does not know is an error, never passed over.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.power.disk import Cut, Made, Operation, Removed, Renamed, Sent, Synced, Written

_WATCHED = (
    "openat,write,pwrite64,writev,pwritev,pwritev2,fsync,fdatasync,sync_file_range,ftruncate,fallocate,renameat,"
    "renameat2,unlinkat,mkdirat,linkat,symlinkat,sendto,sendmsg,mmap,?open,?creat,?rename,?unlink,?mkdir,?rmdir,?link"
)
"""With a question mark: calls that not every processor's Linux has."""
_LINE = re.compile(rb"(\d+) +(?:<\.\.\. \w+ resumed>)?(.*)")
_UNFINISHED = b" <unfinished ...>"


def strace_command(strace: str, output: Path) -> list[str]:
    """The command that records what the command behind it does; every text in hexadecimal, and none cut short."""
    form = ["-f", "--seccomp-bpf", "-y", "-xx", "-s", "100000000"]
    return [strace, *form, "-e", f"trace={_WATCHED}", "-o", str(output)]


@dataclass(frozen=True, slots=True)
class _Call:
    """A call with the numbers of the lines in which it began and ended; ``texts`` are its quoted arguments."""

    began: int
    ended: int
    name: str
    folder: str
    texts: list[bytes]
    before: str
    after: str
    result: int
    result_path: str


def read_trace(lines: Iterable[bytes], root: Path) -> list[Operation]:
    """The operations on what is in ``root``, and what was sent; paths are relative to it, and itself is ``.``."""
    reading = _Reading(f"{root}/")
    moments: list[tuple[int, int, Operation]] = []
    for call in _calls(lines):
        for operation in reading.operations(call):
            moment = call.ended if isinstance(operation, Synced) else call.began
            moments.append((moment, call.began, operation))
    moments.sort(key=lambda one: one[0])
    order = [moment for moment, _, _ in moments]
    return [
        replace(operation, began=bisect_left(order, began)) if isinstance(operation, Synced) else operation
        for _, began, operation in moments
    ]


def _calls(lines: Iterable[bytes]) -> Iterator[_Call]:
    """Every call that succeeded, where it ended."""
    unfinished: dict[bytes, tuple[int, bytes]] = {}
    for number, line in enumerate(lines):
        found = _LINE.match(line)
        assert found, line[:200]
        process, text = found.groups()
        began, start = unfinished.pop(process, (number, b""))
        text = start + text
        if text.endswith(_UNFINISHED):
            unfinished[process] = began, text.removesuffix(_UNFINISHED)
        elif not text.startswith((b"+++", b"---")):
            call = _call(began, number, text)
            if call.result >= 0:
                yield call


def _call(began: int, ended: int, text: bytes) -> _Call:
    """Take a line apart. Every text is in hexadecimal, so quotes and brackets stand only where strace put them."""
    call, _, result = text.rpartition(b" = ")
    name, _, arguments = call.partition(b"(")
    before, *quoted = arguments.split(b'"')
    value, _, path = result.partition(b"<")
    number = value.split()[0]
    return _Call(
        began,
        ended,
        name.decode(),
        _plain(before.partition(b"<")[2].partition(b">")[0]).decode(),
        [_plain(one) for one in quoted[::2]],
        before.decode(),
        quoted[-1].decode() if quoted else before.decode(),
        -1 if number == b"?" else int(number, 0),
        _plain(path.partition(b">")[0]).decode(),
    )


def _plain(text: bytes) -> bytes:
    return bytes.fromhex(text.replace(rb"\x", b"").decode()) if text.startswith(rb"\x") else text


@dataclass(slots=True)
class _Reading:
    """From calls to operations; ``root`` ends with a slash."""

    root: str
    appended: set[str] = field(default_factory=set)

    def operations(self, call: _Call) -> Iterator[Operation]:
        """What a call does, if it concerns us."""
        target = self._inside(call.folder)
        match call.name:
            case "open" | "openat" | "creat":
                yield from self._opened(call)
            case "mkdir" | "mkdirat":
                yield from (Made(path, is_folder=True) for path in self._named(call))
            case "unlink" | "unlinkat":
                yield from map(Removed, self._named(call))
            case "rename" | "renameat" | "renameat2":
                yield from (Renamed(*paths) for paths in [self._named(call)] if paths)
            case "sendto" | "sendmsg":
                yield Sent(call.folder, b"".join(call.texts)[: call.result])
            case "mmap":
                writes = "MAP_SHARED" in call.before and "PROT_WRITE" in call.before
                assert not (target and writes and not target.endswith("-shm")), f"{target} is changed in memory"
            case _ if target:
                yield self._changed(call, target)

    def _inside(self, path: str) -> str | None:
        if f"{path}/" == self.root:
            return "."
        return path.removeprefix(self.root) if path.startswith(self.root) else None

    def _named(self, call: _Call) -> list[str]:
        """The paths of a call that are ours: all or none. Relative ones are those of the folder it was given."""
        paths = [Path(call.folder or self.root) / text.decode() for text in call.texts]
        return [inside for path in paths if (inside := self._inside(str(path)))]

    def _opened(self, call: _Call) -> Iterator[Operation]:
        path = self._inside(call.result_path)
        if path and "O_APPEND" in call.after:
            self.appended.add(path)
        if path and "O_CREAT" in call.after:
            yield Made(path)
        if path and "O_TRUNC" in call.after:
            yield Cut(path, 0)

    def _changed(self, call: _Call, path: str) -> Operation:
        numbers = [int(one) for one in re.findall(r", (\d+)", call.after)]
        match call.name:
            case "pwrite64":
                return Written(path, numbers[-1], call.texts[0][: call.result])
            case "write" if path in self.appended:
                return Written(path, None, call.texts[0][: call.result])
            case "ftruncate":
                return Cut(path, numbers[-1])
            case "fsync" | "fdatasync":
                return Synced(path, 0)
        raise AssertionError(f"{call.name} of {path}: the model of a disk does not know it")
