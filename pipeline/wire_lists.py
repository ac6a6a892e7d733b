"""Indexes and their videos as the contract lists them, bytes to types and back: the part of ``wire`` about lists.

Pages of a list are told by their number, from 1, and those of results by a token: no page is of both sorts. What a list
does not tell, or tells as a number that cannot be meant, is None here, and the reader decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec

from pipeline.wire import decode_shape, rfc3339


@dataclass(frozen=True, slots=True)
class IndexFacts:
    """One index of the platform. Moments in seconds since the epoch."""

    index_id: str
    name: str
    options: tuple[str, ...]
    video_count: int
    total_seconds: float
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """One video as an index lists it. Moments in seconds since the epoch."""

    video_id: str
    filename: str
    duration_seconds: float
    created_at: float
    updated_at: float


class _Metadata(msgspec.Struct, frozen=True):
    duration: float | None = None
    filename: str | None = None


class _ListedVideo(msgspec.Struct):
    video_id: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_-]+\Z")] = msgspec.field(name="_id")
    metadata: _Metadata = _Metadata()


class _ListInfo(msgspec.Struct):
    page: int
    total_page: int
    total_results: int | None = None


class _VideoList(msgspec.Struct):
    data: list[_ListedVideo]
    page_info: _ListInfo


@dataclass(frozen=True, slots=True)
class ListedVideo:
    """One video of a platform's index; None for a duration or a name that the platform does not tell."""

    video_id: str
    duration_seconds: float | None = None
    filename: str | None = None


@dataclass(frozen=True, slots=True)
class VideoListPage:
    """One page of an index's videos: pages are numbered from 1 to ``total_pages``.

    ``total_results`` are the videos on all of them, where the platform tells.
    """

    videos: tuple[ListedVideo, ...]
    total_pages: int
    total_results: int | None = None


def decode_video_list(body: bytes) -> VideoListPage:
    """Read one page of ``GET /indexes/{index_id}/videos``. Raises as ``wire.decode_page`` does."""
    listed = decode_shape(body, _VideoList)
    videos = tuple(
        ListedVideo(one.video_id, _known(one.metadata.duration), one.metadata.filename) for one in listed.data
    )
    return VideoListPage(videos, listed.page_info.total_page, listed.page_info.total_results)


def _known(duration_seconds: float | None) -> float | None:
    return duration_seconds if duration_seconds is not None and duration_seconds > 0 else None


def index_object(index: IndexFacts) -> dict[str, object]:
    """One index, as ``GET /indexes`` and ``GET /indexes/{index_id}`` show it."""
    return {
        "_id": index.index_id,
        "index_name": index.name,
        "engines": [{"engine_name": "local", "engine_options": list(index.options)}],
        "video_count": index.video_count,
        "total_duration": index.total_seconds,
        "created_at": rfc3339(index.created_at),
        "updated_at": rfc3339(index.updated_at),
    }


def video_object(video: VideoFacts) -> dict[str, object]:
    """One video of an index. No ``index_id`` in it: the vendor's Python SDK 0.3.2 breaks on that key."""
    return {
        "_id": video.video_id,
        "created_at": rfc3339(video.created_at),
        "updated_at": rfc3339(video.updated_at),
        "indexed_at": rfc3339(video.updated_at),
        "metadata": {
            "filename": video.filename,
            "duration": video.duration_seconds,
            "fps": 30,
            "width": 1280,
            "height": 720,
            "size": 0,
        },
    }


def encode_list(entries: Sequence[dict[str, object]], *, page: int, page_limit: int, total_results: int) -> bytes:
    """One page of ``GET /indexes`` or ``GET /indexes/{index_id}/videos``."""
    return msgspec.json.encode(
        {
            "data": entries,
            "page_info": {
                "limit_per_page": page_limit,
                "page": page,
                "total_page": -(-total_results // page_limit),
                "total_results": total_results,
            },
        }
    )


def encode_object(entry: dict[str, object]) -> bytes:
    """One index or video by itself."""
    return msgspec.json.encode(entry)
