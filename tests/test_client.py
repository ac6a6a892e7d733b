"""What the client makes of an answer, by table: which error for which status and words, and what it never passes on."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
from multidict import CIMultiDict

from pipeline.client import Client
from pipeline.errors import (
    AnswerCut,
    AnswerUnusable,
    Bisect,
    EndpointGone,
    GatewayFailed,
    KeyRefused,
    Overloaded,
    PipelineError,
    PlatformDown,
    RateLimited,
    Repack,
    RequestFailed,
    RequestRefused,
    RestartWalk,
)
from pipeline.models import JobClass
from pipeline.quota import Quota
from pipeline.transport import Response, Transport
from pipeline.wire import ClassifyRequest
from pipeline.wire_lists import ListedVideo, VideoListPage
from tests.runs import KEY

REQUEST = ClassifyRequest((JobClass("DanceTok", ("Dance group",)),), ("visual",), ("video1",))
EMPTY_PAGE = b'{"data": [], "page_info": {"total_results": 0}}'
NOW = 1_700_000_000.0


class Told(Transport):
    """A transport that answers what it was told, in order, and keeps what was asked."""

    def __init__(self, *answers: Response) -> None:
        self.asked: list[str] = []
        self._answers = iter(answers)

    async def exchange(self, method: str, path: str, *_: object, **__: object) -> Response:
        self.asked.append(f"{method} {path}")
        return next(self._answers)


def answer(status: int = 200, body: bytes | object = EMPTY_PAGE, /, **headers: str) -> Response:
    named = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    return Response(status, named, body if isinstance(body, bytes) else json.dumps(body).encode())


def client_of(*answers: Response) -> Client:
    return Client(Told(*answers), score_source="twelvelabs/v1.2", secret=KEY, clock=lambda: NOW)


def said(code: str, message: str = "No.") -> Mapping[str, str]:
    return {"code": code, "message": message}


async def error_of(response: Response, *, of_token: bool = False) -> PipelineError:
    client = client_of(response)
    with pytest.raises(PipelineError) as caught:
        await (client.page("token") if of_token else client.classify(REQUEST))
    return caught.value


TOO_LONG = said("parameter_invalid", "The total duration(seconds) 37600 of videos exceeds the limit.")
UPGRADE = said("api_upgrade_required", "This endpoint is no longer available.")
ALIKE: list[tuple[int, bytes | object, type[PipelineError]]] = [
    # What a POST and a page have in common: status, body, reaction.
    (401, said("api_key_invalid"), KeyRefused),
    (401, b"", KeyRefused),
    (403, said("unauthorized"), KeyRefused),
    (408, b"", Overloaded),
    (413, b"<html>", Repack),
    (425, b"", Overloaded),
    (429, b"", RateLimited),
    (429, said("too_many_requests"), RateLimited),
    (500, said("internal_server_error"), Overloaded),
    (501, b"", Overloaded),
    (502, b"<html>", GatewayFailed),
    (503, b"", Overloaded),
    (504, b"", GatewayFailed),
    (520, b"", Overloaded),
    (301, b"", PlatformDown),
    (304, b"", PlatformDown),
    (200, b"", AnswerCut),
    (200, b"<html>", AnswerCut),
    (200, EMPTY_PAGE[:-1], AnswerCut),
    (204, b"", AnswerCut),
    (200, b"[]", AnswerUnusable),
    (200, b"{}", AnswerUnusable),
    (200, b'{"data": {}}', AnswerUnusable),
]
OF_POSTS: list[tuple[int, bytes | object, type[PipelineError]]] = [
    (400, TOO_LONG, Repack),
    (400, said("parameter_invalid", "One of the videos is not ready."), Bisect),
    (400, said("parameter_invalid", "video_ids is invalid."), Bisect),
    (400, said("resource_not_exist"), Bisect),
    (404, said("resource_not_exist"), Bisect),
    (400, said("parameter_invalid", "The threshold is not."), RequestRefused),
    (400, said("parameter_invalid", "min_video_score is not between 1 and 100."), RequestRefused),
    (400, b"", RequestRefused),
    (400, b"<html>", RequestRefused),
    (405, b"", RequestRefused),
    (422, b"", RequestRefused),
    (400, UPGRADE, EndpointGone),
    (404, b"404 page not found", EndpointGone),
    (404, said("not_found"), EndpointGone),
    (410, b"", EndpointGone),
]
OF_PAGES: list[tuple[int, bytes | object, type[PipelineError]]] = [
    (400, said("parameter_invalid", "The page token is expired or invalid."), RestartWalk),
    (404, said("resource_not_exist"), RestartWalk),
    (404, b"", RestartWalk),
    (410, b"", EndpointGone),
    (422, b"", RestartWalk),
]


@pytest.mark.parametrize(("status", "body", "expected"), ALIKE + OF_POSTS)
async def test_the_answer_to_a_post_names_its_reaction(
    status: int, body: bytes | object, expected: type[PipelineError]
) -> None:
    assert type(await error_of(answer(status, body))) is expected


@pytest.mark.parametrize(("status", "body", "expected"), ALIKE + OF_PAGES)
async def test_the_answer_to_a_page_names_its_reaction(
    status: int, body: bytes | object, expected: type[PipelineError]
) -> None:
    assert type(await error_of(answer(status, body), of_token=True)) is expected


@pytest.mark.parametrize("of_token", [False, True])
async def test_every_status_has_a_reaction_and_tells_itself(of_token: bool) -> None:
    for status in range(300, 600):
        error = await error_of(answer(status, said("strange", "Strange.")), of_token=of_token)
        assert f"HTTP {status} (strange: Strange.)" in str(error)
        if isinstance(error, RequestFailed):
            assert error.http_status == status


async def test_a_refusal_keeps_the_platforms_code_and_what_it_orders() -> None:
    error = await error_of(answer(503, said("busy"), Retry_After="7"))
    assert isinstance(error, Overloaded)
    assert (error.code, error.http_status, error.retry_after_seconds) == ("busy", 503, 7.0)


async def test_without_a_code_of_the_platforms_ours_stands() -> None:
    error = await error_of(answer(429))
    assert isinstance(error, RateLimited)
    assert (error.code, error.retry_after_seconds, str(error)) == ("too_many_requests", None, "HTTP 429")


async def test_the_end_of_the_endpoint_says_what_takes_its_place() -> None:
    assert "local platform" in str(await error_of(answer(410)))


# ------------------------------------------------------------------------------------------- what is not passed on


async def test_a_key_that_the_platform_repeats_is_struck_out() -> None:
    for status in (400, 401, 404, 500):
        error = await error_of(answer(status, said("bad", f"Key {KEY} is wrong; {KEY}!")))
        assert KEY not in str(error)
        assert "Key [key] is wrong; [key]!" in str(error)


async def test_a_key_in_the_platforms_code_is_struck_out_too() -> None:
    error = await error_of(answer(500, said(f"bad {KEY}")))
    assert isinstance(error, Overloaded)
    assert KEY not in error.code


async def test_control_characters_of_a_message_become_blanks() -> None:
    error = await error_of(answer(400, said("bad", "a\x1b[2Jb\r\nc\u202ed\x00")))
    assert "(bad: a [2Jb  c d )" in str(error)


async def test_control_characters_of_a_code_do_not_reach_the_failures() -> None:
    error = await error_of(answer(500, said("ba\x1b[2Jd\n")))
    assert isinstance(error, Overloaded)
    assert error.code.isprintable()


async def test_a_message_is_cut_after_500_characters_and_a_code_is_bounded() -> None:
    error = await error_of(answer(400, said("c" * 10_000, "m" * 10_000)))
    assert isinstance(error, RequestRefused)
    assert len(str(error)) < 600
    assert len(error.code) <= 500


@pytest.mark.parametrize("body", [b'{"code": 7}', b'{"message": ["a"]}', b"[" * 100_000, b"\xff\xfe", b"null"])
async def test_an_error_body_of_any_shape_is_survived(body: bytes) -> None:
    assert str(await error_of(answer(400, body))) == "HTTP 400"


# ------------------------------------------------------------------------------------------------------------ pages


@pytest.mark.parametrize(
    ("token", "path"),
    [
        ("plain-token_1~.", "plain-token_1~."),
        ("a/b", "a%2Fb"),
        ("../x", "..%2Fx"),
        ("/..", "%2F.."),
        ("...", "..."),
        ("%2e%2e", "%252e%252e"),
        ("%2F", "%252F"),
        ("a?b#c&d=e", "a%3Fb%23c%26d%3De"),
        ("a b", "a%20b"),
        ("http://evil.example/", "http%3A%2F%2Fevil.example%2F"),
        ("\\..\\", "%5C..%5C"),
        ("é", "%C3%A9"),
        ("x" * 4096, "x" * 4096),
    ],
)
async def test_a_page_token_is_one_segment_of_the_path_whatever_is_in_it(token: str, path: str) -> None:
    told = Told(answer())
    await Client(told, score_source="", secret=KEY, clock=lambda: NOW).page(token)
    assert told.asked == [f"GET /classify/{path}"]


@pytest.mark.parametrize("token", [".", "..", "x" * 4097, "a\nb", "a\r\nHost: x", "\x00", "\x7f", "\u202e", "\ud800"])
async def test_a_token_that_cannot_be_part_of_a_url_is_never_sent(token: str) -> None:
    told = Told()
    with pytest.raises(AnswerUnusable) as caught:
        await Client(told, score_source="", secret=KEY, clock=lambda: NOW).page(token)
    assert (caught.value.code, told.asked) == ("unusable_token", [])


async def test_a_page_says_whose_scores_it_has() -> None:
    client = client_of(answer(X_Score_Source="local/space/1"), answer(), answer(X_Score_Source=""))
    sources = [(await client.classify(REQUEST)).score_source for _ in range(3)]
    assert sources == ["local/space/1", "twelvelabs/v1.2", "twelvelabs/v1.2"]


async def test_an_answer_has_its_page_its_bytes_and_the_quota() -> None:
    body = b'{"data": [], "page_info": {"total_results": 0, "next_page_token": "t", "new": 1}}'
    headers = {"X_Ratelimit_Limit": "20", "X_Ratelimit_Remaining": "7", "X_Ratelimit_Reset": "1700000300"}
    got = await client_of(answer(200, body, **headers)).classify(REQUEST)
    assert (got.body, got.quota, got.page.next_token) == (body, Quota(20, 7, 1_700_000_300.0), "t")
    assert (await client_of(answer()).page("t")).quota is None


async def test_an_index_is_posted_to_the_bulk_endpoint() -> None:
    told = Told(answer())
    request = ClassifyRequest(REQUEST.classes, REQUEST.options, index_id="index1")
    await Client(told, score_source="", secret=KEY, clock=lambda: NOW).classify(request)
    assert told.asked == ["POST /classify/bulk"]


# ------------------------------------------------------------------------------------------------- listing an index


LISTED = {
    "data": [{"_id": "a", "metadata": {"duration": 60.5, "new": 1}}, {"_id": "b"}],
    "page_info": {"page": 2, "total_page": 3},
}


async def test_a_page_of_an_index_has_its_videos_and_the_number_of_pages() -> None:
    told = Told(answer(200, LISTED))
    listed = await Client(told, score_source="", secret=KEY, clock=lambda: NOW).index_videos("index1", 2)
    assert listed == VideoListPage((ListedVideo("a", 60.5), ListedVideo("b")), 3)
    assert told.asked == ["GET /indexes/index1/videos?page=2&page_limit=50"]


async def test_an_index_id_is_one_segment_of_the_path() -> None:
    told = Told(answer(200, LISTED))
    await Client(told, score_source="", secret=KEY, clock=lambda: NOW).index_videos("a/../b?c", 1)
    assert told.asked == ["GET /indexes/a%2F..%2Fb%3Fc/videos?page=1&page_limit=50"]


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (answer(302), PlatformDown),
        (answer(401), KeyRefused),
        (answer(404, said("resource_not_exist")), Bisect),
        (answer(429), RateLimited),
        (answer(503), Overloaded),
        (answer(200, b"<html>"), AnswerCut),
        (answer(200, b"{}"), AnswerUnusable),
    ],
)
async def test_a_listing_that_fails_names_its_reaction(response: Response, expected: type[PipelineError]) -> None:
    with pytest.raises(PipelineError) as caught:
        await client_of(response).index_videos("index1", 1)
    assert type(caught.value) is expected
