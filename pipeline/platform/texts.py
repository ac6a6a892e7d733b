"""Videos from texts: what is seen, said and written in them, as captions and transcripts tell it.

Texts of whole videos come as NDJSON, a video a line: ``video_id``, ``filename``, ``duration_seconds``, and for each
option a list of clips with ``start`` and ``end`` in seconds and their ``text``. The quickstart's texts have this form.
Texts of one option come as subtitles (SRT, WebVTT), or as NDJSON with a clip a line; then the user says which option
they are for, and the name of the file, up to its first dot, is the video's id where a line does not tell it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from pipeline.errors import UsageError
from pipeline.platform.embed import Embedder, embed_track
from pipeline.platform.importing import (
    Found,
    Report,
    Source,
    by_video,
    from_ndjson,
    numbered_lines,
    read_files,
    suffix_of,
)
from pipeline.platform.store import Store
from pipeline.platform.subtitles import cues
from pipeline.platform.videos import IndexedVideo, Vectors

SUFFIXES = (".srt", ".vtt", ".ndjson", ".jsonl")
"""How the files are named that a folder is searched for."""

_SUBTITLES = (".srt", ".vtt")
_VideoId = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]+\Z")]


class TextClip(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A stretch of a video, in seconds, and what is seen, said or written in it."""

    start: float
    end: float
    text: str


class TextVideo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A video as texts tell it: a track of clips an option. ``subject`` is for people and is not indexed."""

    video_id: _VideoId
    filename: str
    duration_seconds: float
    subject: str = ""
    visual: tuple[TextClip, ...] = ()
    conversation: tuple[TextClip, ...] = ()
    text_in_video: tuple[TextClip, ...] = ()


class _ClipLine(msgspec.Struct, frozen=True):
    """A line with one clip; what else it tells is not of interest."""

    start: float
    end: float
    text: str
    video_id: _VideoId = ""


class _NoVectors:
    """Stands in for an embedder while texts are only checked."""

    @property
    def space(self) -> str:
        return ""

    @property
    def cache_name(self) -> str:
        return ""

    def embed(self, texts: Sequence[str]) -> Vectors:
        return np.zeros((len(texts), 1), dtype=np.float32)


def indexed(video: TextVideo, embedder: Embedder) -> IndexedVideo:
    """The video with the vectors of its texts."""
    clips_of = {"visual": video.visual, "conversation": video.conversation, "text_in_video": video.text_in_video}
    tracks = tuple(
        embed_track(embedder, option, [(clip.start, clip.end, clip.text) for clip in clips])
        for option, clips in clips_of.items()
        if clips
    )
    return IndexedVideo(video.video_id, video.filename, video.duration_seconds, tracks)


def fill(store: Store, videos: Iterable[TextVideo], embedder: Embedder) -> None:
    """Add videos to an index."""
    store.add_videos((indexed(video, embedder) for video in videos), embedder.space)


@dataclass(frozen=True, slots=True)
class OneOption:
    """What texts are for that do not say it, and how long videos are, in seconds by their ids."""

    option: str | None = None
    durations: Mapping[str, float] = field(default_factory=dict)

    def video(self, video_id: str, clips: Sequence[TextClip]) -> TextVideo:
        """A video of these clips; where its duration is not known it ends with the last of them.

        What goes on beyond a known duration is cut off there. Raises ``UsageError`` where no option is told.
        """
        if self.option is None:
            raise UsageError(
                f"say what the texts of {video_id!r} are for: --option visual, conversation or text_in_video"
            )
        seconds = self.durations.get(video_id)
        if seconds is None:
            seconds = max((clip.end for clip in clips), default=0.0)
        within = tuple(TextClip(clip.start, min(clip.end, seconds), clip.text) for clip in clips)
        return msgspec.structs.replace(TextVideo(video_id, "", seconds), **{self.option: within})


def text_source(files: Sequence[Path], embedder: Embedder, one_option: OneOption = OneOption()) -> Source[TextVideo]:
    """The videos of text files; ``one_option`` is about those with the texts of one option."""

    def read(file: Path, report: Report) -> Iterator[Found[TextVideo]]:
        if suffix_of(file) in _SUBTITLES:
            return _subtitled_video(file, one_option, report)
        return _videos_of_ndjson(file, one_option, report)

    return Source(
        lambda report: read_files(files, read, report),
        draft=partial(indexed, embedder=_NoVectors()),
        finished=partial(indexed, embedder=embedder),
    )


def _subtitled_video(file: Path, one_option: OneOption, report: Report) -> Iterator[Found[TextVideo]]:
    problems = 0

    def counted(problem: str) -> None:
        nonlocal problems
        problems += 1
        report(problem)

    found = cues(numbered_lines(file, counted), lambda number, problem: counted(f"{file}:{number}: {problem}"))
    clips = [TextClip(*cue) for cue in found]
    if clips or _id_of(file) in one_option.durations:
        yield Found(str(file), one_option.video(_id_of(file), clips))
    elif not problems:
        report(f"{file}: it has no cue, and --durations does not tell how long the video is")


def _videos_of_ndjson(file: Path, one_option: OneOption, report: Report) -> Iterator[Found[TextVideo]]:
    """The first line tells which of the two forms the file has."""
    lines = numbered_lines(file, report)
    first = next((numbered for numbered in lines if numbered[1].strip()), None)
    if first is None:
        return
    every = chain((first,), lines)
    if not _is_clip(first[1]):
        for number, video in from_ndjson(every, TextVideo, file, report):
            yield Found(f"{file}:{number}", video)
        return
    clips = ((number, _named(clip, file)) for number, clip in from_ndjson(every, _ClipLine, file, report))
    for number, of_video in by_video(clips):
        found = [TextClip(clip.start, clip.end, clip.text) for clip in of_video if clip.text.strip()]
        yield Found(f"{file}:{number}", one_option.video(of_video[0].video_id, found))


def _is_clip(line: str) -> bool:
    try:
        return "start" in msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError):
        return False


def _named(clip: _ClipLine, file: Path) -> _ClipLine:
    return clip if clip.video_id else msgspec.structs.replace(clip, video_id=_id_of(file))


def _id_of(file: Path) -> str:
    return file.name.partition(".")[0]
