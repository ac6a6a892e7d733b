"""Prompts embedded by a server: what is asked, which answers are believed, and what becomes of all others.

The server runs in the event loop of the test, so an embedder that blocked the loop would wait for it for ever.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UsageError
from pipeline.platform.access import EmbedderAccess
from pipeline.platform.embed import DEFAULT_SPACE
from pipeline.platform.embedders import embedder_for
from pipeline.platform.remote_embed import EmbedderFailed, RemoteEmbedder, openai_api, vendor_api
from pipeline.platform.spaces import vendor_space
from pipeline.platform.videos import Vectors
from pipeline.transport import Response
from tests.runs import KEY, free_port
from tests.servers.embeddings import DIMENSIONS, Asked, EmbeddingServer, embedding_server, refused, vector_of

SPACE = "clip-8"
MODEL = "a/clip"


@pytest.fixture
async def server() -> AsyncIterator[EmbeddingServer]:
    async with embedding_server(EmbeddingServer()) as one:
        yield one


def of_openai(server: EmbeddingServer, key: str | None = None) -> RemoteEmbedder:
    return RemoteEmbedder(openai_api(server.url, MODEL, key), SPACE, DIMENSIONS, SPACE)


def of_vendor(server: EmbeddingServer) -> RemoteEmbedder:
    return RemoteEmbedder(vendor_api(server.url, "marengo3.0", KEY), SPACE, DIMENSIONS, SPACE)


async def failure(embedder: RemoteEmbedder, *texts: str) -> EmbedderFailed:
    with pytest.raises(EmbedderFailed) as failed:
        await embedder.embed(texts or ("a",))
    return failed.value


def expected(*texts: str) -> Vectors:
    vectors = np.array([vector_of(text) for text in texts])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


# -------------------------------------------------------------------------------------------------------- what is asked


async def test_vectors_come_normalised_and_in_the_order_of_the_texts(server: EmbeddingServer) -> None:
    found = await of_openai(server).embed(["one", "two", "wörter 舞"])
    assert found.dtype == np.float32
    assert np.allclose(found, expected("one", "two", "wörter 舞"), atol=1e-7)
    assert server.asked == [Asked("/embeddings", ["one", "two", "wörter 舞"], MODEL, None)]


async def test_many_texts_go_sixteen_at_once(server: EmbeddingServer) -> None:
    texts = [f"text {number}" for number in range(40)]
    assert np.allclose(await of_openai(server, KEY).embed(texts), expected(*texts), atol=1e-7)
    assert [len(one.texts) for one in server.asked] == [16, 16, 8]
    assert {one.key for one in server.asked} == {KEY}


async def test_the_vendor_is_asked_text_by_text_with_its_own_key_header(server: EmbeddingServer) -> None:
    assert np.allclose(await of_vendor(server).embed(["one", "two"]), expected("one", "two"), atol=1e-7)
    assert server.asked == [Asked("/embed-v2", [text], "marengo3.0", KEY) for text in ("one", "two")]


async def test_nothing_is_asked_for_no_text(server: EmbeddingServer) -> None:
    assert (await of_openai(server).embed([])).shape == (0, DIMENSIONS)
    assert server.asked == []


# --------------------------------------------------------------------------------------------- answers that are no good


@pytest.mark.parametrize(
    ("vector", "length"), [([1e300] * DIMENSIONS, 1), ([5e-324] * DIMENSIONS, 1), ([0.0] * DIMENSIONS, 0)]
)
async def test_numbers_of_any_size_have_a_direction_and_zeros_none(
    server: EmbeddingServer, vector: list[float], length: float
) -> None:
    server.vector_of = lambda _: vector
    (found,) = await of_openai(server).embed(["one"])
    assert np.linalg.norm(found) == pytest.approx(length, abs=1e-6)


def answer(*vectors: list[Any], indexes: list[int] | None = None) -> str:
    listed = zip(indexes or range(len(vectors)), vectors, strict=True)
    return json.dumps({"data": [{"index": index, "embedding": vector} for index, vector in listed]})


GOOD = [0.5] * DIMENSIONS


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("", "sent no embeddings"),
        ("<html>", "sent no embeddings"),
        ("[" * 100_000, "sent no embeddings"),
        ('{"data": null}', "sent no embeddings: Expected `array`"),
        (answer(["1"] * DIMENSIONS), "sent no embeddings: Expected `float`, got `str`"),
        (answer(GOOD).replace("0.5", "NaN", 1), "sent no embeddings"),
        (answer(GOOD).replace("0.5", "1e999", 1), "sent no embeddings: Number out of range"),
        (answer(GOOD), "sent 1 embedding for 2 texts"),
        (answer(GOOD, GOOD, GOOD), "sent 3 embeddings for 2 texts"),
        (answer(GOOD, GOOD, indexes=[0, 0]), "their indexes are not 0, 1, 2"),
        (answer(GOOD, GOOD, indexes=[1, 2]), "their indexes are not 0, 1, 2"),
        (answer(GOOD, [*GOOD, 0.5]), "sent vectors of 9 dimensions, and those of the space 'clip-8' have 8"),
        (answer([], []), "sent vectors of 0 dimensions"),
    ],
)
async def test_an_answer_of_a_wrong_shape_is_not_believed(server: EmbeddingServer, body: str, reason: str) -> None:
    server.instead = lambda _: web.Response(text=body)
    failed = await failure(of_openai(server), "a", "b")
    assert (failed.http_status, failed.exit_code) == (502, 69)
    assert str(failed).startswith(f"the embedder at {server.url} ")
    assert reason in str(failed)
    assert "\n" not in str(failed)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["data", "index", "x"]), inner),
    max_leaves=12,
)
entries = st.lists(st.fixed_dictionaries({"index": st.integers(0, 3), "embedding": st.lists(st.floats(), max_size=9)}))
bodies = st.binary(max_size=200) | st.builds(
    lambda told: json.dumps(told).encode(), values | st.builds(lambda listed: {"data": listed}, entries | values)
)


@given(bodies, st.integers(1, 3), st.sampled_from([200, 204, 302, 400, 401, 404, 429, 500, 599]))
def test_any_answer_is_vectors_or_an_error_of_ours(body: bytes, count: int, status: int) -> None:
    for api in (openai_api("http://localhost/v1", MODEL, None), vendor_api("http://localhost/v1", MODEL, KEY)):
        embedder = RemoteEmbedder(api, SPACE, DIMENSIONS, SPACE)
        try:
            found = embedder._normalised(embedder._read(Response(status, {}, body), count))
        except EmbedderFailed as failed:
            told = failed
        else:
            assert found.shape == (count, DIMENSIONS)
            assert np.isfinite(found).all()
            continue
        assert told.http_status in {400, 429, 502, 503}
        assert str(told).isprintable()


async def test_an_answer_without_an_end_is_cut_off(server: EmbeddingServer) -> None:
    server.instead = lambda _: web.Response(body=b" " * (16 * 2**20 + 1))
    failed = await failure(of_openai(server))
    assert (failed.http_status, "sent more than 16777216 bytes" in str(failed)) == (502, True)


@pytest.mark.parametrize(
    ("status", "told", "as_status", "reason"),
    [
        (400, {"error": {"message": "input too long"}}, 400, "refuses these prompts: HTTP 400 (input too long)"),
        (422, None, 400, "refuses these prompts: HTTP 422"),
        (401, {"error": "no"}, 502, "refuses requests without a key: HTTP 401 (no)"),
        (403, {"message": "no", "code": "unauthorized"}, 502, "refuses requests without a key: HTTP 403 (no)"),
        (404, {"error": {"message": "model not found"}}, 502, "HTTP 404 (model not found); check its URL and the name"),
        (308, None, 502, "redirects, and redirects are not followed: HTTP 308"),
        (429, {"error": {"message": "slow\u001b[31m down"}}, 429, "cannot answer now: HTTP 429 (slow [31m down)"),
        (500, ["x"], 503, "cannot answer now: HTTP 500"),
        (503, {"error": {"message": {"deep": 1}}}, 503, "cannot answer now: HTTP 503"),
    ],
)
async def test_a_refusal_says_whose_fault_it_is_and_whether_it_may_pass(
    server: EmbeddingServer, status: int, told: Any, as_status: int, reason: str
) -> None:
    server.instead = refused(status, told, Location="http://127.0.0.1:1/")
    failed = await failure(of_openai(server))
    assert (failed.http_status, reason in str(failed)) == (as_status, True), str(failed)
    assert len(server.asked) == 1


@pytest.mark.parametrize(("header", "seconds"), [("7", 7), ("999999", 3600), ("soon", None), ("-1", None)])
async def test_a_pause_that_is_asked_for_is_passed_on(
    server: EmbeddingServer, header: str, seconds: int | None
) -> None:
    server.instead = refused(429, None, **{"Retry-After": header})
    assert (await failure(of_openai(server))).retry_after_seconds == seconds


async def test_a_server_that_is_not_there_may_come_back(server: EmbeddingServer) -> None:
    server.url = f"http://127.0.0.1:{free_port()}/v1"
    failed = await failure(of_openai(server))
    assert (failed.http_status, "did not answer: cannot connect to" in str(failed)) == (503, True)


async def test_a_key_that_the_server_repeats_is_struck_out(server: EmbeddingServer) -> None:
    server.key = "another"
    failed = await failure(of_openai(server, KEY))
    assert "refuses its key: HTTP 401 (Incorrect API key provided: [key].)" in str(failed)
    assert KEY not in repr(openai_api(server.url, MODEL, KEY)) + repr(vendor_api(server.url, MODEL, KEY))


# ------------------------------------------------------------------------------------------------ which one it is to be


def test_spaces_of_the_vendor_have_regular_names() -> None:
    assert vendor_space("marengo3.0", 512) == "marengo3.0-512"
    assert vendor_space(" Marengo Retrieval/2.7 ", 1024) == "marengo-retrieval-2.7-1024"


def test_the_default_space_needs_no_server_whatever_is_said_of_one() -> None:
    access = EmbedderAccess("http://localhost/v1", "m")
    assert embedder_for(DEFAULT_SPACE, 256, access).space == DEFAULT_SPACE


def test_a_named_model_of_a_server_serves_any_other_space_and_its_vectors_are_cached_by_its_name() -> None:
    embedder = embedder_for("marengo2.7-1024", 1024, EmbedderAccess("http://localhost/v1", "m"))
    assert (embedder.space, embedder.cache_name) == ("marengo2.7-1024", "marengo2.7-1024 m")


@pytest.mark.parametrize("access", [EmbedderAccess(key="k"), EmbedderAccess(vendor_key="k")])
def test_the_vendors_space_is_asked_of_the_vendor(access: EmbedderAccess) -> None:
    embedder = embedder_for("marengo3.0-512", 512, access)
    assert isinstance(embedder, RemoteEmbedder)
    assert (embedder._api.url, embedder.cache_name) == ("https://api.twelvelabs.io/v1.3", "marengo3.0-512")


@pytest.mark.parametrize(
    ("space", "access", "reason"),
    [
        ("marengo3.0-512", EmbedderAccess(), r"needs your API key there: set TWELVELABS_API_KEY"),
        ("marengo2.7-1024", EmbedderAccess(vendor_key="k"), r"embeds prompts only for 'marengo3\.0-512'.*new index"),
        ("clip-8", EmbedderAccess(vendor_key="k"), r"no embedder for the space 'clip-8': .*--embedder-model"),
        ("clip-8", EmbedderAccess(url="http://localhost"), r"no embedder for the space 'clip-8'"),
        ("clip-8", EmbedderAccess(model="m"), r"embedder\.url is missing"),
    ],
)
def test_what_is_missing_is_said(space: str, access: EmbedderAccess, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        embedder_for(space, 8, access)


def test_no_key_shows_in_what_is_known_of_a_server() -> None:
    assert KEY not in repr(EmbedderAccess(key=KEY, vendor_key=KEY))
