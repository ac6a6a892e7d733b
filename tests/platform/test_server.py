"""The platform as a client sees it: real HTTP on loopback, a real index."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import logging
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest

from pipeline.errors import UsageError
from pipeline.platform.asked import MAX_BODY_BYTES
from pipeline.platform.server import Settings, serving
from pipeline.platform.store import Store
from pipeline.platform.videos import OPTIONS
from tests.platform.made_up import CURVE, SPACE, AxisEmbedder, track, video

INDEX_ID = "64428d88456b2dab381e7000"
GUIDE = json.loads((Path(__file__).parent.parent / "examples" / "guide.json").read_text())["examples"]
DEFAULTS = Settings()
ALPHA = {"name": "A", "prompts": ["alpha"]}
EVERYTHING = {"min_video_score": 1, "min_clip_score": 1, "min_duration_ratio": 0.01}


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]  # of any case
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, str, str]:
        return self.status, self.json["code"], self.json["message"]


@dataclass(frozen=True)
class Caller:
    url: str
    session: aiohttp.ClientSession

    async def call(self, method: str, path: str, **options: Any) -> Answer:
        headers = {"x-api-key": "any", **options.pop("headers", {})}
        async with self.session.request(method, self.url + path, headers=headers, **options) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    async def classify(self, **body: Any) -> Answer:
        path = "/classify/bulk" if "index_id" in body else "/classify"
        return await self.call("POST", path, json={"options": ["visual"], "classes": [ALPHA], **body})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "index.sqlite", INDEX_ID, "Test", clock=lambda: 1_700_000_000) as opened:
        for option in OPTIONS:
            opened.calibrate({option: CURVE})
        yield opened


def fill(store: Store, count: int = 5) -> list[str]:
    """Videos v0, v1, … that score 90, 89, … in half of their 100 seconds."""
    videos = [video(f"v{at}", 100, track("visual", (0, 50, [90 - at]))) for at in range(count)]
    store.add_videos(videos, SPACE)
    return [one.video_id for one in videos]


@asynccontextmanager
async def calling(store: Store, settings: Settings = DEFAULTS, clock: Clock | None = None) -> AsyncIterator[Caller]:
    async with (
        serving(store, settings, clock=clock or Clock(), embedder=AxisEmbedder()) as url,
        aiohttp.ClientSession() as session,
    ):
        yield Caller(url, session)


@pytest.fixture
async def caller(store: Store) -> AsyncIterator[Caller]:
    async with calling(store) as one:
        yield one


# ---------------------------------------------------------------------------------------------------------- classify


async def test_an_answer_is_the_contracts(store: Store, caller: Caller) -> None:
    store.add_videos([video("v", 100, track("visual", (0, 60.5, [90]), (70, 80, [40])))], SPACE)
    answer = await caller.classify(
        video_ids=["v"],
        include_clips=True,
        show_detailed_score=True,
        threshold={"min_video_score": 10, "min_clip_score": 35, "min_duration_ratio": 0.1},
    )
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Score-Source"] == f"local/{SPACE}/a20-m0.25"
    assert answer.json == {
        "data": [
            {
                "video_id": "v",
                "classes": [
                    {
                        "name": "A",
                        "score": 90.0,
                        "duration_ratio": 0.71,
                        "clips": [
                            {"start": 0.0, "end": 60.5, "score": 90.0, "option": "visual", "prompt": "alpha"},
                            {"start": 70.0, "end": 80.0, "score": 40.0, "option": "visual", "prompt": "alpha"},
                        ],
                        "detailed_scores": {"max_score": 90.0, "avg_score": 65.0, "normalized_score": 100.0},
                    }
                ],
            }
        ],
        "page_info": {
            "limit_per_page": 1,
            "total_results": 1,
            "page_expired_at": "2023-11-14T22:23:20Z",
            "next_page_token": "",
            "prev_page_token": "",
        },
    }


@pytest.mark.parametrize("example", GUIDE, ids=lambda example: example["title"].split(" (")[0])
@pytest.mark.parametrize("version", ["v1.1", "v1.2"])
async def test_the_guides_requests_work_as_they_are_written(
    store: Store, caller: Caller, example: dict[str, Any], version: str
) -> None:
    ids = ["6444c376456b2dab381e702d", "64428d88456b2dab381e7022"]
    store.add_videos([video(video_id, 100, track("visual", (0, 100, [90]))) for video_id in ids], SPACE)
    url = caller.url.removesuffix("v1.2") + version
    answer = await Caller(url, caller.session).call("POST", "/classify", json=example["request"])
    assert (answer.status, answer.json["page_info"]["total_results"]) == (200, 0)  # no prompt of the guide has an axis


async def test_videos_below_the_thresholds_are_absent_and_the_others_best_first(store: Store, caller: Caller) -> None:
    ids = fill(store)
    store.add_videos([video("tie", 100, track("visual", (0, 50, [89])))], SPACE)
    answer = await caller.classify(video_ids=[*ids, "tie"], threshold={"min_video_score": 88})
    found = [(one["video_id"], one["classes"][0]["score"]) for one in answer.json["data"]]
    assert found == [("v0", 90.0), ("tie", 89.0), ("v1", 89.0), ("v2", 88.0)]
    assert answer.json["page_info"]["total_results"] == 4


async def test_a_video_named_twice_counts_once(store: Store, caller: Caller) -> None:
    store.add_videos([video("long", 30_000, track("visual", (0, 30_000, [90])))], SPACE)
    answer = await caller.classify(video_ids=["long", "long"])
    assert answer.json["page_info"]["total_results"] == 1


async def test_pages_tile_the_answers(store: Store, caller: Caller) -> None:
    ids = fill(store)
    answer = await caller.classify(video_ids=ids, page_limit=2)
    seen = []
    while True:
        info = answer.json["page_info"]
        seen.append([one["video_id"] for one in answer.json["data"]])
        assert (info["limit_per_page"], info["total_results"]) == (2, 5)
        assert answer.headers["X-Score-Source"] == f"local/{SPACE}/a20-m0.25"
        if not info["next_page_token"]:
            break
        answer = await caller.call("GET", f"/classify/{info['next_page_token']}")
    assert seen == [["v0", "v1"], ["v2", "v3"], ["v4"]]
    before = await caller.call("GET", f"/classify/{info['prev_page_token']}")
    assert [one["video_id"] for one in before.json["data"]] == ["v2", "v3"]


async def test_a_page_token_expires(store: Store) -> None:
    clock = Clock()
    async with calling(store, Settings(page_ttl_seconds=30), clock) as caller:
        token = (await caller.classify(video_ids=fill(store), page_limit=2)).json["page_info"]["next_page_token"]
        clock.now += 30
        answer = await caller.call("GET", f"/classify/{token}")
    message = "The page token is expired or invalid: it expired; post the request again."
    assert answer.error == (400, "parameter_invalid", message)


@pytest.mark.parametrize("token", ["x", "bulk-1", "%2e%2e%2fclassify", "%00", "%ED%A0%80", "x" * 5000])
async def test_a_token_that_was_never_given_is_refused(caller: Caller, token: str) -> None:
    answer = await caller.call("GET", f"/classify/{token}")
    assert answer.error[:2] == (400, "parameter_invalid")
    assert "expired or invalid" in answer.error[2]


async def test_a_whole_index_may_be_longer_than_one_post_may_name(store: Store, caller: Caller) -> None:
    store.add_videos([video(f"v{at}", 20_000, track("visual", (0, 20_000, [90 - at]))) for at in range(5)], SPACE)
    answer = await caller.classify(index_id=INDEX_ID)
    assert [one["video_id"] for one in answer.json["data"]] == ["v0", "v1", "v2", "v3", "v4"]


async def test_an_empty_index_answers_with_nothing_and_fills_while_it_is_served(store: Store, caller: Caller) -> None:
    assert (await caller.classify(index_id=INDEX_ID)).json["data"] == []
    fill(store)
    assert (await caller.classify(index_id=INDEX_ID)).json["page_info"]["total_results"] == 5


async def test_prompts_are_embedded_once(store: Store) -> None:
    embedder = AxisEmbedder()
    ids = fill(store)
    async with serving(store, Settings(), embedder=embedder) as url, aiohttp.ClientSession() as session:
        caller = Caller(url, session)
        await caller.classify(video_ids=ids, classes=[ALPHA, {"name": "B", "prompts": ["beta", "alpha"]}])
        await caller.classify(video_ids=ids, classes=[{"name": "C", "prompts": ["beta", "gamma"]}])
    assert embedder.asked == ["alpha", "beta", "gamma"]


async def test_requests_that_come_together_are_all_answered(store: Store, caller: Caller) -> None:
    ids = fill(store)
    statuses: list[int] = []

    async def ask() -> None:
        statuses.append((await caller.classify(video_ids=ids)).status)

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(ask)
    assert statuses == [200] * 20


# ---------------------------------------------------------------------------------------------------------- refusals


async def test_more_than_ten_hours_are_refused_in_the_platforms_words(store: Store, caller: Caller) -> None:
    store.add_videos([video("a", 36_000), video("b", 1_599.2)], SPACE)
    assert (await caller.classify(video_ids=["a"])).status == 200
    assert (await caller.classify(video_ids=["a", "b"])).error == (
        400,
        "parameter_invalid",
        "The total duration(seconds) 37600 of videos exceeds the limit.",
    )


async def test_unknown_videos_are_named(store: Store, caller: Caller) -> None:
    fill(store)
    answer = await caller.classify(video_ids=["v0", "x1", "x2", "x1", "x3", "x4", "x5"])
    assert answer.error == (404, "resource_not_exist", "These videos do not exist: x1, x2, x3 and 2 more.")


async def test_an_unknown_index_is_refused(caller: Caller) -> None:
    answer = await caller.classify(index_id="nope")
    assert answer.error == (404, "resource_not_exist", "The index nope does not exist.")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"video_ids": None}, "parameter_not_provided"),
        ({"classes": None}, "parameter_invalid"),
        ({"classes": []}, "parameter_invalid"),
        ({"classes": [{"name": "A", "prompts": []}]}, "parameter_invalid"),
        ({"classes": [{"name": "A", "prompts": ["p"] * 101}]}, "parameter_invalid"),
        (
            {"classes": [{"name": "A", "prompts": ["p"] * 51}, {"name": "B", "prompts": ["p"] * 50}]},
            "parameter_invalid",
        ),
        ({"options": []}, "parameter_invalid"),
        ({"options": ["smell"]}, "parameter_invalid"),
        ({"page_limit": 0}, "parameter_invalid"),
        ({"page_limit": 51}, "parameter_invalid"),
        ({"threshold": {"min_video_score": 0}}, "parameter_invalid"),
        ({"threshold": {"min_duration_ratio": 1.01}}, "parameter_invalid"),
        ({"conversation_option": "fuzzy"}, "parameter_invalid"),
        ({"surprise": 1}, "parameter_unknown"),
    ],
)
async def test_a_request_against_the_contract_gets_the_contracts_code(
    store: Store, caller: Caller, change: dict[str, Any], code: str
) -> None:
    fill(store)
    answer = await caller.call(
        "POST", "/classify", json={"options": ["visual"], "classes": [ALPHA], "video_ids": ["v0"], **change}
    )
    assert answer.error[:2] == (400, code)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff",
        b'{"options":',
        b"[" * 100_000,
        b'"\\ud800"',
        b"1e999",
        b'{"video_ids":["\\ud800"]}',
    ],
)
async def test_no_body_breaks_the_platform(caller: Caller, body: bytes) -> None:
    answer = await caller.call("POST", "/classify", data=body)
    assert answer.error[0] == 400


async def test_strange_prompts_and_names_are_just_text(store: Store, caller: Caller) -> None:
    fill(store)
    strange = ["\0", " ", "'; DROP TABLE video; --", "🕺" * 1000, "\u202e", "%s%n"]
    answer = await caller.classify(
        video_ids=["v0"], classes=[{"name": text, "prompts": strange} for text in strange], threshold=EVERYTHING
    )
    assert (answer.status, answer.json["data"]) == (200, [])


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_compressed_body_is_read(store: Store, caller: Caller, encoding: str) -> None:
    fill(store)
    plain = json.dumps({"options": ["visual"], "classes": [ALPHA], "video_ids": ["v0"]}).encode()
    packed = gzip.compress(plain, mtime=0) if encoding == "gzip" else zlib.compress(plain)
    answer = await caller.call("POST", "/classify", data=packed, headers={"Content-Encoding": encoding})
    assert (answer.status, answer.json["page_info"]["total_results"]) == (200, 1)


async def test_a_body_over_a_mebibyte_is_refused_before_and_after_decompression(caller: Caller) -> None:
    plain = b" " * (MAX_BODY_BYTES + 1)
    whole = await caller.call("POST", "/classify", data=io.BytesIO(plain))
    oversize = gzip.compress(plain, mtime=0)
    packed = await caller.call("POST", "/classify", data=oversize, headers={"Content-Encoding": "gzip"})
    bomb = gzip.compress(bytes(200 * 2**20), 9)
    burst = await caller.call("POST", "/classify", data=bomb, headers={"Content-Encoding": "gzip"})
    told = (413, "request_too_large", "The request body is larger than 1,048,576 bytes.")
    assert {whole.error, packed.error, burst.error} == {told}
    fits = await caller.call("POST", "/classify", data=io.BytesIO(plain[1:]))
    assert fits.error == (400, "parameter_invalid", "The request body is not valid JSON.")


@pytest.mark.parametrize(
    ("body", "encoding", "error"),
    [
        (b"{}", "gzip", (400, "parameter_invalid", "The request body is not gzip.")),
        (gzip.compress(b"{}", mtime=0)[:-9], "gzip", (400, "parameter_invalid", "The request body is cut short.")),
        (b"{}", "br", (415, "encoding_not_supported", "Unsupported Media Type.")),
    ],
)
async def test_a_body_that_cannot_be_decompressed_is_refused_quietly(
    caller: Caller, caplog: pytest.LogCaptureFixture, body: bytes, encoding: str, error: tuple[int, str, str]
) -> None:
    answer = await caller.call("POST", "/classify", data=body, headers={"Content-Encoding": encoding})
    assert answer.error == error
    assert not [record for record in caplog.records if record.levelno >= logging.INFO]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nope", 404),
        ("GET", "/../v1.3/indexes", 404),
        ("POST", "/../v1.3/classify", 404),
        ("GET", "/classify", 405),
        ("DELETE", "/classify", 405),
        ("GET", "/classify/bulk", 405),
        ("POST", "/indexes", 405),
        ("OPTIONS", "/classify", 405),
    ],
)
async def test_paths_and_methods_that_are_not_there_are_refused_as_json(
    caller: Caller, method: str, path: str, status: int
) -> None:
    answer = await caller.call(method, path)
    code = {404: "resource_not_exist", 405: "method_not_allowed"}[status]
    assert answer.error[:2] == (status, code)
    assert ("Allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize(
    "sent",
    [
        b"this is not HTTP\r\n\r\n",
        b"GET /v1.2/indexes HTTP/1.1\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /v1.2/classify HTTP/1.1\r\nHost: localhost\r\nx-api-key: k\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1.2/classify HTTP/1.1\r\nHost: localhost\r\nx-api-key: k\r\nContent-Length: 99\r\n\r\n{",
        b"POST /v1.2/classify HTTP/1.1\r\nHost: localhost\r\nx-api-key: k\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_what_is_not_whole_http_leaves_no_trace_and_harms_no_one(
    caller: Caller, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    port = int(caller.url.split(":")[2].removesuffix("/v1.2"))
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(sent)
        await stream.send_eof()
        with anyio.fail_after(120), contextlib.suppress(anyio.EndOfStream):
            while await stream.receive():
                pass
    assert (await caller.call("GET", "/indexes")).status == 200
    assert not [record for record in caplog.records if record.levelno >= logging.INFO]


async def test_an_unexpected_error_is_a_500_and_a_line_in_the_log(
    store: Store, caller: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    fill(store)
    store.close()
    answer = await caller.classify(video_ids=["v0"])
    assert answer.error == (500, "internal_server_error", "The platform failed; its log says why.")
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == [
        "POST /v1.2/classify failed"
    ]


# -------------------------------------------------------------------------------------------------------------- guard


async def test_only_the_expected_key_passes(store: Store) -> None:
    async with calling(store, Settings(key="secret")) as caller:
        assert (await caller.call("GET", "/indexes", headers={"x-api-key": "secret"})).status == 200
        for key in ["Secret", "secre", "secret2", "sécret", ""]:
            answer = await caller.call("GET", "/indexes", headers={"x-api-key": key})
            assert answer.error[:2] == (401, "api_key_invalid")


async def test_without_an_expected_key_any_but_the_empty_one_passes(caller: Caller) -> None:
    assert (await caller.call("GET", "/indexes")).status == 200
    assert (await caller.call("GET", "/indexes", headers={"x-api-key": ""})).status == 401


def test_settings_do_not_show_the_key() -> None:
    assert "secret" not in repr(Settings(key="secret"))


@pytest.mark.parametrize("header", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Origin": "null"}])
async def test_requests_of_foreign_pages_are_refused(caller: Caller, header: dict[str, str]) -> None:
    answer = await caller.call("GET", "/indexes", headers=header)
    assert answer.error[:2] == (403, "unauthorized")


async def test_an_open_address_needs_a_key(store: Store) -> None:
    with pytest.raises(UsageError, match=r"0\.0\.0\.0 can be reached from other machines"):
        async with serving(store, Settings(), host="0.0.0.0"):
            pass


async def test_with_a_key_every_address_may_be_served(store: Store) -> None:
    async with serving(store, Settings(key="secret"), host="0.0.0.0") as url, aiohttp.ClientSession() as session:
        here = Caller(url.replace("0.0.0.0", "127.0.0.1"), session)
        headers = {"x-api-key": "secret", "Host": "platform.lan"}
        assert (await here.call("GET", "/indexes", headers=headers)).status == 200


async def test_a_port_in_use_is_told(store: Store) -> None:
    async with serving(store, Settings()) as url:
        port = int(url.split(":")[2].removesuffix("/v1.2"))
        with pytest.raises(UsageError, match=f"cannot listen on 127.0.0.1 port {port}"):
            async with serving(store, Settings(), port=port):
                pass


async def test_an_unknown_tariff_and_a_wrong_embedder_are_told_before_serving(store: Store) -> None:
    with pytest.raises(
        UsageError, match=r"there is no tariff 'v2': it is one of none, v1\.1, v1\.2-free, v1\.2-developer"
    ):
        async with serving(store, Settings(tariff="v2")):
            pass
    fill(store)
    with pytest.raises(UsageError, match="holds vectors of 'axes-1', which 'other' cannot ask"):
        async with serving(store, Settings(), embedder=AxisEmbedder("other")):
            pass
    with pytest.raises(UsageError, match="no embedder for the space 'axes-1'"):
        async with serving(store, Settings()):
            pass


# ------------------------------------------------------------------------------------------------------------- tariff


async def test_version_1_1_answers_429_with_an_empty_body_to_posts_and_pages(store: Store) -> None:
    clock = Clock()
    async with calling(store, Settings(tariff="v1.1"), clock) as caller:
        token = (await caller.classify(video_ids=fill(store), page_limit=1)).json["page_info"]["next_page_token"]
        early = await caller.call("GET", f"/classify/{token}")
        clock.now += 1
        page = await caller.call("GET", f"/classify/{token}")
        post = await caller.classify(video_ids=["v0"])
    assert [(early.status, early.body), page.status, (post.status, post.body)] == [(429, b""), 200, (429, b"")]


async def test_version_1_2_tells_the_counts_on_every_answer_to_a_post(store: Store) -> None:
    async with calling(store, Settings(tariff="v1.2-free")) as caller:
        ids = fill(store)
        answers = [await caller.classify(video_ids=ids, page_limit=1), await caller.classify(video_ids=["unknown"])]
        token = answers[0].json["page_info"]["next_page_token"]
        pages = [await caller.call("GET", f"/classify/{token}") for _ in range(30)]
        strangers = [await caller.call("POST", "/classify", headers={"x-api-key": ""}) for _ in range(30)]
        answers += [await caller.classify(index_id=INDEX_ID) for _ in range(19)]
    assert [answer.status for answer in answers] == [200, 404, *[200] * 18, 429]
    assert {page.status for page in pages} == {200}
    assert {answer.status for answer in strangers} == {401}
    assert [int(answer.headers["X-Ratelimit-Used"]) for answer in answers] == [*range(1, 21), 20]
    assert [int(answer.headers["X-Ratelimit-Remaining"]) for answer in answers] == [*range(19, -1, -1), 0]
    assert {answer.headers["X-Ratelimit-Limit"] for answer in answers} == {"20"}
    assert {answer.headers["X-Ratelimit-Reset"] for answer in answers} == {str(1_700_000_000 + 86_400)}
    assert answers[-1].body == b""


# ------------------------------------------------------------------------------------------------------------- indexes


async def test_the_index_is_listed_and_shown(store: Store, caller: Caller) -> None:
    fill(store)
    shown = {
        "_id": INDEX_ID,
        "index_name": "Test",
        "engines": [{"engine_name": "local", "engine_options": ["visual"]}],
        "video_count": 5,
        "total_duration": 500.0,
        "created_at": "2023-11-14T22:13:20Z",
        "updated_at": "2023-11-14T22:13:20Z",
    }
    assert (await caller.call("GET", f"/indexes/{INDEX_ID}")).json == shown
    info = {"limit_per_page": 10, "page": 1, "total_page": 1, "total_results": 1}
    assert (await caller.call("GET", "/indexes")).json == {"data": [shown], "page_info": info}
    assert (await caller.call("GET", "/indexes?page=2")).json["data"] == []


async def test_videos_are_listed_by_pages(store: Store, caller: Caller) -> None:
    fill(store, 12)
    listed = await caller.call("GET", f"/indexes/{INDEX_ID}/videos?sort_by=duration&sort_option=asc&page=2")
    assert [one["_id"] for one in listed.json["data"]] == ["v10", "v11"]
    assert listed.json["page_info"] == {"limit_per_page": 10, "page": 2, "total_page": 2, "total_results": 12}
    one = (await caller.call("GET", f"/indexes/{INDEX_ID}/videos?page_limit=1")).json["data"][0]
    assert (await caller.call("GET", f"/indexes/{INDEX_ID}/videos/{one['_id']}")).json == one
    assert one["metadata"]["filename"] == f"{one['_id']}.mp4"
    assert one["metadata"]["duration"] == 100.0


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("page_limit=0", "parameter_invalid"),
        ("page_limit=51", "parameter_invalid"),
        ("page_limit=ten", "parameter_invalid"),
        ("page=0", "parameter_invalid"),
        ("page=-1", "parameter_invalid"),
        ("page=%D9%A1", "parameter_invalid"),
        ("page=" + "9" * 5000, "parameter_invalid"),
        ("sort_by=; DROP TABLE video", "parameter_invalid"),
        ("sort_option=up", "parameter_invalid"),
        ("filename[gte]=x", "parameter_unknown"),
        ("size=1", "parameter_unknown"),
        ("created_at=2024-01-01", "parameter_invalid"),
        ("updated_at[lte]=0000-01-01T00:00:00Z", "parameter_invalid"),
        ("%ED%A0%80=x", "parameter_unknown"),
    ],
)
async def test_listing_parameters_are_checked(caller: Caller, query: str, code: str) -> None:
    for path in ["/indexes", f"/indexes/{INDEX_ID}/videos"]:
        assert (await caller.call("GET", f"{path}?{query}")).error[:2] == (400, code)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("_id=v3", ["v3"]),
        ("_id=v3&filename=v4.mp4", []),
        ("filename=v4.mp4", ["v4"]),
        ("filename=%ED%A0%80", []),
        ("duration=12.5", ["v2"]),
        ("duration[gte]=12.5&duration[lte]=13", ["v2", "v3"]),
        ("duration[lte]=1.05e1&page_limit=1", ["v0"]),
        ("created_at=2023-11-14T22:13:22Z", ["v1"]),
        ("created_at=2023-11-14T22:13:22.999Z", ["v1"]),
        ("created_at[gte]=2023-11-14T22:13:24Z", ["v3", "v4"]),
        ("updated_at[lte]=2023-11-14T22:13:22Z", ["v0", "v1"]),
        ("updated_at[lte]=2023-02-30T00:00:00Z", []),
    ],
)
async def test_videos_are_listed_by_what_they_are(tmp_path: Path, query: str, found: list[str]) -> None:
    """Moments count to the second, as they are shown."""
    clock = Clock()
    with Store.create(tmp_path / "listed.index", INDEX_ID, "Test", clock=clock) as store:
        for number, seconds in enumerate([10, 11.25, 12.5, 13, 14]):
            clock.now += 1.2
            store.add_videos([video(f"v{number}", seconds)], SPACE)
        async with calling(store) as caller:
            listed = (await caller.call("GET", f"/indexes/{INDEX_ID}/videos?{query}&sort_option=asc")).json
    assert [one["_id"] for one in listed["data"]] == found
    assert listed["page_info"]["total_results"] == len(found)


@pytest.mark.parametrize("query", ["duration=long", "duration=1_0", "duration[gte]=nan", "duration[lte]=-1"])
async def test_a_filter_by_what_is_no_duration_is_refused(caller: Caller, query: str) -> None:
    assert (await caller.call("GET", f"/indexes/{INDEX_ID}/videos?{query}")).error[:2] == (400, "parameter_invalid")
    assert (await caller.call("GET", f"/indexes?{query}")).error[:2] == (400, "parameter_unknown")


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("index_name=Test", 1),
        ("index_name=test", 0),
        (f"_id={INDEX_ID}&created_at[lte]=2023-11-14T22:13:20Z", 1),
        ("created_at[gte]=2023-11-14T22:13:21Z", 0),
    ],
)
async def test_an_index_is_listed_by_what_it_is(caller: Caller, query: str, count: int) -> None:
    listed = (await caller.call("GET", f"/indexes?{query}")).json
    assert (len(listed["data"]), listed["page_info"]["total_results"]) == (count, count)


@pytest.mark.parametrize(
    "path", ["/indexes/nope", "/indexes/nope/videos", "/indexes/nope/videos/v0", f"/indexes/{INDEX_ID}/videos/nope"]
)
async def test_what_is_not_there_is_a_404(store: Store, caller: Caller, path: str) -> None:
    fill(store)
    answer = await caller.call("GET", path)
    assert answer.error[:2] == (404, "resource_not_exist")
    assert "nope does not exist" in answer.error[2]
