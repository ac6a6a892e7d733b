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
from typing import Annotated

import msgspec
from msgspec import Meta

from pipeline.errors import StorageError
from pipeline.platform.embed import Embedder, WordEmbedder, embed_track
from pipeline.platform.store import SCHEMA_VERSION, Store
from pipeline.platform.videos import IndexedVideo

INDEX_ID = "517569636b73746172740001"
"""The id of the quickstart index, whatever it holds: 'Quickstart' in hexadecimal, and 1."""
INDEX_NAME = "quickstart"
"""Its name."""

_TEXTS = "quickstart/videos.ndjson"


class QuickstartClip(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A stretch of a video, in seconds, and what is seen, said or written in it."""

    start: float
    end: float
    text: str


class QuickstartVideo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A made-up video: a track of clips an option, in order and without overlap; ``subject`` is what it is about.

    The ``visual`` clips cover the video from 0 to its end. Nobody may speak, and no letters be seen. The index does not
    hold the subject; ``none`` stands for a video about nothing in particular.
    """

    video_id: Annotated[str, Meta(pattern=r"\A[0-9a-f]{24}\Z")]
    filename: str
    duration_seconds: float
    subject: str
    visual: tuple[QuickstartClip, ...]
    conversation: tuple[QuickstartClip, ...]
    text_in_video: tuple[QuickstartClip, ...]


def quickstart_videos() -> tuple[QuickstartVideo, ...]:
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


def _parsed(texts: bytes) -> tuple[QuickstartVideo, ...]:
    try:
        return tuple(msgspec.json.Decoder(QuickstartVideo).decode_lines(texts))
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


def _build(index: Path, videos: tuple[QuickstartVideo, ...], embedder: Embedder) -> None:
    unfinished = index.with_suffix(".unfinished")
    for suffix in ("", "-wal", "-shm"):  # What a killed process left.
        Path(f"{unfinished}{suffix}").unlink(missing_ok=True)
    with Store.create(unfinished, INDEX_ID, INDEX_NAME) as store:
        store.add_videos((_indexed(video, embedder) for video in videos), embedder.space)
    unfinished.chmod(0o600)  # It will also keep the prompts that are asked of it.
    unfinished.rename(index)


def _indexed(video: QuickstartVideo, embedder: Embedder) -> IndexedVideo:
    clips_of = {"visual": video.visual, "conversation": video.conversation, "text_in_video": video.text_in_video}
    tracks = tuple(
        embed_track(embedder, option, [(clip.start, clip.end, clip.text) for clip in clips])
        for option, clips in clips_of.items()
        if clips
    )
    return IndexedVideo(video.video_id, video.filename, video.duration_seconds, tracks)
