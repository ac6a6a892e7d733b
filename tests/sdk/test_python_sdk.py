"""The vendor's Python SDK, unchanged, against the local platform: it is only told another host."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import pytest
from twelvelabs import TwelveLabs, exceptions

from tests.sdk.shelf import ANSWER, INDEX_ID, KEY, NUMBERED, QUESTION, Servers, standing, without_thumbnails

DELTA: dict[str, Any] = {
    "options": ["visual"],
    "classes": [{"name": "D", "prompts": ["delta"]}],
    "threshold": {"min_video_score": 1},
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with standing(tmp_path_factory.mktemp("shelf")) as both:
        yield both


Connect = Callable[..., TwelveLabs]


@pytest.fixture
def connect(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connect]:
    """Clients made as the SDK's own guide makes them; they cannot close their connections themselves."""
    opened = []

    def connected(url: str = servers.sound, key: str = KEY) -> TwelveLabs:
        monkeypatch.setenv("TWELVELABS_BASE_URL", url)
        opened.append(TwelveLabs(api_key=key))
        return opened[-1]

    yield connected
    for client in opened:
        client._client.close()


def test_it_is_the_release_that_speaks_classify() -> None:
    assert version("twelvelabs") == "0.3.2"


def test_indexes_are_listed_and_shown(connect: Connect) -> None:
    client = connect()
    (listed,) = client.index.list()
    shown = client.index.retrieve(INDEX_ID)
    assert (listed.id, listed.name, listed.video_count, listed.total_duration) == (INDEX_ID, "Shelf", 14, 1350.0)
    assert listed.engines[0].options == ["conversation", "text_in_video", "visual"]
    assert shown.model_dump() == listed.retrieve().model_dump() == listed.model_dump()
    pages = client.index.list_pagination(page_limit=1)
    assert ([one.id for one in pages.data], list(pages)) == ([INDEX_ID], [])


def test_videos_are_listed_page_by_page_and_shown(connect: Connect) -> None:
    (index,) = connect().index.list()
    pages = index.list_video_pagination(page_limit=5, sort_by="duration", sort_option="asc")
    found = [[one.id for one in pages.data], *[[one.id for one in page] for page in pages]]
    assert found == [["goal", "loaf", *NUMBERED[:3]], NUMBERED[3:8], NUMBERED[8:]]
    listed = index.list_video(page_limit=50, sort_by="filename")
    assert [one.id for one in listed] == [*reversed(NUMBERED), "loaf", "goal"]
    shown = connect().index.video.retrieve(INDEX_ID, "goal")
    assert shown.model_dump() == listed[-1].model_dump()
    assert (shown.metadata.filename, shown.metadata.duration) == ("goal.mp4", 50.0)


def test_lists_are_filtered(connect: Connect) -> None:
    client = connect()
    then = "2023-11-14T22:13:20Z"
    assert [one.id for one in client.index.list(id=INDEX_ID, name="Shelf", created_at=then)] == [INDEX_ID]
    assert [*client.index.list(name="Floor")] == []
    listed = client.index.video.list(INDEX_ID, duration={"gte": 50, "lte": 90}, updated_at={"lte": then})
    assert sorted(one.id for one in listed) == ["goal"]
    (by_name,) = client.index.video.list(INDEX_ID, filename="loaf.mp4")
    (by_id,) = client.index.video.list(INDEX_ID, id="loaf")
    assert by_name.model_dump() == by_id.model_dump()


def test_videos_are_classified_with_every_option(servers: Servers, connect: Connect) -> None:
    page = connect().classify.videos(["goal", "loaf"], **QUESTION)
    assert without_thumbnails(page.model_dump()["data"], servers.sound) == ANSWER
    assert (page.page_info.limit_per_page, page.page_info.total_results) == (1, 1)
    assert list(page) == []


def test_an_index_is_classified_with_every_option(servers: Servers, connect: Connect) -> None:
    page = connect().classify.index(INDEX_ID, **QUESTION)
    assert without_thumbnails(page.model_dump()["data"], servers.sound) == ANSWER


def test_what_is_not_asked_for_is_not_there(connect: Connect) -> None:
    page = connect().classify.videos(["loaf"], ["visual"], [{"name": "Baking", "prompts": ["alpha"]}])
    (one,) = page.data[0].classes
    assert (one.score, one.duration_ratio, one.clips, one.detailed_scores) == (90.0, 0.7, None, None)


def test_iteration_goes_through_all_pages(connect: Connect) -> None:
    client = connect()
    for page in [
        client.classify.index(INDEX_ID, page_limit=5, **DELTA),
        client.classify.videos(NUMBERED, page_limit=5, **DELTA),
    ]:
        token = page.page_info.next_page_token
        found = [[one.video_id for one in page.data], *[[one.video_id for one in more] for more in page]]
        assert found == [NUMBERED[:5], NUMBERED[5:10], NUMBERED[10:]]
        again = client.classify.by_page_token(token)
        assert [one.video_id for one in again.data] == NUMBERED[5:10]


def test_every_refusal_is_the_sdks_error_with_the_contracts_code(connect: Connect) -> None:
    client = connect()
    attempts: list[tuple[Callable[[], object], type[exceptions.APIStatusError], str]] = [
        (
            lambda: client.classify.index(INDEX_ID, page_limit=51, **DELTA),
            exceptions.BadRequestError,
            "parameter_invalid",
        ),
        (lambda: client.index.list(engine_family="marengo"), exceptions.BadRequestError, "parameter_unknown"),
        (lambda: client.classify.by_page_token("none"), exceptions.BadRequestError, "parameter_invalid"),
        (connect(key="wrong").index.list, exceptions.AuthenticationError, "api_key_invalid"),
        (
            lambda: client.index.list(headers={"Origin": "https://evil.example"}),
            exceptions.PermissionDeniedError,
            "unauthorized",
        ),
        (lambda: client.classify.videos(["nope"], **DELTA), exceptions.NotFoundError, "resource_not_exist"),
        (lambda: client.classify.index("nope", **DELTA), exceptions.NotFoundError, "resource_not_exist"),
        (lambda: client.index.retrieve("nope"), exceptions.NotFoundError, "resource_not_exist"),
        (lambda: client.index.video.retrieve(INDEX_ID, "nope"), exceptions.NotFoundError, "resource_not_exist"),
        (lambda: client.index.delete(INDEX_ID), exceptions.APIStatusError, "method_not_allowed"),
    ]
    for attempt, error, code in attempts:
        with pytest.raises(exceptions.APIStatusError) as refused:
            attempt()
        assert (type(refused.value), refused.value.body["code"]) == (error, code)


def test_every_failure_is_the_sdks_error(servers: Servers, connect: Connect) -> None:
    client = connect(servers.troubled)
    with pytest.raises(exceptions.InternalServerError) as failed:
        client.classify.videos(["v08"], **DELTA)
    assert (failed.value.status_code, failed.value.body["code"]) == (500, "planned_fault")
    with pytest.raises(exceptions.InternalServerError) as failed:
        client.classify.videos(["v09"], **DELTA)
    assert (failed.value.status_code, failed.value.body) == (503, "")
    with pytest.raises(exceptions.APITimeoutError):
        client.classify.videos(["v10"], timeout=0.2, **DELTA)
    with pytest.raises(exceptions.APIConnectionError):
        client.classify.videos(["v11"], **DELTA)
    assert client.classify.videos(["loaf"], **DELTA).data.root == []
    with pytest.raises(exceptions.RateLimitError) as refused:
        client.classify.videos(["loaf"], **DELTA)
    assert (refused.value.status_code, refused.value.body) == (429, "")
