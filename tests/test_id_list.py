"""``ids --index``: an index of the platform as an id list, which a run then reads."""

from __future__ import annotations

import json

from tests.runs import KEY, Desk, library
from tests.servers.contract import ContractServer


async def test_an_index_is_listed_in_lines_that_a_run_takes_with_their_durations(desk: Desk) -> None:
    """Over several pages, with nothing but the lines on stdout."""
    videos = library(120, 300.5)
    async with ContractServer(videos, key=KEY, index_id="index1") as server:
        listed = await desk.command("ids", "--index", "index1", "--api-url", server.url)
        assert (listed.exit_code, listed.stderr, server.violations) == (0, "", [])
        assert [json.loads(line) for line in listed.stdout.splitlines()] == [
            {"video_id": video_id, "duration_seconds": 300.5, "filename": f"{video_id}.mp4"} for video_id in videos
        ]
        (desk.folder / "listed.ndjson").write_text(listed.stdout)
        desk.write_config(server.url, input__ids=["listed.ndjson"])
        planned = await desk.command("plan", desk.config, "--json")
        assert json.loads(planned.stdout)["posts"] == 2  # 119 of 300.5 s fit into ten hours
        assert server.posts == []


async def test_the_quickstart_index_is_listed_with_its_file_names(desk: Desk) -> None:
    known = await desk.command("index", "info", "--json")
    listed = await desk.command("ids", "--index", json.loads(known.stdout)["index_id"])
    rows = [json.loads(line) for line in listed.stdout.splitlines()]
    assert (listed.exit_code, len(rows)) == (0, 59)
    assert all(row["filename"].endswith(".mp4") and row["duration_seconds"] > 0 for row in rows)


async def test_a_config_tells_who_is_asked_and_at_what_pace(desk: Desk) -> None:
    desk.write_ids(library(1))
    async with ContractServer(library(3), key=KEY, index_id="index1") as server:
        desk.write_config(server.url)
        listed = await desk.command("ids", "--index", "index1", "--config", desk.config)
        assert (listed.exit_code, len(listed.stdout.splitlines())) == (0, 3)


async def test_an_index_that_the_platform_does_not_have_is_one_line(desk: Desk) -> None:
    async with ContractServer(library(3), key=KEY, index_id="index1") as server:
        listed = await desk.command("ids", "--index", "other", "--api-url", server.url)
    assert (listed.exit_code, listed.stdout) == (2, "")
    assert listed.stderr.startswith("error: the index 'other' cannot be listed: HTTP 404 (resource_not_exist")
    assert listed.stderr.count("\n") == 1
