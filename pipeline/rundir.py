"""A run directory: who holds it, and the files in it that only ever grow.

One process at a time: an advisory lock on the directory itself, which the kernel lets go when the process ends however
it ends, and which moves along when the directory is moved. Nothing in it is followed: a directory or a file that is a
symbolic link, or no regular file, is refused. Files are made 0600 and directories 0700, and the directory is synced
after a file is made or renamed in it, or a power cut could lose the name of a file whose bytes are safe.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from pipeline.errors import RunHeld, StorageError
from pipeline.rows import FAILURES, ROW_FILES

RUN_JSON = "run.json"
LEDGER = "ledger.sqlite"
LOG = "run.log"
METRICS = "run.prom"

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_OPEN = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW


def prepare(folder: Path) -> None:
    """Make a run directory where there is none. Raises ``StorageError`` for what is in its way."""
    with translated(folder):
        make_private(folder)
    refuse_foreign(folder)


def refuse_foreign(folder: Path) -> None:
    """Raise ``StorageError`` for a run directory, or a file in it, that is not what a run makes."""
    with translated(folder):
        _refuse_foreign(folder, is_folder=True)
        for path in folder.iterdir():
            _refuse_foreign(path, is_folder=False)


def make_private(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for their owner alone. ``mkdir(parents=True)`` would not."""
    for missing in reversed([one for one in (folder, *folder.absolute().parents) if not one.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)
        sync_folder(missing.parent)


def _refuse_foreign(path: Path, *, is_folder: bool) -> None:
    mode = path.lstat().st_mode
    if is_folder:
        if not stat.S_ISDIR(mode):
            raise StorageError(f"{path}: not a directory, or a symbolic link; give the directory itself")
    elif path.name in _OURS and not stat.S_ISREG(mode):
        raise StorageError(f"{path}: not a regular file; a run directory holds no links")


_OURS = frozenset({*ROW_FILES, RUN_JSON, LEDGER, f"{LEDGER}-wal", f"{LEDGER}-shm", LOG, FAILURES, METRICS})


@contextmanager
def held(folder: Path, *, tries: int = 5) -> Iterator[None]:
    """Hold the run. Raises ``RunHeld`` where another process does.

    It tries a few times, because whoever asks ``is_held`` holds the lock for a moment too.
    """
    with translated(folder):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not _locked(descriptor, tries):
            raise RunHeld(f"{folder}: another process is working on this run; wait for it or stop it first")
        yield
    finally:
        os.close(descriptor)


@contextmanager
def account_held(locks: Path, account: str, folder: Path) -> Iterator[None]:
    """Hold an account on this machine, so that two runs do not spend one quota at twice the pace.

    ``account`` may be a secret: only its hash names the lock, a file in ``locks``, which says who holds it. Raises
    ``RunHeld`` where another run does.
    """
    path = locks / f"{hashlib.sha256(account.encode()).hexdigest()[:32]}.lock"
    with translated(path):
        make_private(locks)
        descriptor = os.open(path, _OPEN | os.O_CREAT, 0o600)
    try:
        if not _locked(descriptor, tries=1):
            holder = os.pread(descriptor, 4096, 0).decode(errors="replace")
            raise RunHeld(
                f"another run of this account is at work on this machine: {holder}; wait for it or stop it first"
            )
        with translated(path):
            os.ftruncate(descriptor, 0)
            write_all(descriptor, b"process %d, %s" % (os.getpid(), os.fsencode(folder.absolute())), 0)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int, tries: int) -> bool:
    for attempt in range(tries):
        if attempt:
            time.sleep(0.05)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        return True
    return False


def is_held(folder: Path) -> bool:
    """Whether a process is working on this run right now."""
    try:
        with held(folder, tries=1):
            return False
    except RunHeld:
        return True


def open_rows(path: Path, length: int) -> int:
    """A descriptor that reads a file of rows with so many committed bytes; of nothing, where that is 0 and no file is.

    For a start that is refused before its input is taken in makes none. Raises ``StorageError`` for what is no file.
    """
    is_unmade = not length and not os.path.lexists(path)
    # A pipe that nobody writes to must not keep us waiting.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
    with translated(path):
        descriptor = os.open(os.devnull if is_unmade else path, flags)
    if not is_unmade and not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise StorageError(f"{path}: not a regular file; a run directory holds no links")
    return descriptor


def create_private(path: Path) -> None:
    """Make an empty file that only its owner reads, where there is none."""
    with translated(path):
        os.close(os.open(path, _OPEN | os.O_CREAT, 0o600))


def replace_file(path: Path, content: bytes) -> None:
    """Write a whole file so that a reader, or a power cut, finds the content before or after, never one between."""
    draft = path.with_name(f".{path.name}.draft")
    with translated(path):
        descriptor = os.open(draft, _OPEN | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            write_all(descriptor, content, 0)
            sync_content(descriptor)
        finally:
            os.close(descriptor)
        draft.replace(path)
        sync_folder(path.parent)


def publish(path: Path, content: bytes, *, is_private: bool) -> None:
    """Put a whole file in its place for those who look on, and do not wait for the disk. Raises ``OSError``.

    A reader finds no half, but a power cut may leave one. A private file is its owner's alone, another everybody's.
    """
    draft, mode = path.with_name(f".{path.name}.draft"), 0o600 if is_private else 0o644
    descriptor = os.open(draft, _OPEN | os.O_CREAT | os.O_TRUNC, mode)
    try:
        os.fchmod(descriptor, mode)  # whatever the umask leaves of it
        write_all(descriptor, content, 0)
    finally:
        os.close(descriptor)
    draft.replace(path)


def write_all(descriptor: int, content: bytes, offset: int) -> None:
    """Write every byte at an offset, however many calls it takes."""
    view = memoryview(content)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written


def sync_content(descriptor: int) -> None:
    """Make a file's bytes durable. On macOS only ``F_FULLFSYNC`` reaches the disk itself."""
    if sys.platform == "darwin":
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """The system's errors as ours, naming the file."""
    try:
        yield
    except OSError as error:
        name = error.filename if isinstance(error.filename, str) else path  # it may be a descriptor's number
        advice = "; make room" if error.errno in _FULL else ""
        raise StorageError(f"{name}: {error.strerror or error}{advice}") from error


class RowFiles:
    """The open row files of one run, each as long as the ledger says.

    Raises ``StorageError`` where a file is shorter than its committed length: then committed rows are gone, and going
    on would hide it. What stands beyond that length was never committed, and is cut off.
    """

    def __init__(self, folder: Path, lengths: Sequence[int]) -> None:
        self._folder = folder
        self._paths = [folder / name for name in ROW_FILES]
        self._descriptors: list[int] = []
        self.lengths = list(lengths)
        try:
            with translated(folder):
                for path, length in zip(self._paths, lengths, strict=True):
                    self._descriptors.append(self._open(path, length))
                sync_folder(folder)
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _open(path: Path, length: int) -> int:
        descriptor = os.open(path, _OPEN | os.O_CREAT, 0o600)
        size = os.fstat(descriptor).st_size
        if size < length:
            os.close(descriptor)
            raise StorageError(
                f"{path}: {length - size} bytes of committed rows are missing ({size} of {length} are there); "
                "put the file back as it was"
            )
        if size > length:
            os.ftruncate(descriptor, length)
            sync_content(descriptor)
        return descriptor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, blocks: Sequence[bytes]) -> None:
        """Write one block to each file behind its present end, and make the bytes durable. Empty blocks are free."""
        written = [file for file, block in enumerate(blocks) if block]
        for file in written:
            path = self._paths[file]
            with translated(path):
                if not os.fstat(self._descriptors[file]).st_nlink:
                    raise StorageError(
                        f"{path}: somebody has deleted or replaced this file while it was written; put it back"
                    )
                write_all(self._descriptors[file], blocks[file], self.lengths[file])
        for file in written:
            with translated(self._paths[file]):
                sync_content(self._descriptors[file])
        for file in written:
            self.lengths[file] += len(blocks[file])

    def free_bytes(self) -> int:
        """Space left for us on the disk that holds the run."""
        with translated(self._folder):
            disk = os.fstatvfs(self._descriptors[0])
            return disk.f_bavail * disk.f_frsize

    def close(self) -> None:
        """Let the files go."""
        while self._descriptors:
            os.close(self._descriptors.pop())
