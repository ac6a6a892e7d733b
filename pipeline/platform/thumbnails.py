"""Thumbnails of clips: small pictures that this server draws, for an index holds no frames.

A picture shows what its URL says, a video's id and a moment, and nothing of the index is looked up for it. So it needs
no key, its URL holds no secret and never expires, and whoever has one learns no more from it than what it reads.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import replace

import msgspec

from pipeline.models import ClassScore
from pipeline.platform.tokens import WalkPage
from pipeline.wire import decode_answer, encode_answer

THUMBNAIL_ROUTE = r"/thumbnails/{video_id:[A-Za-z0-9_-]{1,128}}/{second:[0-9]{1,7}}.svg"
"""Where they are: what an index takes as an id and as a duration, and nothing that a picture would have to escape."""

_HOST = re.compile(r"[A-Za-z0-9.:_\[\]-]{1,256}")
_SHOWN_OF_ID = 24


def with_thumbnails(page: WalkPage, host: str) -> WalkPage:
    """The page with a URL in each clip, of the second in which it starts, on the host that was asked for the page.

    Without them where no URL can be made of what the request calls the host.
    """
    if not _HOST.fullmatch(host):
        return page
    entries, first = ([_illustrated(entry, host) for entry in some] for some in (page.entries, page.first_of_walk))
    return replace(page, entries=tuple(entries), first_of_walk=tuple(first))


def _illustrated(entry: bytes, host: str) -> bytes:
    answer = decode_answer(entry)
    folder = f"http://{host}/thumbnails/{answer.video_id}"

    def of_class(one: ClassScore) -> ClassScore:
        if one.clips is None:
            return one
        urls = [f"{folder}/{int(clip.start)}.svg" for clip in one.clips]
        clips = [msgspec.structs.replace(clip, thumbnail_url=url) for clip, url in zip(one.clips, urls, strict=True)]
        return msgspec.structs.replace(one, clips=tuple(clips))

    return encode_answer(msgspec.structs.replace(answer, classes=tuple(map(of_class, answer.classes))))


def thumbnail(video_id: str, second: int) -> str:
    """The picture, as SVG: id and moment, on a colour that tells videos apart."""
    hue = zlib.crc32(video_id.encode()) % 360
    shown = video_id if len(video_id) <= _SHOWN_OF_ID else f"{video_id[: _SHOWN_OF_ID - 1]}…"
    moment = f"{second // 3600}:{second // 60 % 60:02}:{second % 60:02}"
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" width="160" height="90" viewBox="0 0 160 90" text-anchor="middle"'
        f' font-family="sans-serif" fill="#fff"><rect width="160" height="90" fill="hsl({hue} 45% 35%)"/>'
        f'<text x="80" y="48" font-size="20">{moment}</text><text x="80" y="76" font-size="9">{shown}</text></svg>'
    )
