"""A run over an index of the user's own: what is said before it starts, and prompts that another server embeds.

Real commands, real index files; the server that embeds runs in the event loop of the test.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import numpy as np
import pytest
from aiohttp import web

from pipeline.errors import InputError
from pipeline.order import Order
from pipeline.platform.access import EmbedderAccess
from pipeline.platform.indexes import index_info
from pipeline.platform.server import Settings, serving
from pipeline.platform.store import Store
from pipeline.platform.videos import Calibration, IndexedVideo, Track
from pipeline.rehearsal import rehearsed
from pipeline.run import run
from tests.runs import KEY, Desk
from tests.servers.embeddings import EmbeddingServer, embedding_server, refused, vector_of

CLASSES = ({"name": "Baking", "prompts": ["baking bread", "a cake"]}, {"name": "Goals", "prompts": ["a goal"]})
PROMPTS = ["baking bread", "a cake", "a goal"]
VIDEOS = {f"video{number}": 60.0 for number in range(6)}
WARNING = (
    "the vectors of this index (clip-8) are not calibrated for visual, so its scores mean little: "
    "run `bulk-classify index calibrate` on it first"
)


@pytest.fixture
async def server() -> AsyncIterator[EmbeddingServer]:
    async with embedding_server(EmbeddingServer()) as one:
        yield one


def make_index(path: Path, video_ids: Sequence[str] = tuple(VIDEOS), space: str = "clip-8") -> Path:
    """Videos of a minute, each with a clip that is very like one of the prompts."""
    with Store.create(path, "64428d88456b2dab381e7000", "mine") as store:
        videos = []
        for number, video_id in enumerate(video_ids):
            vectors = np.array([vector_of(PROMPTS[number % len(PROMPTS)])], dtype=np.float32)
            vectors /= np.linalg.norm(vectors)
            track = Track("visual", np.array([0.0]), np.array([60.0]), vectors)
            videos.append(IndexedVideo(video_id, f"{video_id}.mp4", 60, (track,)))
        store.add_videos(videos, space)
    return path


def prepare(desk: Desk, server: EmbeddingServer, **settings: object) -> None:
    """An index that is calibrated, the ids of its videos, and a configuration that asks it."""
    index = make_index(desk.folder / "my.index")
    with Store.open(index) as store:
        store.calibrate({"visual": Calibration(20, 0.5)})
    desk.write_ids(dict(VIDEOS))
    desk.write_config("embedded", CLASSES, **asking(server) | settings)


def asking(server: EmbeddingServer) -> dict[str, object]:
    return {"api.index": "my.index", "embedder.url": server.url, "embedder.model": "clip"}


def order(desk: Desk, server: EmbeddingServer) -> Order:
    return desk.order(embedder=EmbedderAccess(server.url, "clip"))


# --------------------------------------------------------------------------------------------- another embedder's space


async def test_prompts_are_embedded_by_the_configured_server_and_only_once(desk: Desk, server: EmbeddingServer) -> None:
    server.key = KEY
    prepare(desk, server, **{"embedder.key_env": "MY_KEY"})
    first = await desk.command("run", desk.config, MY_KEY=KEY)
    assert first.exit_code == 0, first.stderr
    assert (server.texts, {one.model for one in server.asked}) == (PROMPTS, {"clip"})
    again = await run(replace(order(desk, server), folder=desk.folder / "again"))
    assert (again.exit_code, server.texts) == (0, PROMPTS)
    best = {row["video_id"]: row["class_name"] for row in desk.rows("scores.ndjson") if row["score"] > 99}
    assert best == {video_id: "Goals" if number % 3 == 2 else "Baking" for number, video_id in enumerate(VIDEOS)}
    assert desk.files_with(KEY) == []


async def test_the_vendors_key_is_not_sent_to_another_server(desk: Desk, server: EmbeddingServer) -> None:
    """``TWELVELABS_API_KEY`` is set in the environment of every command here."""
    prepare(desk, server)
    assert (await desk.command("run", desk.config)).exit_code == 0
    assert {one.key for one in server.asked} == {None}


async def test_the_vendors_space_is_asked_of_the_vendor_with_its_key(desk: Desk, server: EmbeddingServer) -> None:
    desk.write_ids(dict(VIDEOS))
    make_index(desk.folder / "vendor.index", space="marengo3.0-512")
    desk.write_config("embedded", CLASSES, **{"api.index": "vendor.index", "embedder.url": server.url})
    assert (await desk.command("run", desk.config)).exit_code == 0
    assert [(one.path, one.texts, one.key) for one in server.asked] == [("/embed-v2", [text], KEY) for text in PROMPTS]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"embedder.model": None}, "error: no embedder for the space 'clip-8'"),
        ({"embedder.key_env": "NOT_SET"}, "error: embedder.key_env: NOT_SET is not set in the environment"),
        ({"embedder.key_file": "run.toml"}, "run.toml: others can read the API key: chmod 600"),
        ({"embedder.url": "http://example.com"}, "embedder.url: https only, except to localhost"),
        ({"embedder.url": "https://user:secret@example.com"}, "embedder.url: expected a base URL such as"),
    ],
)
async def test_an_embedder_that_cannot_be_asked_is_one_line_and_code_2(
    desk: Desk, server: EmbeddingServer, settings: dict[str, object], line: str
) -> None:
    prepare(desk, server, **settings)
    if None in settings.values():
        kept = [one for one in desk.config.read_text().splitlines() if "embedder.model" not in one]
        desk.config.write_text("\n".join(kept))
    desk.config.chmod(0o644)
    finished = await desk.command("run", desk.config)
    assert (finished.exit_code, len(finished.stderr.splitlines())) == (2, 1)
    assert line in finished.stderr
    assert "secret" not in finished.stderr
    assert server.asked == []


async def test_a_refused_key_of_the_embedder_ends_a_run_in_one_line(desk: Desk, server: EmbeddingServer) -> None:
    server.key = "another"
    prepare(desk, server)
    finished = await desk.command("run", desk.config)
    assert (finished.exit_code, len(server.asked)) == (69, 3)
    errors = [line for line in finished.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert f"the embedder at {server.url} refuses requests without a key: HTTP 401" in errors[0]


# ----------------------------------------------------------------------------------- what a client of ``serve`` is told


async def classified(url: str, *prompts: str) -> tuple[int, dict[str, str], Any]:
    body = {"video_ids": ["video0"], "options": ["visual"], "classes": [{"name": "A", "prompts": list(prompts)}]}
    async with (
        aiohttp.ClientSession(headers={"x-api-key": "any"}) as session,
        session.post(f"{url}/classify", json=body) as answer,
    ):
        return answer.status, dict(answer.headers), await answer.json() if await answer.read() else None


async def test_a_failure_of_the_embedder_is_an_error_of_the_contract(tmp_path: Path, server: EmbeddingServer) -> None:
    with Store.open(make_index(tmp_path / "my.index")) as store:
        settings = Settings(embedder=EmbedderAccess(server.url, "clip"))
        async with serving(store, settings) as url:
            server.instead = refused(429, {"error": {"message": "slow down"}}, **{"Retry-After": "9"})
            status, headers, told = await classified(url, "a")
            assert (status, headers["Retry-After"], told) == (429, "9", None)
            server.instead = refused(503, {"error": {"message": "full"}}, **{"Retry-After": "9"})
            status, headers, told = await classified(url, "a")
            assert (status, headers["Retry-After"], told["code"]) == (503, "9", "embedder_failed")
            assert told["message"] == f"the embedder at {server.url} cannot answer now: HTTP 503 (full)"
            server.instead = refused(400, {"error": {"message": "too long"}})
            status, _, told = await classified(url, "a")
            assert (status, told["code"]) == (400, "parameter_invalid")
            server.instead = refused(404)
            assert (await classified(url, "a"))[0] == 502
            server.instead = lambda _: None
            assert (await classified(url, "a"))[0] == 200


async def test_a_server_that_takes_its_time_holds_up_nobody_else(tmp_path: Path, server: EmbeddingServer) -> None:
    """More requests wait for it than there are worker threads."""
    server.hold = anyio.Event()
    statuses: list[int] = []

    async def ask(url: str, prompt: str) -> None:
        statuses.append((await classified(url, prompt))[0])

    with Store.open(make_index(tmp_path / "my.index")) as store:
        async with (
            serving(store, Settings(embedder=EmbedderAccess(server.url, "clip"))) as url,
            aiohttp.ClientSession(headers={"x-api-key": "any"}) as session,
            anyio.create_task_group() as asking,
        ):
            for number in range(5):
                asking.start_soon(ask, url, f"prompt {number}")
            for _ in range(5):
                await server.arrivals.acquire()
            async with session.get(f"{url}/indexes") as answer:
                assert (answer.status, statuses) == (200, [])
            server.hold.set()
    assert statuses == [200] * 5


async def test_a_prompt_that_two_requests_want_at_once_is_embedded_once(
    tmp_path: Path, server: EmbeddingServer
) -> None:
    server.hold = anyio.Event()
    statuses: list[int] = []

    async def ask(url: str, *prompts: str) -> None:
        statuses.append((await classified(url, *prompts))[0])

    with Store.open(make_index(tmp_path / "my.index")) as store:
        async with (
            serving(store, Settings(embedder=EmbedderAccess(server.url, "clip"))) as url,
            anyio.create_task_group() as asking,
        ):
            for prompts in (["a", "b"], ["b", "c"]):
                asking.start_soon(ask, url, *prompts)
                await server.arrivals.acquire()
            asking.start_soon(ask, url, "c", "a", "b")
            server.hold.set()
    assert statuses == [200] * 3
    assert sorted(server.texts) == ["a", "b", "c"]


async def test_who_waits_for_a_prompt_that_another_request_fails_at_asks_itself(
    tmp_path: Path, server: EmbeddingServer
) -> None:
    server.hold = anyio.Event()
    server.instead = lambda number: web.Response(status=500) if number == 1 else None
    statuses: list[int] = []

    async def ask(url: str) -> None:
        statuses.append((await classified(url, "a"))[0])

    with Store.open(make_index(tmp_path / "my.index")) as store:
        async with (
            serving(store, Settings(embedder=EmbedderAccess(server.url, "clip"))) as url,
            anyio.create_task_group() as asking,
        ):
            asking.start_soon(ask, url)
            await server.arrivals.acquire()
            asking.start_soon(ask, url)
            server.hold.set()
    assert sorted(statuses) == [200, 503]


async def test_an_index_that_is_filled_anew_gets_the_embedder_of_its_new_vectors(
    tmp_path: Path, server: EmbeddingServer
) -> None:
    make_index(tmp_path / "other.index", space=f"marengo3.0-{len(vector_of(''))}")
    with Store.open(make_index(tmp_path / "my.index")) as store, Store.open(tmp_path / "other.index") as other:
        access = EmbedderAccess(server.url, "clip", vendor_key="key")
        async with serving(store, Settings(embedder=access)) as url:
            assert (await classified(url, "a"))[0] == 200
            store.remove(VIDEOS)
            assert (await classified(url, "a"))[0] == 404
            store.add_videos(other.load(list(VIDEOS), ["visual"]), str(other.space))
            assert (await classified(url, "a"))[0] == 200
    assert [one.texts for one in server.asked] == [["a"], ["a"]]


async def test_nobody_is_asked_for_the_prompts_of_a_request_that_is_refused(
    tmp_path: Path, server: EmbeddingServer
) -> None:
    with Store.open(make_index(tmp_path / "my.index", ["another"])) as store:
        async with serving(store, Settings(embedder=EmbedderAccess(server.url, "clip"))) as url:
            assert (await classified(url, "a"))[0] == 404
    assert server.asked == []


async def test_what_was_embedded_before_a_failure_is_not_asked_for_again(
    tmp_path: Path, server: EmbeddingServer
) -> None:
    prompts = [f"prompt {number}" for number in range(20)]
    with Store.open(make_index(tmp_path / "my.index")) as store:
        async with serving(store, Settings(embedder=EmbedderAccess(server.url, "clip"))) as url:
            server.instead = lambda number: web.Response(status=500) if number == 2 else None
            assert (await classified(url, *prompts))[0] == 503
            assert (await classified(url, *prompts))[0] == 200
            assert (await classified(url, *prompts[::-1]))[0] == 200
    assert [len(one.texts) for one in server.asked] == [16, 4, 4]


async def test_another_name_of_the_model_does_not_find_the_vectors_of_the_first(
    tmp_path: Path, server: EmbeddingServer
) -> None:
    with Store.open(make_index(tmp_path / "my.index")) as store:
        for model in ("wrong", "right"):
            async with serving(store, Settings(embedder=EmbedderAccess(server.url, model))) as url:
                assert (await classified(url, "a"))[0] == 200
    assert [(one.model, one.texts) for one in server.asked] == [("wrong", ["a"]), ("right", ["a"])]


async def test_an_index_that_is_filled_meanwhile_with_what_nobody_can_ask_says_so(tmp_path: Path) -> None:
    with Store.create(tmp_path / "my.index", "index", "mine") as store:
        async with serving(store, Settings()) as url:
            vectors = np.eye(1, 4, dtype=np.float32)
            track = Track("visual", np.array([0.0]), np.array([60.0]), vectors)
            store.add_videos([IndexedVideo("video0", "v.mp4", 60, (track,))], "marengo2.7-1024")
            status, _, told = await classified(url, "a")
    assert (status, told["code"]) == (502, "embedder_failed")
    assert "embeds prompts only for 'marengo3.0-512'" in told["message"]


# ------------------------------------------------------------------------------------------------------ ids, beforehand


async def test_a_run_of_none_of_the_ids_stops_before_it_starts_and_keeps_none_of_them(
    desk: Desk, server: EmbeddingServer
) -> None:
    prepare(desk, server)
    desk.write_ids({f"stranger{number}": 60.0 for number in range(1200)})
    line = f"0 of 1,200 ids are in this index ({desk.folder / 'my.index'}): check input.ids and api.index"
    finished = await desk.command("run", desk.config)
    assert (finished.exit_code, finished.stderr) == (2, f"error: {line}\n")
    with pytest.raises(InputError) as refused_plan:
        await rehearsed(order(desk, server))
    assert (refused_plan.value.exit_code, str(refused_plan.value)) == (2, line)
    desk.write_ids(dict(VIDEOS))
    assert (await run(order(desk, server))).exit_code == 0
    assert {row["video_id"] for row in desk.rows("videos.ndjson")} == set(VIDEOS)


async def test_a_run_of_some_ids_that_the_index_lacks_says_how_many_and_goes_on(
    desk: Desk, server: EmbeddingServer
) -> None:
    prepare(desk, server)
    desk.write_ids({**VIDEOS, "stranger1": 60.0, "stranger2": None})
    told = "6 of 8 ids are in this index; the other 2 fail"
    assert told in (await rehearsed(order(desk, server))).warnings
    finished = await desk.command("run", desk.config)
    assert (finished.exit_code, f"warning: {told}" in finished.stderr.splitlines()) == (3, True)
    assert set(desk.failures()) == {"stranger1", "stranger2"}


async def test_nothing_is_said_of_ids_that_are_all_there(desk: Desk, server: EmbeddingServer) -> None:
    prepare(desk, server)
    assert (await rehearsed(order(desk, server))).warnings == ()


# --------------------------------------------------------------------------------------------------------- uncalibrated


async def test_an_uncalibrated_space_warns_until_it_is_calibrated(desk: Desk, server: EmbeddingServer) -> None:
    prepare(desk, server)
    index = make_index(desk.folder / "raw.index")
    desk.write_config("embedded", CLASSES, **asking(server) | {"api.index": "raw.index"})
    ran = await desk.command("run", desk.config)
    resumed = await desk.command("resume", desk.out)
    assert [f"warning: {WARNING}" in one.stderr.splitlines() for one in (ran, resumed)] == [True, True]
    assert (await rehearsed(order(desk, server))).warnings == (WARNING,)
    assert index_info(index)["uncalibrated"] == ["visual"]

    told = await desk.command("index", "calibrate", index, "--embedder-url", server.url, "--embedder-model", "clip")
    assert (told.exit_code, told.stdout.partition(":")[0]) == (0, "visual")
    assert (await rehearsed(order(desk, server))).warnings == ()
    assert index_info(index)["uncalibrated"] == []


async def test_serve_takes_the_embedder_from_its_options_and_warns_too(desk: Desk, server: EmbeddingServer) -> None:
    index = make_index(desk.folder / "raw.index")
    options = ["--embedder-url", server.url, "--embedder-model", "clip", "--embedder-key-env", "MY_KEY"]
    serve = await desk.start("serve", "--index", index, "--port", "0", *options, MY_KEY=KEY)
    async with serve:
        while "serving http" not in desk.stderr:
            assert serve.returncode is None, desk.stderr
            await anyio.sleep(0.01)
        warning, said = desk.stderr.splitlines()
        status, headers, _ = await classified(said.split()[1], "a")
        serve.send_signal(signal.SIGTERM)
        await serve.wait()
    assert (warning, status, headers["X-Score-Source"]) == (f"warning: {WARNING}", 200, "local/clip-8/a20-m0.129")
    assert [(one.texts, one.key) for one in server.asked] == [(["a"], KEY)]


async def test_a_command_says_all_that_is_wrong_with_its_embedder_options(desk: Desk) -> None:
    options = ["--embedder-url", "ftp://u:secret@x", "--embedder-key-env", KEY]
    finished = await desk.command("index", "calibrate", "my.index", *options)
    assert finished.exit_code == 2
    assert "secret" not in finished.stderr
    assert KEY not in finished.stderr
