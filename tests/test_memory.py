"""What a run remembers over its processes, so that nothing is guessed, lost or paid for a second time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress

import anyio
import pytest

from pipeline.errors import StorageError
from pipeline.rows import SCORES
from pipeline.run import run
from tests.runs import KEY, ROOT, Desk, faults, library
from tests.servers.contract import AlienVideo, ContractServer, JsonObject, MissingVideos, RequestSeen, Status

TWO_GROUPS = tuple({"name": f"c{n}", "prompts": [f"p{n}.{one}" for one in range(60)]} for n in range(2))


def everything(_: str, __: JsonObject) -> JsonObject:
    return {"score": 50, "duration_ratio": 1, "clips": []}


async def test_a_ledger_that_is_lost_does_not_cost_the_rows(desk: Desk) -> None:
    videos = library(5)
    desk.write_ids(videos)
    async with ContractServer(videos, key=KEY) as server:
        desk.write_config(server.url)
        assert (await desk.run()).exit_code == 0
        before = (desk.out / SCORES).read_bytes()
        for path in desk.out.glob("ledger.sqlite*"):
            path.unlink()
        with pytest.raises(StorageError, match=r"scores\.ndjson: holds rows that no ledger here knows of"):
            await desk.run()
        assert len(server.posts) == 1
    assert (desk.out / SCORES).read_bytes() == before
    assert not list(desk.out.glob("ledger.sqlite*")), "an empty ledger would say that there are no rows"
    assert (await desk.command("status", desk.out)).exit_code == 74


async def test_what_one_group_refuses_is_no_failure_of_a_video_that_another_owes(desk: Desk) -> None:
    videos = library(5)
    bad = Status(400, json.dumps({"code": "parameter_invalid", "message": "a video cannot be classified"}).encode())
    places = faults(("post", 1, MissingVideos(1)), ("post", 2, bad))
    async with ContractServer(videos, key=KEY, answer=everything, faults=places) as server:
        desk.write_ids(videos)
        desk.write_config(server.url, TWO_GROUPS)
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos, TWO_GROUPS)


async def test_that_totals_count_videos_is_known_to_the_next_process(desk: Desk) -> None:
    """Two short walks at the beginning of a process do not make silence an answer, where earlier walks were whole."""
    videos = library(8)
    short = faults(*[("post", number, MissingVideos(1)) for number in range(3, 40)])
    async with ContractServer(videos, key=KEY, answer=everything, faults=short) as server:
        desk.write_ids(videos)
        desk.write_config(server.url, limits__max_videos_per_post=2, limits__concurrency=1, limits__max_posts=2)
        assert (await desk.run()).exit_code == 75
        desk.write_config(server.url, limits__max_videos_per_post=2, limits__concurrency=1)
        assert (await desk.run()).exit_code == 3
    status = desk.status()
    assert (status.no_match, set(status.failures)) == (0, {"incomplete_answer"})


async def test_that_a_group_was_answered_is_known_to_the_next_process(desk: Desk) -> None:
    """Two refused videos are two refused videos then, and not a refused job."""
    videos = library(12)
    bad = Status(400, b'{"code": "parameter_invalid", "message": "No."}')

    def fault(seen: RequestSeen) -> Status | None:
        return bad if {"video0004", "video0006"} & set(seen.video_ids) else None

    async with ContractServer(videos, key=KEY, faults=fault) as server:
        desk.write_ids(videos)
        settings = {"limits__max_videos_per_post": 2, "limits__concurrency": 1}
        desk.write_config(server.url, limits__max_posts=2, **settings)
        assert (await desk.run()).exit_code == 75
        desk.write_config(server.url, **settings)
        assert (await desk.run()).exit_code == 3
    assert set(desk.failures()) == {"video0004", "video0006"}


async def test_an_answer_that_contradicts_itself_is_not_paid_for_again_after_a_stop(desk: Desk) -> None:
    videos = library(5)
    async with ContractServer(videos, key=KEY, faults=faults(("post", 1, AlienVideo()))) as server:
        desk.write_ids(videos)
        desk.write_config(server.url, TWO_GROUPS, limits__max_posts=1)
        assert (await run(desk.order())).exit_code == 75
        desk.write_config(server.url, TWO_GROUPS)
        assert (await run(desk.order())).exit_code in (0, 3)
        assert [sorted(post.class_names) for post in server.posts] == [["c0"], ["c1"]]


def test_a_signal_while_the_input_is_read_ends_the_process_at_once(desk: Desk) -> None:
    desk.write_config("embedded", input__ids=["-"])
    command = [sys.executable, "-m", "pipeline", "run", str(desk.config)]
    environment = {"HOME": str(desk.folder), "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    with subprocess.Popen(
        command, cwd=desk.folder, env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        log = desk.out / "run.log"
        while not (log.exists() and "run_began" in log.read_text()):
            anyio.run(anyio.sleep, 0.02)
        process.terminate()
        assert process.stderr is not None
        told = process.stderr.read()
        assert process.wait() == 130
    assert told.splitlines()[-1] == "SIGTERM: ended before anything was sent"


def test_a_signal_between_the_input_and_the_first_post_ends_the_process_at_once(desk: Desk) -> None:
    """The process is held there: what it says first goes to a pipe that is full, and that nobody reads yet."""
    desk.write_ids({"a": 10.5})
    desk.write_config("http://127.0.0.1:1/v1.2")
    command = [sys.executable, "-m", "pipeline", "run", str(desk.config)]
    environment = {
        "HOME": str(desk.folder),
        "PYTHONPATH": str(ROOT),
        "PATH": "/usr/bin:/bin",
        "TWELVELABS_API_KEY": KEY,
    }
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    filling = 0
    with suppress(BlockingIOError):
        while True:
            filling += os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    with subprocess.Popen(command, cwd=desk.folder, env=environment, stderr=writing) as process:
        os.close(writing)
        log = desk.out / "run.log"
        while not (log.exists() and "input_read" in log.read_text()):
            anyio.run(anyio.sleep, 0.02)
        process.terminate()
        with os.fdopen(reading, "rb") as told:
            told.read(filling)
            told.read()
        assert process.wait() == 130
    assert '"event":"run_ended"' in log.read_text().splitlines()[-1]
