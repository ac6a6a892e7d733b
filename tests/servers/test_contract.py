"""The contract server, asked by a bare aiohttp client: every rule it is strict about, and every fault it can show."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.servers.contract import (
    ALIEN_ID,
    AlienVideo,
    ContractServer,
    Cut,
    Delay,
    DuplicateVideo,
    ExpireToken,
    Fault,
    Hang,
    JsonObject,
    MissingVideos,
    NotJson,
    RepeatToken,
    RequestSeen,
    Reset,
    Status,
    WrongShape,
    _scrambled,
)

ROOT = Path(__file__).parents[2]
GUIDE = json.loads((ROOT / "tests/examples/guide.json").read_text())["examples"]
HEADERS = {"x-api-key": "test-key", "User-Agent": "bulk-classify/test"}
VIDEOS = {f"video{number:02}": 600.5 for number in range(40)}
DANCE: JsonObject = {"name": "DanceTok", "prompts": ["Dance tutorial", "Dance group"]}
COOK: JsonObject = {"name": "CookTok", "prompts": ["Cooking tutorial"]}


def body(video_ids: Sequence[str] = ("video02", "video01", "video00"), /, **changes: Any) -> JsonObject:
    """A good request for three videos, with some fields changed; a field that is ``...`` is left out."""
    wanted = {"video_ids": list(video_ids), "classes": [DANCE], "options": ["visual"]}
    return {name: value for name, value in (wanted | changes).items() if value is not ...}


def always(video_id: str, asked: JsonObject) -> JsonObject:
    """Every video matches every class."""
    return {"score": 60, "duration_ratio": 0.5, "clips": []}


def fault_on(kind: str, number: int, fault: Fault) -> Callable[[RequestSeen], Fault | None]:
    return lambda seen: fault if (seen.kind, seen.number) == (kind, number) else None


class Clock:
    """A clock that a test moves by hand."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class Caller:
    """A session that speaks to one server: status, decoded body and headers of each answer."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def post(self, content: object, **headers: str) -> tuple[int, Any, Mapping[str, str]]:
        async with self._session.post(f"{self._url}/classify", json=content, headers=headers) as response:
            return await self._read(response)

    async def post_index(self, **changes: Any) -> tuple[int, Any, Mapping[str, str]]:
        content = body(**({"video_ids": ..., "index_id": "index1"} | changes))
        async with self._session.post(f"{self._url}/classify/bulk", json=content) as response:
            return await self._read(response)

    async def post_bytes(self, content: bytes, content_type: str) -> tuple[int, Any, Mapping[str, str]]:
        headers = {"Content-Type": content_type}
        async with self._session.post(f"{self._url}/classify", data=content, headers=headers) as response:
            return await self._read(response)

    async def get(self, path: str) -> tuple[int, Any, Mapping[str, str]]:
        async with self._session.get(f"{self._url}/{path}") as response:
            return await self._read(response)

    async def page(self, token: str) -> tuple[int, Any, Mapping[str, str]]:
        return await self.get(f"classify/{token}")

    @staticmethod
    async def _read(response: aiohttp.ClientResponse) -> tuple[int, Any, Mapping[str, str]]:
        content = await response.read()
        return response.status, json.loads(content) if content else None, response.headers


@asynccontextmanager
async def calling(server: ContractServer, headers: Mapping[str, str] = HEADERS) -> AsyncIterator[Caller]:
    async with aiohttp.ClientSession(headers=headers) as session:
        yield Caller(session, server.url)


def ids(answer: Any) -> list[str]:
    return [entry["video_id"] for entry in answer["data"]]


def in_order(entry: JsonObject) -> JsonObject:
    return {**entry, "classes": sorted(entry["classes"], key=lambda one: str(one["name"]))}


# --------------------------------------------------------------------------------------------------------- the guide


@pytest.mark.parametrize("example", GUIDE, ids=lambda example: example["title"][:15])
async def test_the_guides_requests_are_accepted_as_they_are_written(example: JsonObject) -> None:
    given = {entry["video_id"]: entry for entry in example["response"]["data"]}

    def answer(video_id: str, asked: JsonObject) -> JsonObject:
        return next(
            {"score": one["score"], "duration_ratio": one["duration_ratio"], "clips": one.get("clips", [])}
            for one in given[video_id]["classes"]
            if one["name"] == asked["name"]
        )

    asked_ids = example["request"].get("video_ids", [example["request"].get("video_id")])
    async with ContractServer(dict.fromkeys(given, 300), answer=answer) as server, calling(server) as caller:
        status, page, _ = await caller.post(example["request"])
    assert status == 200
    assert sorted(ids(page)) == sorted(asked_ids)
    assert server.violations == []
    if "detailed" not in example["title"]:  # there the guide answers more than the request asks
        answered = sorted(map(in_order, page["data"]), key=lambda entry: str(entry["video_id"]))
        assert answered == sorted(map(in_order, given.values()), key=lambda entry: str(entry["video_id"]))


def test_normalized_scores_are_the_guides_to_the_last_bit() -> None:
    for entry in GUIDE[3]["response"]["data"]:
        scores = {one["name"]: one for one in entry["classes"]}
        server = ContractServer(
            {entry["video_id"]: 300},
            answer=lambda _, asked, scores=scores: {**scores[asked["name"]], "clips": []},  # type: ignore[misc]
        )
        expected = server.expected(entry["video_id"], [DANCE, COOK], include_clips=False, detailed=True)
        assert expected is not None
        for one in expected["classes"]:
            given = scores[one["name"]]["detailed_scores"]["normalized_score"]
            assert one["detailed_scores"]["normalized_score"] == given


# --------------------------------------------------------------------------------------------------- default answers


def test_default_answers_leave_out_some_videos_and_some_classes_of_others() -> None:
    videos = {f"v{number}": 100.0 for number in range(2000)}
    server = ContractServer(videos)
    entries = [server.expected(video_id, [DANCE, COOK], True, True) for video_id in videos]
    absent = entries.count(None)
    both = sum(len(entry["classes"]) == 2 for entry in entries if entry)
    assert 0.13 < absent / 2000 < 0.19
    assert 0.60 < both / 2000 < 0.69


def test_default_answers_keep_the_contracts_bounds_and_shapes() -> None:
    server = ContractServer(VIDEOS)
    entries = [server.expected(video_id, [DANCE, COOK], True, True) for video_id in VIDEOS]
    classes = [one for entry in entries if entry for one in entry["classes"]]
    clips = [clip for one in classes for clip in one["clips"]]
    for one in classes:
        detailed = one["detailed_scores"]
        assert 0 < one["score"] <= detailed["max_score"] <= 100
        assert 0 <= one["duration_ratio"] <= 1
        assert detailed["max_score"] == max(clip["score"] for clip in one["clips"])
    for clip in clips:
        assert 0 <= clip["start"] < clip["end"] <= 600.5
        assert clip["score"] == round(clip["score"], 2)
        assert clip["prompt"] in DANCE["prompts"] + COOK["prompts"]
    for name in ("start", "score"):
        assert {type(clip[name]) for clip in clips} == {int, float}
    urls = [clip["thumbnail_url"] for clip in clips if "thumbnail_url" in clip]
    assert 0 < len(urls) < len(clips)
    assert all("X-Amz-Credential=" in url and "X-Amz-Signature=" in url for url in urls)


def test_a_class_is_answered_alike_whichever_classes_are_asked_beside_it() -> None:
    server = ContractServer(VIDEOS)
    for video_id in VIDEOS:
        together = server.expected(video_id, [DANCE, COOK], True, False) or {"classes": []}
        apart = [server.expected(video_id, [one], True, False) or {"classes": []} for one in (DANCE, COOK)]
        assert together["classes"] == apart[0]["classes"] + apart[1]["classes"]


async def test_clips_and_detailed_scores_are_sent_only_when_asked_for() -> None:
    async with ContractServer(VIDEOS) as server, calling(server) as caller:
        for include_clips in (False, True):
            for detailed in (False, True):
                asked = body(list(VIDEOS), page_limit=50, include_clips=include_clips, show_detailed_score=detailed)
                _, page, _ = await caller.post(asked)
                assert page["data"]
                for entry in page["data"]:
                    assert entry == server.expected(entry["video_id"], [DANCE], include_clips, detailed)
                    assert ("clips" in entry["classes"][0]) == include_clips
                    assert ("detailed_scores" in entry["classes"][0]) == detailed


# ---------------------------------------------------------------------------------------------------------- requests


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"video_ids": ...}, "parameter_not_provided"),
        ({"classes": ...}, "parameter_not_provided"),
        ({"options": ...}, "parameter_not_provided"),
        ({"classes": [{"name": "A"}]}, "parameter_not_provided"),
        ({"classes": [{"prompts": ["a"]}]}, "parameter_not_provided"),
        ({"colour": "red"}, "parameter_unknown"),
        ({"video_id": "video00"}, "parameter_unknown"),
        ({"index_id": "index"}, "parameter_unknown"),
        ({"classes": [DANCE | {"colour": "red"}]}, "parameter_unknown"),
        ({"threshold": {"min_score": 1}}, "parameter_unknown"),
        ({"video_ids": []}, "parameter_invalid"),
        ({"video_ids": "video00"}, "parameter_invalid"),
        ({"video_ids": [1]}, "parameter_invalid"),
        ({"video_ids": ..., "video_id": ["video00"]}, "parameter_invalid"),
        ({"classes": []}, "parameter_invalid"),
        ({"classes": ["A"]}, "parameter_invalid"),
        ({"classes": [DANCE | {"name": ""}]}, "parameter_invalid"),
        ({"classes": [DANCE | {"prompts": []}]}, "parameter_invalid"),
        ({"classes": [DANCE | {"prompts": ["a"] * 101}]}, "parameter_invalid"),
        ({"classes": [DANCE | {"prompts": ["a"] * 100}, COOK]}, "parameter_invalid"),
        ({"classes": [DANCE | {"options": ["sound"]}]}, "parameter_invalid"),
        ({"options": []}, "parameter_invalid"),
        ({"options": "visual"}, "parameter_invalid"),
        ({"options": ["sound"]}, "parameter_invalid"),
        ({"conversation_option": "fuzzy"}, "parameter_invalid"),
        ({"include_clips": 1}, "parameter_invalid"),
        ({"show_detailed_score": "true"}, "parameter_invalid"),
        ({"page_limit": 0}, "parameter_invalid"),
        ({"page_limit": 51}, "parameter_invalid"),
        ({"page_limit": 10.0}, "parameter_invalid"),
        ({"page_limit": True}, "parameter_invalid"),
        ({"threshold": None}, "parameter_invalid"),
        ({"threshold": {"min_video_score": 0.5}}, "parameter_invalid"),
        ({"threshold": {"min_clip_score": 101}}, "parameter_invalid"),
        ({"threshold": {"min_duration_ratio": 0}}, "parameter_invalid"),
        ({"threshold": {"min_duration_ratio": float("nan")}}, "parameter_invalid"),
    ],
    ids=str,
)
async def test_a_request_outside_the_contract_is_refused(changes: JsonObject, code: str) -> None:
    async with ContractServer(VIDEOS) as server, calling(server) as caller:
        status, error, _ = await caller.post(body(**changes))
    assert (status, error["code"]) == (400, code)
    assert [(post.status, post.executed) for post in server.posts] == [(400, False)]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b"[" * 100_000])
async def test_a_body_that_is_no_json_object_is_refused(content: bytes) -> None:
    async with ContractServer(VIDEOS) as server, calling(server) as caller:
        status, error, _ = await caller.post_bytes(content, "application/json")
    assert (status, error["code"]) == (400, "parameter_invalid")


async def test_every_field_of_the_contract_is_accepted() -> None:
    full = body(
        classes=[DANCE | {"prompts": ["a"] * 100, "options": ["logo"], "conversation_option": "exact_match"}],
        options=["visual", "conversation", "text_in_video"],
        conversation_option="semantic",
        include_clips=True,
        show_detailed_score=True,
        page_limit=50,
        threshold={"min_video_score": 1, "min_clip_score": 99.5, "min_duration_ratio": 0.01},
    )
    async with ContractServer(VIDEOS) as server, calling(server) as caller:
        assert (await caller.post(full))[0] == 200
    assert server.violations == []


async def test_ten_hours_are_accepted_and_more_are_refused_in_the_vendors_words() -> None:
    videos = {"a": 18_000, "b": 18_000.0, "c": 1_599.5}
    async with ContractServer(videos) as server, calling(server) as caller:
        assert (await caller.post(body(["a", "b"])))[0] == 200
        status, error, _ = await caller.post(body(["a", "b", "c"]))
    message = "The total duration(seconds) 37600 of videos exceeds the limit."
    assert (status, error) == (400, {"code": "parameter_invalid", "message": message})
    assert server.refused == 1


async def test_an_unknown_video_is_refused_without_saying_which() -> None:
    async with ContractServer(VIDEOS) as server, calling(server) as caller:
        status, error, _ = await caller.post(body(["video00", "stranger"]))
    assert (status, error["code"]) == (404, "resource_not_exist")
    assert "stranger" not in error["message"]
    assert [(post.video_ids, post.status, post.executed) for post in server.posts] == [
        (("video00", "stranger"), 404, False)
    ]


@pytest.mark.parametrize("key", [{}, {"x-api-key": "another"}])
async def test_a_wrong_or_missing_key_is_refused(key: dict[str, str]) -> None:
    headers = {"User-Agent": "bulk-classify/test", **key}
    async with ContractServer(VIDEOS) as server, calling(server, headers) as caller:
        for status, error, _ in [await caller.post(body()), await caller.page("token")]:
            assert (status, error["code"]) == (401, "api_key_invalid")


async def test_what_no_careful_client_does_is_answered_and_noted() -> None:
    async with ContractServer(VIDEOS) as server, calling(server) as caller:
        await caller.post(body(["video00", "video00"]))
        await caller.post(body(classes=[DANCE, DANCE]))
        assert (await caller.post_bytes(json.dumps(body()).encode(), "text/plain"))[0] == 200
        assert (await caller.post(body(), **{"User-Agent": "curl"}))[0] == 200
        assert (await caller.get("classify"))[0] == 404
    assert server.violations == [
        "post 1 names a video twice",
        "post 2 names a class twice",
        "post 3 has the content type text/plain",
        "post 4 has not the user agent bulk-classify/",
        "GET /v1.2/classify is not an endpoint",
    ]


async def test_videos_posted_again_after_delivery_are_counted() -> None:
    async with ContractServer(VIDEOS, answer=always) as server, calling(server) as caller:
        _, first, _ = await caller.post(body(page_limit=2))
        unseen = set(body()["video_ids"]) - set(ids(first))
        await caller.post(body(list(unseen)))
        assert server.reposts == 0
        await caller.post(body(classes=[COOK]))
        assert server.reposts == 0
        await caller.post(body())
        assert server.reposts == 3


async def test_a_video_without_a_match_is_delivered_with_the_last_page() -> None:
    def only_others(video_id: str, asked: JsonObject) -> JsonObject | None:
        return None if video_id == "video00" else always(video_id, asked)

    async with ContractServer(VIDEOS, answer=only_others) as server, calling(server) as caller:
        _, first, _ = await caller.post(body(page_limit=1))
        await caller.post(body(["video00"], page_limit=1))
        assert server.reposts == 0
        await caller.page(first["page_info"]["next_page_token"])
        await caller.post(body(["video00"]))
        assert server.reposts == 1


# ------------------------------------------------------------------------------------------------------------- pages


async def test_pages_hold_every_match_once_in_an_order_of_their_own() -> None:
    asked = body(list(VIDEOS), classes=[DANCE, COOK], page_limit=7, include_clips=True)
    async with ContractServer(VIDEOS) as server, calling(server) as caller:
        _, page, _ = await caller.post(asked)
        pages = [page]
        while token := page["page_info"].get("next_page_token"):
            _, page, _ = await caller.page(token)
            pages.append(page)
    entries = [entry for one in pages for entry in one["data"]]
    expected = [server.expected(video_id, [DANCE, COOK], True, False) for video_id in VIDEOS]
    matched = {entry["video_id"]: in_order(entry) for entry in expected if entry}
    assert {entry["video_id"]: in_order(entry) for entry in entries} == matched
    assert len(entries) == len(matched)
    order = [entry["video_id"] for entry in entries]
    assert order != sorted(order)
    assert {one["page_info"]["total_results"] for one in pages} == {len(matched)}
    assert {one["page_info"]["limit_per_page"] for one in pages} == {7}
    assert [len(one["data"]) for one in pages[:-1]] == [7] * (len(pages) - 1)
    assert len(server.pages) == len(pages) - 1
    assert server.violations == []


@given(st.lists(st.text(max_size=3), unique=True))
def test_names_are_put_in_an_order_that_is_neither_theirs_nor_sorted(names: list[str]) -> None:
    mixed = _scrambled(names)
    assert sorted(mixed) == sorted(names)
    if len(names) >= 3:
        assert mixed not in (names, sorted(names))


async def test_videos_and_classes_come_in_an_order_of_their_own() -> None:
    classes = [DANCE, COOK, {"name": "PetTok", "prompts": ["Dogs"]}]
    names = [str(one["name"]) for one in classes]
    async with ContractServer(VIDEOS, answer=always) as server, calling(server) as caller:
        _, page, _ = await caller.post(body(classes=classes))
    assert ids(page) not in (body()["video_ids"], sorted(body()["video_ids"]))
    for entry in page["data"]:
        assert [one["name"] for one in entry["classes"]] not in (names, sorted(names))


async def test_the_default_page_has_ten_videos_and_leads_back_as_well_as_on() -> None:
    async with ContractServer(VIDEOS, answer=always) as server, calling(server) as caller:
        _, first, _ = await caller.post(body(list(VIDEOS)))
        _, second, _ = await caller.page(first["page_info"]["next_page_token"])
        _, again, _ = await caller.page(second["page_info"]["prev_page_token"])
    assert len(first["data"]) == 10
    assert first["page_info"]["prev_page_token"] == ""
    assert ids(again) == ids(first)


async def test_the_last_page_says_so_with_an_empty_token_or_none_in_turn() -> None:
    async with ContractServer(VIDEOS) as server, calling(server) as caller:
        infos = [(await caller.post(body()))[1]["page_info"] for _ in range(3)]
    assert [info.get("next_page_token") for info in infos] == ["", None, ""]
    assert [info.get("prev_page_token") for info in infos] == ["", None, ""]


async def test_a_request_that_matches_nothing_has_one_empty_page() -> None:
    async with ContractServer(VIDEOS, answer=lambda *_: None) as server, calling(server) as caller:
        status, page, _ = await caller.post(body())
    assert (status, page["data"], page["page_info"]["total_results"]) == (200, [], 0)


async def test_a_token_dies_at_the_moment_that_its_page_named() -> None:
    clock = Clock()
    async with (
        ContractServer(VIDEOS, answer=always, clock=clock, page_ttl_seconds=60) as server,
        calling(server) as caller,
    ):
        _, first, _ = await caller.post(body(page_limit=1))
        assert first["page_info"]["page_expired_at"] == "2023-11-14T22:14:20Z"
        clock.now += 59.9
        status, second, _ = await caller.page(first["page_info"]["next_page_token"])
        assert status == 200
        clock.now += 60
        status, error, _ = await caller.page(second["page_info"]["next_page_token"])
    assert (status, error["code"]) == (400, "parameter_invalid")
    assert "expired or invalid" in error["message"]


async def test_an_unknown_token_is_refused() -> None:
    async with ContractServer(VIDEOS) as server, calling(server) as caller:
        assert (await caller.page("unknown"))[0] == 400


async def test_a_page_of_a_finished_walk_is_noted() -> None:
    async with ContractServer(VIDEOS, answer=always) as server, calling(server) as caller:
        _, first, _ = await caller.post(body(page_limit=2))
        token = first["page_info"]["next_page_token"]
        await caller.page(token)
        assert server.violations == []
        assert (await caller.page(token))[0] == 200
    assert server.violations == ["page 2 belongs to a walk that was finished"]


# ------------------------------------------------------------------------------------------------------ whole indexes


async def test_a_whole_index_is_answered_however_long_its_videos_are() -> None:
    videos = dict.fromkeys(VIDEOS, 30_000.0)
    async with ContractServer(videos, answer=always, index_id="index1") as server, calling(server) as caller:
        status, first, _ = await caller.post_index(page_limit=30)
        assert (status, len(ids(first)), first["page_info"]["total_results"]) == (200, 30, 40)
        _, second, _ = await caller.page(first["page_info"]["next_page_token"])
        assert set(ids(first)) | set(ids(second)) == set(videos)
    assert (server.violations, [post.video_ids for post in server.posts]) == ([], [tuple(videos)])


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"index_id": ...}, 400, "parameter_not_provided"),
        ({"index_id": "index2"}, 404, "resource_not_exist"),
        ({"video_ids": ["video00"]}, 400, "parameter_unknown"),
        ({"video_id": "video00"}, 400, "parameter_unknown"),
        ({"classes": []}, 400, "parameter_invalid"),
    ],
)
async def test_what_is_no_request_for_a_whole_index_is_refused(changes: JsonObject, status: int, code: str) -> None:
    async with ContractServer(VIDEOS, index_id="index1") as server, calling(server) as caller:
        refused, said, _ = await caller.post_index(**changes)
        assert (refused, said["code"]) == (status, code)


async def test_the_listing_shows_the_index_but_for_what_it_must_hide() -> None:
    hides = ContractServer(VIDEOS, index_id="index1", listed=lambda one: one != "video39")
    async with hides as server, calling(server) as caller:
        pages = [await caller.get(f"indexes/index1/videos?page={page}&page_limit=20") for page in (1, 2)]
        assert [one["_id"] for _, page, _ in pages for one in page["data"]] == [*VIDEOS][:39]
        assert pages[0][1]["page_info"] == {"limit_per_page": 20, "page": 1, "total_page": 2, "total_results": 39}
        assert pages[0][1]["data"][0]["metadata"]["duration"] == 600.5
        assert (await caller.get("indexes/index2/videos"))[0] == 404
        assert (await caller.get("indexes/index1/videos?page_limit=51"))[0] == 400


# ------------------------------------------------------------------------------------------------------------ limits


async def test_posts_above_the_rate_get_an_empty_429_and_do_not_count_in_the_window() -> None:
    clock = Clock()
    async with ContractServer(VIDEOS, requests_per_second=2, clock=clock) as server, calling(server) as caller:
        statuses = []
        for step in (0, 0.5, 0.4375, 0.0625, 0.5):
            clock.now += step
            status, content, _ = await caller.post(body())
            statuses.append((status, content is None))
    assert statuses == [(200, False), (200, False), (429, True), (200, False), (200, False)]
    assert server.rate_violations == 1


async def test_a_rate_below_one_a_second_spaces_the_posts() -> None:
    clock = Clock()
    async with ContractServer(VIDEOS, requests_per_second=0.5, clock=clock) as server, calling(server) as caller:
        statuses = []
        for step in (0, 1.75, 0.25):
            clock.now += step
            statuses.append((await caller.post(body()))[0])
    assert statuses == [200, 429, 200]


@pytest.mark.parametrize(("rate_pages", "status"), [(False, 200), (True, 429)])
async def test_pages_count_in_the_rate_only_where_they_are_paced(rate_pages: bool, status: int) -> None:
    async with (
        ContractServer(VIDEOS, answer=always, requests_per_second=1, rate_pages=rate_pages, clock=Clock()) as server,
        calling(server) as caller,
    ):
        _, first, _ = await caller.post(body(page_limit=1))
        assert (await caller.page(first["page_info"]["next_page_token"]))[0] == status


async def test_the_quota_counts_posts_and_starts_anew_at_its_reset() -> None:
    clock = Clock()
    async with (
        ContractServer(VIDEOS, answer=always, quota=2, window_seconds=100, clock=clock) as server,
        calling(server) as caller,
    ):
        answers = [await caller.post(body(page_limit=1))]
        answers.append(await caller.page(answers[0][1]["page_info"]["next_page_token"]))
        answers += [await caller.post(body(["stranger"])), await caller.post(body())]
        clock.now += 100
        answers.append(await caller.post(body()))
    names = ("X-Ratelimit-Limit", "X-Ratelimit-Remaining", "X-Ratelimit-Used", "X-Ratelimit-Reset")
    assert [(status, *(headers[name] for name in names)) for status, _, headers in answers] == [
        (200, "2", "1", "1", "1700000100"),
        (200, "2", "1", "1", "1700000100"),
        (404, "2", "0", "2", "1700000100"),
        (429, "2", "0", "2", "1700000100"),
        (200, "2", "1", "1", "1700000200"),
    ]
    assert answers[3][1] is None
    assert server.quota_violations == 1


# ------------------------------------------------------------------------------------------------------------ faults


@asynccontextmanager
async def failing(kind: str, fault: Fault) -> AsyncIterator[tuple[ContractServer, Caller]]:
    """A server whose first POST or page has this fault; every video matches."""
    async with (
        ContractServer(VIDEOS, answer=always, faults=fault_on(kind, 1, fault), quota=9) as server,
        calling(server) as caller,
    ):
        yield server, caller


def outcomes_of(server: ContractServer) -> list[tuple[int, bool, int]]:
    return [(post.status, post.executed, len(post.shown)) for post in server.posts]


async def test_faults_are_chosen_by_what_was_seen() -> None:
    seen: list[RequestSeen] = []

    def note(request: RequestSeen) -> None:
        seen.append(request)

    async with ContractServer(VIDEOS, answer=always, faults=note) as server, calling(server) as caller:
        _, first, _ = await caller.post(body(page_limit=2))
        await caller.page(first["page_info"]["next_page_token"])
        await caller.post({})
    asked = ("video02", "video01", "video00")
    assert seen == [RequestSeen("post", 1, asked), RequestSeen("page", 1, asked), RequestSeen("post", 2, ())]


async def test_status_answers_what_it_is_told_and_charges_nothing() -> None:
    fault = Status(503, b'"later"', {"Retry-After": "7"})
    async with failing("post", fault) as (server, caller):
        status, content, headers = await caller.post(body())
        assert (status, content, headers["Retry-After"], headers["X-Ratelimit-Used"]) == (503, "later", "7", "0")
        assert (await caller.post(body()))[2]["X-Ratelimit-Used"] == "1"
    assert outcomes_of(server) == [(503, False, 0), (200, True, 3)]


@pytest.mark.parametrize("executed", [False, True])
async def test_reset_before_an_answer(executed: bool) -> None:
    async with failing("post", Reset(executed=executed)) as (server, caller):
        with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
            await caller.post(body())
        assert (await caller.post(body()))[2]["X-Ratelimit-Used"] == str(1 + executed)
    assert outcomes_of(server) == [(0, executed, 0), (200, True, 3)]
    assert server.reposts == 0


@pytest.mark.parametrize("executed", [False, True])
async def test_reset_after_the_headers(executed: bool) -> None:
    async with failing("post", Reset(after_headers=True, executed=executed)) as (server, caller):
        with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientOSError)):
            await caller.post(body())
    assert [post.executed for post in server.posts] == [executed]


async def test_cut_ends_the_body_early_and_the_page_can_be_fetched_again() -> None:
    async with failing("page", Cut(0.5)) as (server, caller):
        _, first, _ = await caller.post(body(page_limit=2))
        token = first["page_info"]["next_page_token"]
        with pytest.raises(aiohttp.ClientPayloadError):
            await caller.page(token)
        assert (await caller.page(token))[0] == 200
    assert server.violations == []


async def test_not_json_is_a_proxys_page_with_status_200() -> None:
    async with failing("post", NotJson()) as (server, caller):
        with pytest.raises(json.JSONDecodeError):
            await caller.post(body())
    assert outcomes_of(server) == [(200, True, 0)]


@asynccontextmanager
async def given_up(fault: Fault) -> AsyncIterator[ContractServer]:
    """A server whose first POST has this fault, after its client has gone: as soon as the server had seen the POST."""
    arrived = anyio.Event()

    def first(seen: RequestSeen) -> Fault | None:
        arrived.set()
        return fault if seen.number == 1 else None

    async with ContractServer(VIDEOS, answer=always, faults=first) as server, calling(server) as caller:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(caller.post, body())
            await arrived.wait()
            tasks.cancel_scope.cancel()
        yield server


async def test_hang_lasts_until_the_server_stops_and_holds_nobody_else_up() -> None:
    async with given_up(Hang()) as server, calling(server) as caller:
        assert (await caller.post(body()))[0] == 200
    assert outcomes_of(server)[0] == (0, False, 0)


async def test_delay_executes_at_once_and_answers_late() -> None:
    async with given_up(Delay(3600)) as server:
        assert outcomes_of(server) == [(200, True, 3)]


async def test_delay_changes_nothing_in_the_answer() -> None:
    async with failing("post", Delay(0.001)) as (server, caller):
        status, page, _ = await caller.post(body())
        assert (status, sorted(ids(page))) == (200, sorted(body()["video_ids"]))
    assert server.violations == []


async def test_expire_token_on_a_page_refuses_it_and_the_rest_of_the_walk() -> None:
    async with failing("page", ExpireToken()) as (server, caller):
        _, first, _ = await caller.post(body(page_limit=1))
        token = first["page_info"]["next_page_token"]
        assert [(await caller.page(token))[0] for _ in range(2)] == [400, 400]
    assert server.violations == []


async def test_expire_token_on_a_post_kills_the_next_page() -> None:
    async with failing("post", ExpireToken()) as (_, caller):
        status, first, _ = await caller.post(body(page_limit=1))
        assert status == 200
        assert (await caller.page(first["page_info"]["next_page_token"]))[0] == 400


async def test_missing_videos_are_counted_but_not_delivered() -> None:
    async with failing("post", MissingVideos(2)) as (server, caller):
        _, page, _ = await caller.post(body())
        assert (len(page["data"]), page["page_info"]["total_results"]) == (1, 3)
        await caller.post(body(list(set(body()["video_ids"]) - set(ids(page)))))
    assert server.reposts == 0


async def test_repeat_token_leads_to_the_same_page_again() -> None:
    async with failing("page", RepeatToken()) as (_, caller):
        _, first, _ = await caller.post(body(page_limit=1))
        token = first["page_info"]["next_page_token"]
        _, second, _ = await caller.page(token)
    assert second["page_info"]["next_page_token"] == token


async def test_alien_video_was_not_asked_for() -> None:
    async with failing("post", AlienVideo()) as (_, caller):
        _, page, _ = await caller.post(body())
    assert sorted(ids(page)) == sorted([*body()["video_ids"], ALIEN_ID])
    assert page["page_info"]["total_results"] == 3


async def test_duplicate_video_repeats_the_first_one_of_the_walk() -> None:
    async with failing("page", DuplicateVideo()) as (_, caller):
        _, first, _ = await caller.post(body(page_limit=2))
        _, second, _ = await caller.page(first["page_info"]["next_page_token"])
    assert ids(second)[-1] == ids(first)[0]
    assert len(second["data"]) == 2


async def test_wrong_shape_makes_a_score_a_string_and_still_counts_as_delivered() -> None:
    async with failing("post", WrongShape(1)) as (server, caller):
        _, page, _ = await caller.post(body())
        assert [entry["classes"][0]["score"] for entry in page["data"]] == ["60", 60, 60]
        await caller.post(body(ids(page)[:1]))
    assert server.reposts == 1


@pytest.mark.parametrize("kind", ["post", "page"])
@pytest.mark.parametrize(
    "fault", [Status(500), Reset(), Reset(True, True), Cut(), NotJson(), MissingVideos()], ids=repr
)
async def test_after_any_fault_the_next_request_is_answered(kind: str, fault: Fault) -> None:
    async with failing(kind, fault) as (_, caller):
        token = "none"
        if kind == "page":
            _, first, _ = await caller.post(body(page_limit=1))
            token = first["page_info"]["next_page_token"]
        with suppress(aiohttp.ClientError, ValueError):
            await (caller.post(body()) if kind == "post" else caller.page(token))
        status, _, _ = await (caller.post(body()) if kind == "post" else caller.page(token))
    assert status == 200


# ------------------------------------------------------------------------------------------------ log and own process


async def test_the_log_has_a_line_for_each_request_when_it_is_answered() -> None:
    log = io.StringIO()
    async with (
        ContractServer(VIDEOS, answer=always, clock=Clock(), log=log) as server,
        calling(server) as caller,
    ):
        _, page, _ = await caller.post(body())
        line = json.loads(log.getvalue())
    assert line == {
        "kind": "post",
        "number": 1,
        "arrived": 1_700_000_000.0,
        "video_ids": ["video02", "video01", "video00"],
        "class_names": ["DanceTok"],
        "status": 200,
        "executed": True,
        "shown": ids(page),
    }


def arguments(folder: Path, lifetime: float) -> list[str]:
    (folder / "videos.json").write_text(json.dumps(VIDEOS))
    files = [f"--{name}={folder / name}" for name in ("port-file", "log")]
    videos, seconds = f"--videos={folder / 'videos.json'}", f"--lifetime={lifetime}"
    return [sys.executable, "-m", "tests.servers.contract", videos, seconds, *files]


def test_as_a_process_it_names_its_port_answers_and_logs(tmp_path: Path) -> None:
    with subprocess.Popen(arguments(tmp_path, 60), cwd=ROOT) as process:
        try:
            # The file is all that tells another process; its lifetime bounds the wait.
            while not (tmp_path / "port-file").exists():
                assert process.poll() is None
                time.sleep(0.01)
            url = f"http://127.0.0.1:{(tmp_path / 'port-file').read_text()}/v1.2/classify"
            headers = {**HEADERS, "Content-Type": "application/json"}
            request = urllib.request.Request(url, json.dumps(body()).encode(), headers)
            with urllib.request.urlopen(request) as response:
                assert response.status == 200
            assert json.loads((tmp_path / "log").read_text())["video_ids"] == body()["video_ids"]
        finally:
            process.kill()


def test_as_a_process_it_stops_by_itself_when_its_lifetime_is_over(tmp_path: Path) -> None:
    assert subprocess.run(arguments(tmp_path, 0.1), cwd=ROOT, timeout=120, check=False).returncode == 0


def test_as_a_process_it_stops_when_its_parent_has_died(tmp_path: Path) -> None:
    """The pipe to the server's inherited output reaches its end only when the server too is gone."""
    parent = (
        "import pathlib, subprocess, sys, time\n"
        "subprocess.Popen(sys.argv[2:])\n"
        "while not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.01)\n"
    )
    command = [sys.executable, "-c", parent, str(tmp_path / "port-file"), *arguments(tmp_path, 300)]
    assert subprocess.run(command, cwd=ROOT, timeout=120, capture_output=True, check=False).returncode == 0
