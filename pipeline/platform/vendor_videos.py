"""Videos as version 1.3 of the vendor's API tells them, bytes to values. No other module knows a JSON key of it.

Of a video's embeddings the clips are kept, not those of the whole video. ``visual`` becomes the option ``visual``,
``transcription`` ``conversation``, and ``audio`` ``conversation`` too where that is asked for. A transcription's lines
go with the conversation track, each with the clip in which its middle lies, so that ``exact_match`` finds every word
once; where no vector belongs to them they are a track of their own, which says nothing to any prompt but that. What
reaches beyond the video's duration is cut off there. Nothing becomes ``text_in_video``: 1.3 has no such vectors.

The calls and shapes are those of the vendor's reference of version 1.3, 'List indexed assets' and 'Retrieve an indexed
asset', and of its Python SDK 1.3.6.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple, TypeVar
from urllib.parse import quote

import msgspec
import numpy as np
from msgspec import Meta

from pipeline.errors import AnswerCut, AnswerUnusable
from pipeline.platform.spaces import vendor_space
from pipeline.platform.videos import IndexedVideo, Track, Vectors, normalised

_PAGE_LIMIT = 50
_SHOWN_OF_ENTRY = 80
_OPTIONS = {"visual": "visual", "transcription": "conversation", "audio": "conversation"}
OPTIONS_OF_VENDOR = frozenset(_OPTIONS.values())
"""The options that the vendor's vectors become."""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Asset:
    """A video as the list shows it. ``revision`` changes whenever the vendor has made something else of it.

    ``problem`` says why its entry cannot be read, if so.
    """

    video_id: str
    is_ready: bool
    duration_seconds: float
    revision: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class AssetPage:
    """One page of the list, of ``total_pages`` with ``total_results`` videos, where that is told."""

    videos: tuple[Asset, ...]
    total_pages: int
    total_results: int | None


class Spoken(NamedTuple):
    """What is said from one moment to another, in seconds."""

    start: float
    end: float
    text: str


@dataclass(frozen=True, slots=True)
class VendorVideo:
    """A video with its vectors, the space that they are of, and how many numbers each of them has."""

    video: IndexedVideo
    model: str
    space: str
    dimensions: int


def list_path(index_id: str, page: int) -> str:
    """The GET for a page, from 1, of an index's videos."""
    return f"/indexes/{quote(index_id, safe='')}/indexed-assets?page={page}&page_limit={_PAGE_LIMIT}"


def video_path(index_id: str, video_id: str, *, audio: bool) -> str:
    """The GET for a video with its embeddings, those of its sounds only if asked for, and its transcription."""
    options = "".join(f"embedding_option={name}&" for name in _wanted(audio=audio))
    path = f"/indexes/{quote(index_id, safe='')}/indexed-assets/{quote(video_id, safe='')}"
    return f"{path}?{options}transcription=true"


def _wanted(*, audio: bool) -> tuple[str, ...]:
    return tuple(_OPTIONS) if audio else tuple(name for name in _OPTIONS if name != "audio")


# ------------------------------------------------------------------------------------------------------------- shapes


class _Metadata(msgspec.Struct):
    filename: str | None = None
    duration: float | None = None


class _Named(msgspec.Struct):
    video_id: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{1,128}\Z")] = msgspec.field(name="_id")


class _Asset(_Named):
    status: str | None = None
    created_at: str | None = None
    updated_at: str | None = None
    indexed_at: str | None = None
    system_metadata: _Metadata | None = None


class _PageInfo(msgspec.Struct):
    total_page: int = 1
    total_results: int | None = None


class _AssetList(msgspec.Struct):
    listed: list[msgspec.Raw] = msgspec.field(name="data")
    page_info: _PageInfo


class _Segment(msgspec.Struct):
    start_offset_sec: float
    end_offset_sec: float
    embedding_option: str | None = None
    embedding_scope: str | None = None
    vector: msgspec.Raw = msgspec.field(name="float", default=msgspec.Raw(b"null"))


class _VideoEmbedding(msgspec.Struct):
    segments: list[_Segment] | None = None


class _Embedding(msgspec.Struct):
    model_name: str | None = None
    video_embedding: _VideoEmbedding | None = None


class _Line(msgspec.Struct):
    start: float | None = None
    end: float | None = None
    value: str | None = None


class _AssetInDetail(msgspec.Struct):
    system_metadata: _Metadata | None = None
    embedding: _Embedding | None = None
    transcription: list[_Line] | None = None


_LIST = msgspec.json.Decoder(_AssetList)
_ENTRY = msgspec.json.Decoder(_Asset)
_NAMED = msgspec.json.Decoder(_Named)
_DETAIL = msgspec.json.Decoder(_AssetInDetail)
_VECTOR = msgspec.json.Decoder(list[float])


def decode_page(body: bytes, *, audio: bool) -> AssetPage:
    """A page of the list. Raises ``AnswerCut`` for what is not JSON, ``AnswerUnusable`` for another shape."""
    page = _decoded(_LIST, body)
    found = tuple(_asset(entry, audio=audio) for entry in page.listed)
    return AssetPage(found, page.page_info.total_page, page.page_info.total_results)


def _asset(entry: msgspec.Raw, *, audio: bool) -> Asset:
    try:
        one = _ENTRY.decode(entry)
    except msgspec.ValidationError as error:
        return Asset(_name_of(entry), False, 0.0, "", f"its entry in the list cannot be read: {error}")
    ready = one.status in {None, "ready"}
    return Asset(one.video_id, ready, _seconds(one.system_metadata), _revision(one, audio=audio))


def _name_of(entry: msgspec.Raw) -> str:
    """The id of an entry that cannot be read otherwise, or else how it begins."""
    try:
        return _NAMED.decode(entry).video_id
    except msgspec.ValidationError:
        return ascii(bytes(entry)[:_SHOWN_OF_ENTRY].decode(errors="replace"))[1:-1]


def decode_video(body: bytes, asset: Asset, *, audio: bool) -> VendorVideo:
    """A video with its vectors, as the list's ``asset``. Raises as ``decode_page`` does."""
    detail = _decoded(_DETAIL, body)
    metadata = detail.system_metadata or _Metadata()
    seconds = _seconds(detail.system_metadata) or asset.duration_seconds or _last_end(detail)
    segments = _clips_of(detail, _wanted(audio=audio), seconds)
    vectors = _matrix(segments)
    tracks = _tracks(segments, vectors, _spoken(detail.transcription or (), seconds), seconds)
    video = IndexedVideo(asset.video_id, metadata.filename or "", seconds, tuple(tracks), asset.revision)
    model = (detail.embedding and detail.embedding.model_name) or ""
    if not model:
        raise AnswerUnusable("the answer does not say which model made the vectors", code="no_model_name")
    return VendorVideo(video, model, vendor_space(model, vectors.shape[1]), vectors.shape[1])


def _decoded(decoder: msgspec.json.Decoder[_T], body: bytes) -> _T:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise AnswerUnusable(f"the answer is not of the shape of version 1.3: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise AnswerCut("the answer is not JSON, or ends too early") from None


def _seconds(metadata: _Metadata | None) -> float:
    return (metadata and metadata.duration) or 0.0


def _last_end(detail: _AssetInDetail) -> float:
    """Where a video ends whose duration nobody tells."""
    return max((one.end_offset_sec for one in _segments(detail)), default=0.0)


def _segments(detail: _AssetInDetail) -> list[_Segment]:
    embedding = (detail.embedding and detail.embedding.video_embedding) or _VideoEmbedding()
    return embedding.segments or []


def _revision(asset: _Asset, *, audio: bool) -> str:
    """A digest of what would change with the vectors; the options are in it, for they decide what is kept."""
    moments = (asset.created_at, asset.updated_at, asset.indexed_at, _wanted(audio=audio))
    return hashlib.sha256(repr(moments).encode()).hexdigest()[:16]


# ------------------------------------------------------------------------------------------------- from these to tracks


def _clips_of(detail: _AssetInDetail, wanted: Sequence[str], seconds: float) -> list[_Segment]:
    """The clips within a video's duration that are to be kept, in order of their start."""
    segments = _segments(detail)
    kept = [
        one
        for one in segments
        if one.embedding_scope == "clip"
        and one.embedding_option in wanted
        and 0 <= one.start_offset_sec < min(one.end_offset_sec, seconds)
    ]
    if not kept:
        seen = ", ".join(sorted({f"{one.embedding_option}/{one.embedding_scope}" for one in segments})) or "none"
        raise AnswerUnusable(
            f"of its embeddings ({seen[:200]!a}) none is of a clip of {' or '.join(wanted)} within {seconds:g} s: "
            "only videos that are indexed with Marengo have them",
            code="no_embeddings",
        )
    return sorted(kept, key=lambda one: one.start_offset_sec)


def _matrix(segments: Sequence[_Segment]) -> Vectors:
    """The vectors of the clips; made one by one, for lists of numbers take eight times the room of an array."""
    try:
        rows = [normalised(np.array([_VECTOR.decode(one.vector)], dtype=np.float64))[0] for one in segments]
        if len({len(row) for row in rows}) > 1 or not len(rows[0]):
            raise AnswerUnusable("its vectors have different numbers of dimensions, or none", code="mixed_dimensions")
        return np.stack(rows)
    except (msgspec.DecodeError, ValueError) as error:
        raise AnswerUnusable(f"one of its vectors is none: {error}") from None


def _tracks(
    segments: Sequence[_Segment], vectors: Vectors, spoken: Sequence[Spoken], seconds: float
) -> Iterator[Track]:
    for option in dict.fromkeys(_OPTIONS.values()):
        rows = [row for row, one in enumerate(segments) if _OPTIONS.get(one.embedding_option or "") == option]
        if rows:
            clips = [segments[row] for row in rows]
            starts = np.array([one.start_offset_sec for one in clips])
            ends = np.array([min(one.end_offset_sec, seconds) for one in clips])
            yield Track(option, starts, ends, vectors[rows], _texts(clips, spoken) if option == "conversation" else ())
        elif option == "conversation" and spoken:
            silent = np.zeros((len(spoken), vectors.shape[1]), dtype=np.float32)
            yield Track.of(option, [(line.start, line.end, line.text) for line in spoken], silent)


def _spoken(lines: Sequence[_Line], seconds: float) -> list[Spoken]:
    """The lines that have words and times and lie within the video, in order of their start."""
    within = [
        Spoken(line.start, min(line.end, seconds), line.value.strip())
        for line in lines
        if line.start is not None and line.end is not None and line.value
    ]
    return sorted((line for line in within if line.text and 0 <= line.start < line.end), key=lambda line: line.start)


def _texts(clips: Sequence[_Segment], spoken: Sequence[Spoken]) -> tuple[str, ...]:
    """What is said in each clip: the lines whose middle lies in it, or nearest to it.

    The clips are in order of their start. Those of sounds get lines only where there are none of speech.
    """
    if not spoken:
        return ()
    of_speech = [row for row, clip in enumerate(clips) if clip.embedding_option == "transcription"]
    rows = of_speech or list(range(len(clips)))
    starts = [clips[row].start_offset_sec for row in rows]
    said: list[list[str]] = [[] for _ in clips]
    for line in spoken:
        middle = (line.start + line.end) / 2
        after = bisect_right(starts, middle)
        around = rows[max(after - 1, 0) : after + 1]
        nearest = min(
            around, key=lambda row: max(clips[row].start_offset_sec - middle, middle - clips[row].end_offset_sec)
        )
        said[nearest].append(line.text)
    return tuple(" ".join(lines) for lines in said)
