"""The quickstart index: the first command gives scores that mean something, without a key, a network or videos.

The texts ship with the package: what is seen, said and written in videos that this project's authors made up. Their
vectors are computed at first use. An index is named by a hash of all that its content depends on, so a file of the
right name is right as it stands, and one that an older version built is never opened.

A file takes its name by a rename, when it is whole, and only under a lock that the kernel releases. So a kill leaves
nothing that could be taken for an index, and of two processes at once one builds while the other waits.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import msgspec

from pipeline.errors import StorageError
from pipeline.platform.embed import Embedder, WordEmbedder
from pipeline.platform.index_file import SCHEMA_VERSION
from pipeline.platform.store import Store
from pipeline.platform.texts import TextVideo, fill

INDEX_ID = "517569636b73746172740001"
"""The id of the quickstart index, whatever it holds: 'Quickstart' in hexadecimal, and 1."""
INDEX_NAME = "quickstart"
"""Its name."""

_TEXTS = "quickstart/videos.ndjson"


def quickstart_videos() -> tuple[TextVideo, ...]:
    """The videos of the quickstart index, as they ship. Raises ``StorageError`` where the package is damaged."""
    return _parsed(_texts())


def quickstart_index(folder: Path) -> Path:
    """The quickstart index in ``folder``, built there now unless an earlier call built it.

    The folder is created where it is missing. Raises ``StorageError`` where it cannot be written, or the disk is full,
    and ``UsageError`` where the default embedder is not installed.
    """
    texts, embedder = _texts(), WordEmbedder()
    index = folder / _name(texts, embedder.space)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(folder / "quickstart.lock"):
            if not index.is_file():
                _build(index, _parsed(texts), embedder)
    except OSError as error:
        raise StorageError(f"the quickstart index cannot be built in {folder}: {error.strerror}") from None
    return index


def _texts() -> bytes:
    try:
        return files("pipeline.platform").joinpath(_TEXTS).read_bytes()
    except OSError as error:
        raise StorageError(f"the quickstart texts cannot be read: {error}; install this package again") from None


def _parsed(texts: bytes) -> tuple[TextVideo, ...]:
    try:
        return tuple(msgspec.json.Decoder(TextVideo).decode_lines(texts))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StorageError(f"the quickstart texts are damaged: {error}; install this package again") from None


def _name(texts: bytes, space: str) -> str:
    origin = f"{SCHEMA_VERSION} {space} {hashlib.sha256(texts).hexdigest()}"
    return f"quickstart-{hashlib.sha256(origin.encode()).hexdigest()[:16]}.sqlite"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes; waits for as long as another one builds."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _build(index: Path, videos: tuple[TextVideo, ...], embedder: Embedder) -> None:
    unfinished = index.with_suffix(".unfinished")
    for suffix in ("", "-wal", "-shm"):  # What a killed process left.
        Path(f"{unfinished}{suffix}").unlink(missing_ok=True)
    with Store.create(unfinished, INDEX_ID, INDEX_NAME) as store:
        fill(store, videos, embedder)
    unfinished.chmod(0o600)  # It will also keep the prompts that are asked of it.
    unfinished.rename(index)
