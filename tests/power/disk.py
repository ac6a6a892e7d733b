"""A disk that keeps nothing but what was synced: the contents that a folder may have after the power is cut.

The model promises as little as POSIX does. A write lasts once a sync of its file that began after it has ended; before
that each of its sectors is there or not, by itself, and the file may have grown over what is missing, with zeros. A
name (made, renamed, removed) lasts once its folder has been synced in the same way; before that it is there or not,
whatever becomes of the content behind it. A sector is written whole or not at all, and nothing else is touched.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

SECTOR = 512

Fate = Callable[[int], list[bool]]
"""For so many things that were not synced, whether each lasted."""


@dataclass(frozen=True, slots=True)
class Made:
    """A new file, empty, or a new folder, where there is none of this name."""

    path: str
    is_folder: bool = False


@dataclass(frozen=True, slots=True)
class Renamed:
    """A file that has taken another name, and perhaps another's place."""

    path: str
    target: str


@dataclass(frozen=True, slots=True)
class Removed:
    """A file's name, gone."""

    path: str


@dataclass(frozen=True, slots=True)
class Written:
    """Bytes at an offset; behind the present end where that is None."""

    path: str
    offset: int | None
    content: bytes


@dataclass(frozen=True, slots=True)
class Cut:
    """A file that now has this length."""

    path: str
    length: int


@dataclass(frozen=True, slots=True)
class Synced:
    """A file, or the names in a folder, made durable: all that was done before the operation numbered ``began``."""

    path: str
    began: int


@dataclass(frozen=True, slots=True)
class Sent:
    """Bytes that have left for the network."""

    socket: str
    content: bytes


Operation = Made | Renamed | Removed | Written | Cut | Synced | Sent
_Naming = Made | Renamed | Removed


@dataclass(slots=True, eq=False)
class _File:
    is_folder: bool
    durable: bytearray = field(default_factory=bytearray)
    length: int = 0
    unsynced: list[tuple[int, Written | Cut]] = field(default_factory=list)


class Disk:
    """What is on a disk while operations are carried out, one after another."""

    def __init__(self) -> None:
        self._present: dict[str, _File] = {}
        self._durable: dict[str, _File] = {}
        self._unsynced: list[tuple[int, _Naming, _File]] = []
        self._count = 0

    def carry_out(self, operation: Operation) -> None:
        """Do the next operation. Those on files that have no name any more leave nothing behind."""
        match operation:
            case Made(path, is_folder) if path not in self._present:
                self._present[path] = _File(is_folder)
                self._unsynced.append((self._count, operation, self._present[path]))
            case Renamed(path, target):
                self._present[target] = self._present.pop(path)
                self._unsynced.append((self._count, operation, self._present[target]))
            case Removed(path):
                self._unsynced.append((self._count, operation, self._present.pop(path)))
            case Written(path, offset, content) if path in self._present:
                file = self._present[path]
                at = file.length if offset is None else offset
                file.length = max(file.length, at + len(content))
                file.unsynced.append((self._count, Written(path, at, content)))
            case Cut(path, length) if path in self._present:
                self._present[path].length = length
                self._present[path].unsynced.append((self._count, operation))
            case Synced(path, began):
                self._sync_names(path, began)
                if path in self._present:
                    _sync(self._present[path], began)
        self._count += 1

    def _sync_names(self, folder: str, began: int) -> None:
        waiting = []
        for number, naming, file in self._unsynced:
            if number < began and str(PurePosixPath(naming.path).parent) == folder:
                _name(self._durable, naming, file)
            else:
                waiting.append((number, naming, file))
        self._unsynced = waiting

    def after_power_cut(self, fate: Fate) -> dict[str, bytes | None]:
        """What is found afterwards, by path: the content of each file, None for a folder."""
        names = dict(self._durable)
        for _, naming, file in self._unsynced:
            if fate(1)[0]:
                _name(names, naming, file)
        found: dict[str, bytes | None] = {}
        for path in sorted(names):  # a folder comes before what is in it
            parent = str(PurePosixPath(path).parent)
            if parent == "." or parent in found:
                found[path] = None if names[path].is_folder else _surviving(names[path], fate)
        return found


def _name(names: dict[str, _File], naming: _Naming, file: _File) -> None:
    if not isinstance(naming, Made):
        names.pop(naming.path, None)
    if not isinstance(naming, Removed):
        names[naming.target if isinstance(naming, Renamed) else naming.path] = file


def _sync(file: _File, began: int) -> None:
    for number, change in file.unsynced:
        if number < began:
            _change(file.durable, change, _kept)
    file.unsynced = [one for one in file.unsynced if one[0] >= began]


def _surviving(file: _File, fate: Fate) -> bytes:
    content = bytearray(file.durable)
    for _, change in file.unsynced:
        _change(content, change, fate)
    return bytes(content)


def _change(content: bytearray, change: Written | Cut, fate: Fate) -> None:
    """Carry out as much of a change as lasts."""
    if isinstance(change, Cut):
        if fate(1)[0]:
            del content[change.length :]
            content.extend(bytes(change.length - len(content)))
        return
    start, end = change.offset or 0, (change.offset or 0) + len(change.content)
    if end > len(content) and fate(1)[0]:
        content.extend(bytes(end - len(content)))
    sectors = range(start // SECTOR, -(-end // SECTOR))
    for sector, lasted in zip(sectors, fate(len(sectors)), strict=True):
        if lasted:
            first, last = max(start, sector * SECTOR), min(end, (sector + 1) * SECTOR)
            content.extend(bytes(max(0, last - len(content))))
            content[first:last] = change.content[first - start : last - start]


def _kept(count: int) -> list[bool]:
    return [True] * count


def _lost(count: int) -> list[bool]:
    return [False] * count


def fates(chance: random.Random, count: int) -> Iterable[Fate]:
    """Nothing unsynced lasted; all of it did; and so many times something between."""
    yield _lost
    yield _kept
    for _ in range(count):
        yield _mixed(chance)


def _mixed(chance: random.Random) -> Fate:
    """Each change lasts whole, or not at all, or in some of its sectors; how likely that is differs each time."""
    share = chance.random()

    def fate(count: int) -> list[bool]:
        if chance.random() < 0.5:
            return [chance.random() < share] * count
        return [chance.random() < share for _ in range(count)]

    return fate
