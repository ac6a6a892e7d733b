"""An index from texts: what is seen, said and written in videos, as captions and transcripts tell it.

The form is NDJSON, a video a line: ``video_id``, ``filename``, ``duration_seconds``, and for each option a list of
clips with ``start`` and ``end`` in seconds and their ``text``. The quickstart's texts have it too.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from pipeline.errors import InputError
from pipeline.platform.calibration import uncalibrated_options
from pipeline.platform.embed import Embedder, WordEmbedder, embed_track
from pipeline.platform.store import Store
from pipeline.platform.videos import IndexedVideo

_LISTED_PROBLEMS = 20


class TextClip(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A stretch of a video, in seconds, and what is seen, said or written in it."""

    start: float
    end: float
    text: str


class TextVideo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A video as texts tell it: a track of clips an option. ``subject`` is for people and is not indexed."""

    video_id: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]+\Z")]
    filename: str
    duration_seconds: float
    subject: str = ""
    visual: tuple[TextClip, ...] = ()
    conversation: tuple[TextClip, ...] = ()
    text_in_video: tuple[TextClip, ...] = ()


def indexed(video: TextVideo, embedder: Embedder) -> IndexedVideo:
    """The video with the vectors of its texts."""
    clips_of = {"visual": video.visual, "conversation": video.conversation, "text_in_video": video.text_in_video}
    tracks = tuple(
        embed_track(embedder, option, [(clip.start, clip.end, clip.text) for clip in clips])
        for option, clips in clips_of.items()
        if clips
    )
    return IndexedVideo(video.video_id, video.filename, video.duration_seconds, tracks)


def create_index(file: Path, name: str, texts: Path | None) -> dict[str, object]:
    """Make an index, empty or with the videos of a text file; its facts.

    Raises ``UsageError`` where the file exists, and ``InputError`` for texts that cannot be read, before it is made.
    """
    videos = read_texts(texts) if texts else []
    with Store.create(file, secrets.token_hex(12), name) as store:
        fill(store, videos, WordEmbedder())
    return index_info(file)


def fill(store: Store, videos: Iterable[TextVideo], embedder: Embedder) -> None:
    """Add videos to an index."""
    store.add_videos((indexed(video, embedder) for video in videos), embedder.space)


def read_texts(path: Path) -> list[TextVideo]:
    """The videos of a text file. Raises ``InputError`` with every bad line, or why the file cannot be read."""
    decoder = msgspec.json.Decoder(TextVideo)
    videos: list[TextVideo] = []
    problems: list[str] = []
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise InputError([f"{path}: {error.strerror}"]) from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            videos.append(decoder.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            problems.append(f"{path}:{number}: {error}")
    if problems:
        more = [f"{len(problems)} bad lines in all"] if len(problems) > _LISTED_PROBLEMS else []
        raise InputError(problems[:_LISTED_PROBLEMS] + more)
    return videos


def index_info(file: Path) -> dict[str, object]:
    """What is in an index, as plain values."""
    with Store.open(file) as store:
        facts = store.facts()
        return {
            "file": str(file),
            "index_id": facts.index_id,
            "name": facts.name,
            "videos": facts.video_count,
            "seconds": facts.total_seconds,
            "options": list(facts.options),
            "space": store.space,
            "score_source": store.score_source(),
            "uncalibrated": uncalibrated_options(store.space, store.calibration()),
        }
