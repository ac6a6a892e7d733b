"""The fake of version 1.3, asked by a bare aiohttp client: what it is strict about, and what it answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.servers.vendor import VendorServer, vector

BASE = "/indexes/index1/indexed-assets"


class Caller:
    """A session that speaks to one server."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def get(self, path: str, key: str = "test-key") -> tuple[int, Any]:
        async with self._session.get(self._url + path, headers={"x-api-key": key}) as answer:
            return answer.status, await answer.json()


@pytest.fixture
async def caller() -> AsyncIterator[Caller]:
    async with (
        VendorServer({f"v{number}": 20.0 for number in range(23)}, dimensions=4) as server,
        aiohttp.ClientSession() as session,
    ):
        yield Caller(session, server.url)


async def test_the_list_has_ten_on_a_page_and_says_how_many_pages_there_are(caller: Caller) -> None:
    status, first = await caller.get(BASE)
    assert (status, [one["_id"] for one in first["data"]]) == (200, [f"v{number}" for number in range(10)])
    assert first["page_info"] == {
        "limit_per_page": 10,
        "page": 1,
        "total_page": 3,
        "total_results": 23,
        "total_duration": 460.0,
    }
    _, last = await caller.get(f"{BASE}?page=3&page_limit=10")
    assert [one["_id"] for one in last["data"]] == ["v20", "v21", "v22"]
    assert last["data"][0]["system_metadata"]["duration"] == 20.0


async def test_a_video_has_the_embeddings_and_the_transcript_that_are_asked_for(caller: Caller) -> None:
    _, bare = await caller.get(f"{BASE}/v1")
    assert not bare.keys() & {"embedding", "transcription"}
    _, found = await caller.get(f"{BASE}/v1?embedding_option=visual&embedding_option=audio&transcription=true")
    assert found["embedding"]["model_name"] == "marengo3.0"
    segments = found["embedding"]["video_embedding"]["segments"]
    assert [(one["embedding_option"], one["embedding_scope"]) for one in segments] == [
        *[("visual", "clip")] * 4,
        ("visual", "video"),
        *[("audio", "clip")] * 4,
        ("audio", "video"),
    ]
    assert segments[3] == {
        "start_offset_sec": 18.0,
        "end_offset_sec": 20.0,
        "embedding_option": "visual",
        "embedding_scope": "clip",
        "float": vector("v1", "visual", "18.0 clip", 4),
    }
    assert found["transcription"][3] == {"start": 18.25, "end": 20.0, "value": "Sentence 3 of v1."}


@pytest.mark.parametrize(
    ("path", "key", "status", "code"),
    [
        (BASE, "wrong", 401, "api_key_invalid"),
        (f"{BASE}?page=0", "test-key", 400, "parameter_invalid"),
        (f"{BASE}?page_limit=51", "test-key", 400, "parameter_invalid"),
        (f"{BASE}?pages=1", "test-key", 400, "parameter_unknown"),
        (f"{BASE}/v1?embedding_option=text_in_video", "test-key", 400, "parameter_invalid"),
        (f"{BASE}/v99", "test-key", 404, "resource_not_exist"),
        ("/indexes/other/indexed-assets", "test-key", 404, "resource_not_exist"),
        ("/classify", "test-key", 404, "resource_not_exist"),
    ],
)
async def test_what_the_platform_refuses_is_refused(
    caller: Caller, path: str, key: str, status: int, code: str
) -> None:
    answered, body = await caller.get(path, key)
    assert (answered, body["code"]) == (status, code)
