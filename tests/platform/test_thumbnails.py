"""Pictures for clips: where an answer says they are, and what is there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import aiohttp
import pytest

from pipeline.platform.server import Settings, serving
from pipeline.platform.store import Store
from pipeline.platform.thumbnails import thumbnail
from pipeline.platform.videos import OPTIONS
from tests.platform.made_up import CURVE, SPACE, AxisEmbedder, track, video

INDEX_ID = "64428d88456b2dab381e7000"
KEY = "sesame"


@dataclass(frozen=True)
class Client:
    site: str
    session: aiohttp.ClientSession

    async def pages(self, *, host: str | None = None) -> list[list[str | None]]:
        """The thumbnail URLs of each page, a video a page."""
        asked: dict[str, Any] | None = {
            "index_id": INDEX_ID,
            "options": ["visual"],
            "classes": [{"name": "A", "prompts": ["alpha"]}],
            "include_clips": True,
            "page_limit": 1,
            "threshold": {"min_video_score": 1},
        }
        headers = {"x-api-key": KEY} | ({"Host": host} if host else {})
        found = []
        place = "bulk"
        while place:
            method, url = "POST" if asked else "GET", f"{self.site}/v1.2/classify/{place}"
            async with self.session.request(method, url, headers=headers, json=asked) as answer:
                page: Any = await answer.json()
            clips = [clip for one in page["data"] for each in one["classes"] for clip in each["clips"]]
            found.append([clip.get("thumbnail_url") for clip in clips])
            asked, place = None, page["page_info"]["next_page_token"]
        return found


@asynccontextmanager
async def client(folder: Path, settings: Settings, host: str = "127.0.0.1") -> AsyncIterator[Client]:
    with Store.create(folder / "index.sqlite", INDEX_ID, "Test") as store:
        for option in OPTIONS:
            store.calibrate({option: CURVE})
        clips = track("visual", (0, 60, [90])), track("visual", (12.75, 20, [80]), (25, 99.5, [85]))
        store.add_videos([video(f"v-{at}_", 100, one) for at, one in enumerate(clips)], SPACE)
        async with serving(store, settings, host, embedder=AxisEmbedder()) as url, aiohttp.ClientSession() as session:
            yield Client(url.removesuffix("/v1.2").replace("0.0.0.0", "127.0.0.1"), session)


async def test_each_clip_of_each_page_has_the_second_in_which_it_starts(tmp_path: Path) -> None:
    async with client(tmp_path, Settings(key=KEY, thumbnails=True)) as one:
        folder = f"{one.site}/thumbnails"
        found = await one.pages()
    assert found == [[f"{folder}/v-0_/0.svg"], [f"{folder}/v-1_/25.svg", f"{folder}/v-1_/12.svg"]]


async def test_the_host_is_that_which_was_asked(tmp_path: Path) -> None:
    async with client(tmp_path, Settings(key=KEY, thumbnails=True), "0.0.0.0") as one:
        assert (await one.pages(host="platform.lan:81"))[0] == ["http://platform.lan:81/thumbnails/v-0_/0.svg"]
        assert await one.pages(host='"><script>') == [[None], [None, None]]
        assert await one.pages(host="ü") == [[None], [None, None]]


async def test_without_the_setting_no_clip_has_one(tmp_path: Path) -> None:
    async with client(tmp_path, Settings(key=KEY)) as one:
        assert await one.pages() == [[None], [None, None]]


async def test_a_picture_needs_no_key_and_no_video_and_keeps(tmp_path: Path) -> None:
    async with (
        client(tmp_path, Settings(key=KEY)) as one,
        one.session.get(f"{one.site}/thumbnails/nobody/3725.svg") as answer,
    ):
        assert (answer.status, answer.content_type) == (200, "image/svg+xml")
        assert answer.headers["Cache-Control"] == "max-age=604800, immutable"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert await answer.text() == thumbnail("nobody", 3725)


@pytest.mark.parametrize("path", ["a/1.png", "a/1.5.svg", "a/12345678.svg", "a%3Cb/1.svg", f"{'a' * 129}/1.svg", "a/1"])
async def test_there_is_no_picture_of_what_no_index_can_hold(tmp_path: Path, path: str) -> None:
    async with client(tmp_path, Settings()) as one, one.session.get(f"{one.site}/thumbnails/{path}") as answer:
        assert answer.status in {401, 404}  # what is no picture needs a key like all else


def test_a_picture_shows_the_id_and_the_moment() -> None:
    def shown(video_id: str, second: int) -> list[str | None]:
        picture = ElementTree.fromstring(thumbnail(video_id, second))
        return [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]

    assert shown("loaf", 3725) == ["1:02:05", "loaf"]
    assert shown("a" * 24, 0) == ["0:00:00", "a" * 24]
    assert shown("a" * 25, 0) == ["0:00:00", "a" * 23 + "…"]
