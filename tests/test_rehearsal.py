"""What ``plan`` says is what the run then sends, from any state of the directory; and planning changes nothing."""

from __future__ import annotations

import dataclasses
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import rundir
from pipeline.console import Console
from pipeline.errors import InputError, KeyRefused, StopRun, StorageError, UsageError
from pipeline.ledger import Ledger
from pipeline.models import Video
from pipeline.order import Retry
from pipeline.plan import Plan, in_words
from pipeline.platform.embed import WordEmbedder
from pipeline.platform.store import Store
from pipeline.platform.videos import IndexedVideo, Track
from pipeline.rehearsal import rehearsed
from pipeline.run import run
from tests.builders import by_hand
from tests.runs import CLASSES, KEY, Desk, faults, library
from tests.servers.contract import ContractServer, ExpireToken, JsonObject, MissingVideos, Status
from tests.test_intake import index_of

NOW = 1_700_000_000.0
THREE_GROUPS: tuple[JsonObject, ...] = tuple(
    {"name": f"class {number}", "prompts": [f"prompt {number}.{one}" for one in range(60)]} for number in range(3)
)
"""Three classes of 60 prompts, of which no two share a request."""
MIXED: dict[str, float | None] = {
    **library(30, 3_000.5),
    **dict.fromkeys(library(45, first=100)),
    **library(3, 20_000, first=200),
}
"""Videos of several lengths, and 45 whose length nobody says."""
DEATH = [("page", 4, ExpireToken())]
LENGTHS = {video_id: seconds or 60.0 for video_id, seconds in MIXED.items()}


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary directories are made; it is empty again in the end."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


async def plan(desk: Desk) -> Plan:
    return await rehearsed(desk.order(clock=lambda: NOW))


async def run_and_told(desk: Desk) -> list[str]:
    """What a run says on its console."""
    said = io.StringIO()
    await run(desk.order(console=Console(said), clock=lambda: NOW))
    return said.getvalue().splitlines()


def content(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file; but for the memory that SQLite's processes share, in which readers leave their marks."""
    return {
        path.name: (path.stat().st_mtime_ns, b"" if path.suffix == ".sqlite-shm" else path.read_bytes())
        for path in folder.iterdir()
    }


def sent(desk: Desk) -> int:
    return desk.status().posts_sent


# ------------------------------------------------------------------------------------------ what is planned, and sent


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"limits__max_videos_per_post": 7},
        {"limits__default_videos_per_post": 45, "limits__concurrency": 1},
        {"input__on_bad_line": "skip"},
    ],
)
async def test_a_run_tells_and_sends_what_was_planned(desk: Desk, settings: dict[str, Any]) -> None:
    skips = "input__on_bad_line" in settings
    async with ContractServer(LENGTHS, key=KEY) as server:
        desk.write_ids(MIXED)
        with (desk.folder / "ids.csv").open("a") as ids:
            ids.write("video0000,3000.5\n" + ("b@d,1\n" if skips else ""))
        desk.write_config(server.url, THREE_GROUPS, **settings)
        told = await plan(desk)
        assert (server.posts, server.pages, desk.out.exists()) == ([], [], False)
        said = await run_and_told(desk)
        desk.check(server, LENGTHS, THREE_GROUPS)
    assert (told.posts, told.posts, server.refused) == (len(server.posts), 3 * told.chunks, 0)
    assert (told.videos, told.open, told.duplicates, told.prompt_groups) == (78, 78, 1, 3)
    assert (told.unknown_durations, told.skipped_lines, told.posts_lower_bound) == (45, int(skips), 3 * 5)
    assert said[1 : 1 + len(in_words(told))] == in_words(told)


async def test_of_a_run_that_stopped_only_what_is_open_and_new_is_planned(desk: Desk) -> None:
    """Seven of fifteen POSTs are sent; a group's answer is held of a chunk that is not whole; ten ids are new."""
    videos = library(60)
    async with ContractServer(videos, key=KEY) as server:
        desk.write_ids(library(50))
        limits = {"limits__max_videos_per_post": 10, "limits__concurrency": 1}
        desk.write_config(server.url, THREE_GROUPS, **limits, limits__max_posts=7)
        await desk.run()
        before = len(server.posts)
        assert before == 7
        desk.write_ids(videos)
        desk.write_config(server.url, THREE_GROUPS, **limits)
        told = await plan(desk)
        said = await run_and_told(desk)
        desk.check(server, videos, THREE_GROUPS)
    assert (told.videos, told.open, told.chunks, told.posts) == (60, 40, 4, 11)
    assert (told.posts, told.posts_on_tokens, told.posts_lower_bound) == (len(server.posts) - before, 0, 3)
    assert told.basis == "as the videos answered so far have"
    assert said[1 : 1 + len(in_words(told))] == in_words(told)
    assert (await plan(desk)).posts == 0


@pytest.mark.parametrize("died", [False, True])
async def test_a_walk_that_is_held_with_a_token_takes_a_post_only_where_the_token_has_died(
    desk: Desk, died: bool
) -> None:
    """The second group's second page is refused with 401, which stops the run. A page later the token may be dead."""
    videos = library(30)
    stop = [("page", 3, Status(401))]
    async with ContractServer(videos, key=KEY, faults=faults(*stop, *DEATH[:died])) as server:
        desk.write_ids(videos)
        desk.write_config(server.url, THREE_GROUPS)
        assert (await desk.run()).exit_code == 4
        before = len(server.posts)
        told = await plan(desk)
        assert (before, told.posts, told.posts_on_tokens, told.posts_lower_bound) == (2, 1, 1, 1)
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos, THREE_GROUPS)
    assert len(server.posts) - before == 1 + died


async def test_videos_that_a_walk_owes_are_planned_for_the_group_that_owes_them(desk: Desk) -> None:
    """The second group's last page leaves a video out, so eight without a match are owed too; their POST gets a 401."""
    videos = library(30)
    places = faults(("page", 4, MissingVideos()), ("post", 4, Status(401)))
    async with ContractServer(videos, key=KEY, faults=places) as server:
        desk.write_ids(videos)
        desk.write_config(server.url, THREE_GROUPS)
        assert (await desk.run()).exit_code == 4
        told = await plan(desk)
        assert (told.open, told.chunks, told.posts, len(server.posts)) == (9, 1, 1, 4)
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos, THREE_GROUPS)
    assert len(server.posts) == 5


async def test_after_each_post_the_plan_is_one_post_shorter(desk: Desk) -> None:
    videos = library(6)
    async with ContractServer(videos, key=KEY) as server:
        desk.write_ids(videos)
        planned = []
        for budget in range(1, 7):
            limits = {"limits__max_videos_per_post": 3, "limits__concurrency": 1}
            desk.write_config(server.url, THREE_GROUPS, **limits, limits__max_posts=budget)
            planned.append((await plan(desk)).posts)
            await desk.run()
        desk.check(server, videos, THREE_GROUPS)
    assert (planned, (await plan(desk)).posts, len(server.posts)) == ([6, 5, 4, 3, 2, 1], 0, 6)


async def test_a_video_that_was_refused_is_not_planned_for_in_the_groups_to_come(desk: Desk) -> None:
    """The first of three groups finds the stranger and keeps that; then the budget is spent."""
    other = Desk(desk.folder / "other")
    other.folder.mkdir()
    async with ContractServer(library(4), key=KEY) as server:
        for one in (other, desk):
            one.write_ids({"stranger": 60.0} | library(4))
            one.write_config(server.url, THREE_GROUPS, limits__max_posts=max(len(server.posts) - 2, 0))
            await one.run()
        told, before = await plan(desk), len(server.posts)
        desk.write_config(server.url, THREE_GROUPS)
        assert (await desk.run()).exit_code == 3
    assert (told.posts, told.posts_before_stop, told.open) == (2, 0, 5)
    assert (len(server.posts) - before, desk.failures()) == (2, {"stranger": "resource_not_exist"})


async def test_a_search_for_a_refused_video_is_planned_to_its_end(desk: Desk) -> None:
    """The budget ends it half-way; then the platform has the video after all, so that nothing is refused any more."""
    videos = library(20)
    known = {video_id: seconds for video_id, seconds in videos.items() if video_id != "video0003"}
    async with ContractServer(known, key=KEY) as server:
        desk.write_ids(videos)
        desk.write_config(server.url, THREE_GROUPS, limits__max_posts=4)
        assert (await desk.run()).exit_code == 75
        known["video0003"] = videos["video0003"]
        desk.write_config(server.url, THREE_GROUPS)
        told, before = await plan(desk), len(server.posts)
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos, THREE_GROUPS)
    assert told.posts == len(server.posts) - before > 3


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("resumed", [True, False])
async def test_what_refusals_have_taught_of_how_much_fits_is_in_the_plan(
    desk: Desk, known: bool, resumed: bool
) -> None:
    """Videos are a hundredth longer than was said, or nobody says: chunks are made shorter, and more are needed."""
    videos = library(120, 3_030)
    limits = {"limits__concurrency": 1, "limits__default_videos_per_post": 15}
    async with ContractServer(videos, key=KEY) as server:
        desk.write_ids(dict.fromkeys(videos, 3_000.0 if known else None))
        desk.write_config(server.url, THREE_GROUPS, **limits, limits__max_posts=5)
        assert (await desk.run()).exit_code == 75
        desk.write_config(server.url, THREE_GROUPS, **limits)
        told, before, refused = await plan(desk), len(server.posts), server.refused
        assert refused > 0
        said = io.StringIO()
        goes_on = desk.order(read_input=not resumed, console=Console(said), clock=lambda: NOW)
        assert (await run(goes_on)).exit_code == 0
        desk.check(server, videos, THREE_GROUPS)
    assert server.refused == refused
    assert in_words(told)[1] in said.getvalue().splitlines()
    assert told.posts == len(server.posts) - before


async def test_a_limit_that_is_lowered_counts_for_what_is_packed_already_too(desk: Desk) -> None:
    """It is lowered exactly when the platform refuses POSTs with many videos."""
    videos = library(60, 300)
    async with ContractServer(videos, key=KEY) as server:
        desk.write_ids(videos)
        desk.write_config(server.url, limits__max_posts=1, limits__max_videos_per_post=20)
        await desk.run()
        desk.write_config(server.url, limits__max_videos_per_post=7)
        planned = (await plan(desk)).posts
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos)
    assert sorted(len(post.video_ids) for post in server.posts[1:]) == [5, 7, 7, 7, 7, 7]
    assert planned == len(server.posts) - 1


async def test_failed_videos_cost_nothing_until_they_are_taken_again(desk: Desk) -> None:
    async with ContractServer(library(4), key=KEY) as server:
        desk.write_ids({"stranger": 60.0} | library(4))
        desk.write_config(server.url)
        await desk.run()
        assert (await plan(desk)).posts == 0
        before, said = len(server.posts), io.StringIO()
        retry = desk.order(read_input=False, retry=Retry(every=True), console=Console(said))
        assert (await run(retry)).exit_code == 3
    assert len(server.posts) - before == 1
    assert "POSTs: 1 (1 chunk, 1 prompt group; no packing takes fewer than 1)" in said.getvalue().splitlines()[2]


async def test_durations_come_from_the_index_as_in_the_run(desk: Desk) -> None:
    """Twelve videos of 3,000 s fill a POST; without the index's durations it would be ten chunks of four."""
    index = desk.folder / "index.sqlite"
    clip = Track("visual", np.array([0.0]), np.array([9.0]), np.eye(1, 256, dtype=np.float32))
    with Store.create(index, "0123456789abcdef01234567", "made") as store:
        videos = [IndexedVideo(f"{number:024x}", f"{number}.mp4", 2_990.0, (clip,)) for number in range(40)]
        store.add_videos(videos, WordEmbedder().space)
    desk.write_ids(dict.fromkeys(video.video_id for video in videos[:36]))
    settings = {"api__index": str(index), "limits__default_videos_per_post": 4}
    desk.write_config("embedded", THREE_GROUPS, **settings, input__index_id="0123456789abcdef01234567")
    told = await plan(desk)
    await desk.run()
    assert (told.videos, told.unknown_durations, told.posts_in_index_mode) == (36, 0, 3)
    assert (told.posts, told.chunks, told.posts_lower_bound) == (sent(desk), 3, 9)
    assert told.hours == 36 * 2_990 / 3600


async def test_the_quota_window_that_has_begun_counts(desk: Desk) -> None:
    videos = library(40)
    limits = {"limits__max_videos_per_post": 10, "limits__posts_per_window": 3, "limits__on_quota": "stop"}
    async with ContractServer(videos, key=KEY) as server:
        desk.write_ids(library(20))
        desk.write_config(server.url, **limits)
        await run(desk.order(clock=lambda: NOW))
        desk.write_ids(videos)
        told = await plan(desk)
        outcome = await run(desk.order(clock=lambda: NOW))
    assert (told.posts, told.windows, told.posts_before_stop) == (2, 2, 1)
    assert (outcome.exit_code, len(server.posts)) == (75, 3)


# -------------------------------------------------------------------------------------------------- nothing is changed


async def test_planning_leaves_the_run_directory_as_it_was(desk: Desk) -> None:
    async with ContractServer(library(20), key=KEY) as server:
        desk.write_ids(library(10))
        desk.write_config(server.url)
        await desk.run()
        desk.write_ids(library(20))
        before, seen = content(desk.out), desk.out.stat().st_mtime_ns
        assert (await plan(desk)).posts == 1
        assert (content(desk.out), desk.out.stat().st_mtime_ns, len(server.posts)) == (before, seen, 1)


async def test_a_run_that_goes_on_meanwhile_is_planned_from_a_snapshot(desk: Desk) -> None:
    """What its process has committed counts, though it is only in the ledger's log yet."""
    desk.write_ids(library(3))
    desk.write_config("http://127.0.0.1:1/v1.2", limits__max_videos_per_post=1, limits__give_up_after_seconds=1)
    rundir.prepare(desk.out)
    with rundir.held(desk.out), Ledger(desk.out / rundir.LEDGER) as ledger:
        with ledger.atomic():
            ledger.take_in([Video("earlier", 60.0)])
        before = content(desk.out)
        assert (await plan(desk)).videos == 4
        assert content(desk.out) == before


async def test_what_a_killed_process_left_in_the_ledgers_log_counts(desk: Desk, tmp_path: Path) -> None:
    desk.write_ids(library(3))
    desk.write_config("http://127.0.0.1:1/v1.2")
    made = tmp_path / "made"
    rundir.prepare(made)
    rundir.prepare(desk.out)
    with Ledger(made / rundir.LEDGER) as ledger:
        with ledger.atomic():
            ledger.take_in([Video("earlier", 60.0)])
        for path in made.iterdir():
            (desk.out / path.name).write_bytes(path.read_bytes())
    before = content(desk.out)
    assert (await plan(desk)).videos == 4
    assert content(desk.out) == before


# ------------------------------------------------------------------------------------------------ what a run refuses


async def refused_alike(desk: Desk, kind: type[StopRun]) -> str:
    """What planning raises, which is what the run raises."""
    with pytest.raises(kind) as planned:
        await plan(desk)
    with pytest.raises(kind) as met:
        await desk.run()
    assert str(planned.value) == str(met.value)
    return str(planned.value)


async def test_what_a_run_refuses_before_its_first_post_is_refused_alike(desk: Desk) -> None:
    desk.write_config("http://127.0.0.1:1/v1.2")
    (desk.folder / "ids.csv").write_text("video_id\ngood\nb@d\n")
    assert f"{desk.folder}/ids.csv:3: " in await refused_alike(desk, InputError)
    desk.write_ids({})
    assert await refused_alike(desk, InputError) == "the input holds no video id: check input.ids, or input.index_id"
    desk.write_ids(library(2))
    desk.write_config("http://127.0.0.1:1/v1.2", input__ids=["nowhere.csv"])
    assert "nowhere.csv" in await refused_alike(desk, InputError)


async def test_another_job_and_a_foreign_or_broken_directory_are_refused_alike(desk: Desk) -> None:
    async with ContractServer(library(2), key=KEY) as server:
        desk.write_ids(library(2))
        desk.write_config(server.url)
        await desk.run()
        desk.write_config(server.url, CLASSES[:2])
        assert "job.classes: 'PetTok' is gone" in await refused_alike(desk, UsageError)
        desk.write_config(server.url)
    by_hand(desk.out / rundir.LEDGER, "PRAGMA application_id = 7")
    assert await refused_alike(desk, StorageError) == (
        f"{desk.out}/ledger.sqlite: not a ledger of bulk-classify; use another --out"
    )
    (desk.out / rundir.LEDGER).unlink()
    assert "holds rows that no ledger here knows of" in await refused_alike(desk, StorageError)
    desk.out.rename(desk.folder / "moved")
    desk.out.symlink_to(desk.folder / "moved")
    assert "not a directory, or a symbolic link" in await refused_alike(desk, StorageError)


async def test_a_key_that_the_platform_refuses_is_refused_where_the_index_is_listed(desk: Desk) -> None:
    async with index_of([library(2)], 401, 401) as (url, _):
        desk.write_ids(library(2))
        desk.write_config(url, input__index_id="index1")
        await refused_alike(desk, KeyRefused)


# -------------------------------------------------------------------------------------------------------- the command


async def test_the_command_needs_no_key_where_nothing_is_sent_and_tells_all_as_json(desk: Desk) -> None:
    desk.write_config("https://elsewhere.example/v1.2", input__ids=["nowhere.csv"], output__dir="elsewhere")
    settings = ["--ids", "-", "--out", "out", "--set", "limits.tariff=v1.2-free", "--json"]
    finished = await desk.command("plan", desk.config, *settings, stdin=b"a\nb\na\n", TWELVELABS_API_KEY="")
    told = json.loads(finished.stdout)
    assert (finished.exit_code, finished.stderr) == (0, "")
    assert list(told) == [field.name for field in dataclasses.fields(Plan)]
    figures = ("videos", "duplicates", "hours", "chunks", "prompt_groups", "posts", "posts_lower_bound", "windows")
    assert [told[name] for name in figures] == [2, 1, 0.0, 1, 1, 1, 1, 1]
    assert not desk.out.exists()


async def test_the_command_ends_as_a_run_does_where_the_input_is_bad(desk: Desk) -> None:
    desk.write_config("http://127.0.0.1:1/v1.2")
    (desk.folder / "ids.csv").write_text("video_id\nb@d\n")
    finished = await desk.command("plan", desk.config)
    assert (finished.exit_code, finished.stdout) == (2, "")
    assert finished.stderr.startswith(f"error: {desk.folder}/ids.csv:2: ")


async def test_classes_of_a_wasteful_shape_are_hinted_at_by_plan_and_config_check(desk: Desk) -> None:
    classes = [{"name": f"c{n}", "prompts": [f"{n}.{one}" for one in range(34)]} for n in range(9)]
    desk.write_ids(library(2))
    desk.write_config("http://127.0.0.1:1/v1.2", classes)
    hint = (
        "hint: 9 classes with 306 prompts take 5 prompt groups, each a POST for each chunk; "
        "with at most 33 prompts a class they would take 3"
    )
    assert (await desk.command("plan", desk.config)).stdout.splitlines()[-1] == hint
    assert (await desk.command("config", "check", desk.config)).stderr.splitlines() == [hint]
