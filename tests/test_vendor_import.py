"""`index import vendor`: an index of the vendor's, whatever happens on the way, and each video asked for once."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from anyio.streams.text import TextReceiveStream

from pipeline.config import ApiKey, load
from pipeline.console import Console
from pipeline.errors import KeyRefused, PlatformDown, StopRun, UsageError
from pipeline.order import Order
from pipeline.platform.indexes import create_index, index_info
from pipeline.platform.store import Store
from pipeline.platform.videos import IndexedVideo
from pipeline.vendor_calls import Wanted, base_url
from pipeline.vendor_import import Imported, ImportPlan, _Room, import_videos, plan_import
from tests.runs import KEY, Desk, Finished, MovedClock, library
from tests.servers.vendor import Asked, Change, Cut, Fault, Hold, Reset, Status, VendorServer, vector

DIMENSIONS = 16
CONCURRENCY = 4


@pytest.fixture
def index(tmp_path: Path) -> Path:
    create_index(tmp_path / "my.index", "mine", None, index_id="index1")
    return tmp_path / "my.index"


def serving(
    videos: dict[str, float], faults: Callable[[Asked], Fault | None] = lambda _: None, **more: Any
) -> VendorServer:
    return VendorServer(videos, key=KEY, dimensions=DIMENSIONS, faults=faults, **more)


async def bring(
    desk: Desk, index: Path, server: VendorServer, clock: MovedClock | None = None, **wanted: Any
) -> tuple[Imported, StopRun | None]:
    return await import_videos(order(desk, server, clock), Wanted(index, "index1", **wanted))


def order(desk: Desk, server: VendorServer, clock: MovedClock | None = None, rate: float = 0.0) -> Order:
    """What the command makes of its options; with a clock of a test's, waiting takes no time."""
    flags = {
        "job.options": ["visual"],
        "job.classes": [{"name": "-", "prompts": ["-"]}],
        "input.index_id": "index1",
        "limits.concurrency": CONCURRENCY,
        "limits.requests_per_second": rate,
        "--api-url": server.url,
    }
    config = load(None, flags=flags, environment={}).config
    timer: dict[str, Any] = {"clock": clock, "timer": clock.timer} if clock else {}
    console, folder = Console(io.StringIO()), desk.folder
    return Order(
        config, folder / "out", ApiKey(KEY), console, io.BytesIO(), folder / "cache", jitter=lambda: 0.0, **timer
    )


def content(index: Path) -> dict[str, tuple[Any, ...]]:
    """All that an index holds, as values that can be compared."""
    with Store.open(index) as store:
        videos = store.load(list(store.durations()), ["visual", "conversation", "text_in_video"])
        revisions = store.revisions([one.video_id for one in videos])
        calibration = store.calibration()
        assert store.space == f"marengo3.0-{DIMENSIONS}"
    return {one.video_id: (revisions[one.video_id], calibration, *_values(one)) for one in videos}


def _values(one: IndexedVideo) -> tuple[Any, ...]:
    tracks = [
        (track.option, track.starts.tobytes(), track.ends.tobytes(), track.vectors.tobytes(), track.texts)
        for track in one.tracks
    ]
    return one.filename, one.duration_seconds, tracks


# ------------------------------------------------------------------------------------------------------- what comes in


async def test_a_video_comes_with_its_clips_its_transcript_and_its_duration(desk: Desk, index: Path) -> None:
    async with serving({"clip": 20.5}) as server:
        assert await bring(desk, index, server) == (Imported(listed=1, imported=1), None)
    with Store.open(index) as store:
        (video,) = store.load(["clip"], ["visual", "conversation", "text_in_video"])
    assert (video.filename, video.duration_seconds) == ("clip.mp4", 20.5)
    spoken, seen = video.tracks
    assert (spoken.option, seen.option) == ("conversation", "visual")
    for track, option in ((seen, "visual"), (spoken, "transcription")):
        assert track.starts.tolist() == [0.0, 6.0, 12.0, 18.0]
        assert track.ends.tolist() == [6.0, 12.0, 18.0, 20.5]
        sent = np.array([vector("clip", option, f"{start} clip", DIMENSIONS) for start in track.starts])
        assert track.vectors == pytest.approx(sent / np.linalg.norm(sent, axis=1, keepdims=True), abs=1e-6)
    assert spoken.texts == tuple(f"Sentence {number} of clip." for number in range(4))
    assert seen.texts == ()


async def test_vectors_of_sounds_come_only_on_demand_and_count_as_conversation(desk: Desk, index: Path) -> None:
    async with serving({"clip": 6.0}) as server:
        await bring(desk, index, server)
        assert index_info(index)["tracks"] == {
            "conversation": {"videos": 1, "clips": 1},
            "visual": {"videos": 1, "clips": 1},
        }
        came_to, _ = await bring(desk, index, server, audio=True)
    assert came_to == Imported(listed=1, imported=1)
    with Store.open(index) as store:
        (video,) = store.load(["clip"], ["conversation"])
    assert sorted(video.tracks[0].texts) == ["", "Sentence 0 of clip."]


async def test_videos_that_are_not_ready_are_left_for_the_next_time(desk: Desk, index: Path) -> None:
    async with serving(library(3, 12)) as server:
        server.status["video0001"] = "indexing"
        assert await bring(desk, index, server) == (Imported(listed=3, not_ready=1, imported=2), None)
        server.status.clear()
        assert await bring(desk, index, server) == (Imported(listed=3, unchanged=2, imported=1), None)
        assert sorted(server.videos_asked()) == sorted(library(3, 12))


async def test_only_what_has_changed_is_asked_for_again(desk: Desk, index: Path) -> None:
    async with serving(library(120, 12)) as server:
        assert (await bring(desk, index, server))[0] == Imported(listed=120, imported=120)
        server.updated["video0077"] = "2026-01-01T00:00:00Z"
        server.asked.clear()
        assert (await bring(desk, index, server))[0] == Imported(listed=120, unchanged=119, imported=1)
        assert server.videos_asked() == ["video0077"]


# ------------------------------------------------------------------------------------------------------ kills and stops


def command(index: Path, server: VendorServer) -> list[str | Path]:
    wanted = ["--index-id", "index1", "--api-url", server.url, "--requests-per-second", "0", "--json"]
    return ["index", "import", "vendor", index, *wanted]


def held(index: Path) -> set[str]:
    with Store.open(index) as store:
        return set(store.durations())


async def test_a_kill_in_the_middle_costs_what_was_under_way_and_changes_nothing(desk: Desk, tmp_path: Path) -> None:
    """200 videos; the platform holds its answers from the 80th on, and then the process is killed."""
    videos = library(200, 30)
    undisturbed, killed = tmp_path / "undisturbed.index", tmp_path / "killed.index"
    for file in (undisturbed, killed):
        create_index(file, "mine", None)
    async with serving(videos) as server:
        first = await desk.command(*command(undisturbed, server))
        assert json.loads(first.stdout) == _told(listed=200, imported=200)
    async with serving(videos, lambda seen: Hold() if seen.kind == "video" and seen.number >= 80 else None) as server:
        process = await desk.start(*command(killed, server))
        await server.until_held(80 + CONCURRENCY - 1)
        os.kill(process.pid, signal.SIGKILL)
        assert await process.wait() == -signal.SIGKILL
        there = held(killed)
        asked_before = set(server.videos_asked())
        assert there <= asked_before
        assert len(asked_before - there) == CONCURRENCY
        server.asked.clear()
        server.release()
        again = await desk.command(*command(killed, server))
        assert json.loads(again.stdout) == _told(listed=200, unchanged=len(there), imported=200 - len(there))
        asked_again = Counter(server.videos_asked())
        assert set(asked_again) == set(videos) - there
        assert set(asked_again.values()) == {1}
    assert content(killed) == content(undisturbed)


def _told(**counts: int) -> dict[str, Any]:
    none = dict.fromkeys(("listed", "not_ready", "unchanged", "imported", "of_other_spaces", "failed", "not_listed"), 0)
    return {**none, **counts, "failures": [], "first_not_listed": []}


def said(stderr: str) -> str:
    """What a command has said, but for the lines of progress, which a slow machine sees more of."""
    return re.sub(r"(?m)^[\d,]+ of [\d,]+ videos.*\n", "", stderr)


async def test_a_signal_ends_it_after_what_is_under_way_and_says_how_to_go_on(desk: Desk, index: Path) -> None:
    videos = library(60, 12)
    async with serving(videos, lambda seen: Hold() if seen.kind == "video" and seen.number >= 20 else None) as server:
        async with await anyio.open_process(
            [sys.executable, "-m", "pipeline", *map(str, command(index, server))], env=desk._environment({})
        ) as process:
            assert process.stderr is not None
            stderr = TextReceiveStream(process.stderr)
            await server.until_held(20 + CONCURRENCY - 1)
            process.send_signal(signal.SIGTERM)
            heard = ""
            while "SIGTERM" not in heard:
                heard += await stderr.receive()
            server.release()
            heard += "".join([text async for text in stderr])
            assert await process.wait() == 130
        assert said(heard) == (
            "SIGTERM: finishing the requests under way; once more ends at once\n"
            "next: the same command goes on from here\nerror: stopped by SIGTERM\n"
        )
        assert set(server.videos_asked()) == held(index)
    assert len(held(index)) == 20 + CONCURRENCY - 1


# ------------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    "fault",
    [
        Status(500),
        Status(503, b"<html>"),
        Status(502),
        Status(429),
        Status(429, headers={"Retry-After": "90"}),
        Cut(),
        Reset(),
        Status(200, b"<html>not JSON</html>"),
    ],
    ids=repr,
)
async def test_what_may_pass_is_asked_for_again(desk: Desk, index: Path, fault: Fault) -> None:
    faulty = {("list", 1), ("list", 3), ("video", 2), ("video", 60)}
    async with serving(library(70, 12), lambda seen: fault if (seen.kind, seen.number) in faulty else None) as server:
        came_to, stopped = await bring(desk, index, server, MovedClock())
        assert (came_to, stopped) == (Imported(listed=70, imported=70), None)
        assert Counter(one.kind for one in server.asked) == {"list": 2 + 2, "video": 70 + 2}


async def test_an_ordered_pause_holds_everybody_up(desk: Desk, index: Path) -> None:
    """After the 429 nothing leaves for as long as the platform orders."""
    clock = MovedClock()
    moments: list[float] = []

    def once_too_fast(seen: Asked) -> Fault | None:
        moments.append(clock.now)
        return Status(429, headers={"Retry-After": "240"}) if len(moments) == 10 else None

    async with serving(library(30, 12), once_too_fast) as server:
        assert (await bring(desk, index, server, clock))[0] == Imported(listed=30, imported=30)
    under_way = [moment for moment in moments[10:] if moment < moments[9] + 240]
    assert len(under_way) < CONCURRENCY
    assert len(moments) == 32


async def test_the_pace_is_kept(desk: Desk, index: Path) -> None:
    """21 requests at two a second: the last leaves ten seconds after the first."""
    clock = MovedClock()
    began = clock.now
    async with serving(library(20, 12)) as server:
        await import_videos(order(desk, server, clock, rate=2.0), Wanted(index, "index1"))
        assert len(server.asked) == 21
    assert 10.0 <= clock.now - began < 11.0


async def test_a_video_that_cannot_be_had_fails_by_itself(desk: Desk, index: Path) -> None:
    def deleted(answer: dict[str, Any]) -> None:
        del answer["embedding"]

    def torn(answer: dict[str, Any]) -> None:
        answer["embedding"]["video_embedding"]["segments"][0]["float"].pop()

    def wrong(answer: dict[str, Any]) -> None:
        answer["embedding"]["video_embedding"]["segments"] = "none"

    faults: dict[str | None, Fault] = {
        "video0001": Status(404, b'{"code": "resource_not_exist", "message": "The video does not exist."}'),
        "video0002": Change(deleted),
        "video0003": Change(torn),
        "video0004": Change(wrong),
        "video0005": Status(500),
        "video0007": Status(504),  # and nobody is left to show that the platform is well
    }
    async with serving(library(8, 12), lambda seen: faults.get(seen.video_id)) as server:
        came_to, stopped = await bring(desk, index, server, MovedClock())
    assert (came_to.imported, came_to.failed, stopped) == (2, 6, None)
    reasons = dict(line.split(": ", 1) for line in came_to.failures)
    assert sorted(reasons) == sorted(filter(None, faults))
    assert reasons["video0001"] == "HTTP 404 (resource_not_exist: The video does not exist.)"
    assert reasons["video0002"].startswith("of its embeddings ('none') none is of a clip of visual or transcription")
    assert reasons["video0003"] == "its vectors have different numbers of dimensions, or none"
    assert reasons["video0004"].startswith("the answer is not of the shape of version 1.3: Expected `array | null`")
    assert (reasons["video0005"], reasons["video0007"]) == ("HTTP 500", "HTTP 504")


async def test_failed_videos_are_told_and_make_the_exit_code_3(desk: Desk, index: Path) -> None:
    gone = Status(404, b'{"code": "resource_not_exist", "message": "Gone."}')
    async with serving(library(3, 12), lambda seen: gone if seen.video_id == "video0001" else None) as server:
        done = await desk.command(*command(index, server))
    assert (done.exit_code, json.loads(done.stdout)["failed"]) == (3, 1)
    assert said(done.stderr) == "failed: video0001: HTTP 404 (resource_not_exist: Gone.)\n"


async def test_a_platform_that_stays_away_ends_it(desk: Desk, index: Path) -> None:
    async with serving(library(9, 12), lambda seen: Status(503) if seen.kind == "video" else None) as server:
        came_to, stopped = await bring(desk, index, server, MovedClock())
    assert came_to.imported == 0
    assert isinstance(stopped, PlatformDown)
    assert "has answered nothing for" in str(stopped)


async def test_a_wrong_key_ends_it_with_one_request(desk: Desk, index: Path) -> None:
    async with VendorServer(library(60, 12), key="another") as server:
        _, stopped = await bring(desk, index, server)
        assert server.denied == 1
    assert isinstance(stopped, KeyRefused)
    assert KEY not in str(stopped)


async def test_an_index_or_version_that_is_not_there_is_told(desk: Desk, index: Path) -> None:
    async with serving(library(3), index_id="another") as server:
        done = await desk.command(*command(index, server))
        assert (done.exit_code, done.stderr.splitlines()[-1]) == (
            2,
            "error: the index 'index1' cannot be listed: HTTP 404 (resource_not_exist: The index does not exist.)",
        )
    async with serving(library(3), lambda _: Status(404)) as server:
        done = await desk.command(*command(index, server))
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1].endswith("is the id right, and the URL that of version 1.3?")


async def test_a_list_without_an_end_is_refused(desk: Desk, index: Path) -> None:
    first_page: list[Any] = []

    def endless(answer: dict[str, Any]) -> None:
        first_page[:] = first_page or answer["data"]
        answer["data"], answer["page_info"]["total_page"] = first_page, 10**9

    async with serving(library(3, 12), lambda seen: Change(endless) if seen.kind == "list" else None) as server:
        came_to, stopped = await bring(desk, index, server)
    assert came_to.listed == 3
    assert str(stopped) == "the index 'index1' cannot be listed: page 2 of 1000000000 shows nothing new"


async def test_a_video_that_leaves_while_the_index_is_listed_hides_no_other(desk: Desk, index: Path) -> None:
    """With the first video gone, the 51st moves to the first page, which was read already."""
    videos = library(60, 12)

    def one_leaves(seen: Asked) -> None:
        if (seen.kind, seen.number) == ("list", 2):
            videos.pop("video0000")

    async with serving(videos, one_leaves) as server:
        came_to, stopped = await bring(desk, index, server, MovedClock())
    assert stopped is None
    assert came_to.listed == 60
    assert held(index) >= videos.keys()


async def test_what_the_vendor_no_longer_lists_stays_and_is_told(desk: Desk, index: Path) -> None:
    videos = library(3, 12)
    async with serving(videos) as server:
        await bring(desk, index, server)
        with Store.open(index) as store:
            store.add_videos([replace(store.load(["video0002"], ["visual"])[0], video_id="own")], "marengo3.0-16")
        videos.pop("video0001")
        done = await desk.command(*command(index, server))
    told = json.loads(done.stdout)
    assert (done.exit_code, told["not_listed"], told["first_not_listed"]) == (0, 1, ["video0001"])
    assert said(done.stderr) == (
        "warning: 1 video that was imported before and the vendor no longer lists: kept "
        "(`index remove` takes videos out): video0001\n"
    )
    assert held(index) == {"video0000", "video0001", "video0002", "own"}


async def test_an_index_that_changes_all_the_time_is_not_said_to_lack_videos(desk: Desk, index: Path) -> None:
    """What no listing showed may have moved behind its back."""
    videos = library(60, 12)

    def one_leaves(seen: Asked) -> None:
        if seen.kind == "list" and seen.number % 2 == 0:
            videos.pop(min(videos))

    async with serving(videos) as server:
        await bring(desk, index, server)
        videos.pop("video0000")
        server.faults = one_leaves
        assert (await bring(desk, index, server))[0].not_listed == 0
        assert len(videos) == 56, "listed three times"


async def test_a_video_that_changed_keeps_the_tracks_that_came_from_files(desk: Desk, index: Path) -> None:
    videos = {"clip": 12.0}
    async with serving(videos) as server:
        await bring(desk, index, server)
        with Store.open(index) as store:
            (video,) = store.load(["clip"], ["visual"])
            shown = replace(video.tracks[0], option="text_in_video")
            store.add_videos([replace(video, tracks=(shown,), revision="")], "marengo3.0-16", replacing=None)
        server.updated["clip"], videos["clip"] = "2026-01-01T00:00:00Z", 6.0
        server.faults = lambda _: Change(lambda answer: answer.pop("transcription", None))
        assert (await bring(desk, index, server))[0] == Imported(listed=1, imported=1)
    clips = {option: counts["clips"] for option, counts in index_info(index)["tracks"].items()}  # type: ignore[attr-defined]
    assert clips == {"conversation": 1, "text_in_video": 2, "visual": 1}
    assert index_info(index)["seconds"] == 12.0, "as long as what is kept of it"


async def test_an_entry_of_the_list_that_cannot_be_read_fails_by_itself(desk: Desk, index: Path) -> None:
    def odd(answer: dict[str, Any]) -> None:
        answer["data"][1]["system_metadata"]["duration"] = "60"
        answer["data"][2]["_id"] = "../keys"

    async with serving(library(4, 12), lambda seen: Change(odd) if seen.kind == "list" else None) as server:
        came_to, stopped = await bring(desk, index, server)
    assert (came_to.listed, came_to.imported, came_to.failed, came_to.not_ready, stopped) == (4, 2, 2, 0, None)
    assert ["its entry in the list cannot be read" in reason for reason in came_to.failures] == [True, True]


async def test_an_entry_that_cannot_be_read_is_not_taken_for_a_video_that_is_gone(desk: Desk, index: Path) -> None:
    def odd(answer: dict[str, Any]) -> None:
        answer["data"][1]["system_metadata"]["duration"] = "60"

    async with serving(library(3, 12)) as server:
        await bring(desk, index, server)
        server.faults = lambda seen: Change(odd) if seen.kind == "list" else None
        came_to, _ = await bring(desk, index, server)
    assert (came_to.listed, came_to.unchanged, came_to.failed, came_to.not_listed) == (3, 2, 1, 0)
    assert came_to.failures[0].startswith("video0001: its entry in the list cannot be read: Expected `float | null`")


# -------------------------------------------------------------------------------------------------------------- memory


async def test_no_more_than_ten_hours_of_video_are_under_way(desk: Desk, index: Path) -> None:
    """Videos that are listed as of four hours, and one of no known length; the first two are held until both came."""
    videos = library(9, 12)
    under_way: list[int] = []

    def long(answer: dict[str, Any]) -> None:
        for entry, seconds in zip(answer["data"], [4 * 3600] * 4 + [0] + [4 * 3600] * 4, strict=True):
            entry["system_metadata"]["duration"] = seconds

    def counted(seen: Asked) -> Fault | None:
        if seen.kind == "list":
            return Change(long)
        under_way.append(seen.number - len(held(index)))
        return Hold() if seen.number <= 2 else None

    async with serving(videos, counted) as server, anyio.create_task_group() as importing:
        importing.start_soon(bring, desk, index, server)
        await server.until_held(2)
        server.release()
    assert held(index) == set(videos)
    assert max(under_way) == 2


async def test_what_has_no_room_beside_others_waits_until_it_is_alone() -> None:
    room = _Room()
    under_way: list[float] = []
    most: list[list[float]] = []

    async def take(seconds: float, leave: anyio.Event) -> None:
        async with room.taken(seconds):
            under_way.append(seconds)
            most.append(sorted(under_way))
            await leave.wait()
            under_way.remove(seconds)

    events = {seconds: anyio.Event() for seconds in (20_000.0, 16_000.0, 1.0, 90_000.0, 0.0)}
    async with anyio.create_task_group() as taking:
        for seconds, leave in events.items():
            taking.start_soon(take, seconds, leave)
            await anyio.wait_all_tasks_blocked()
        for leave in events.values():
            leave.set()
            await anyio.wait_all_tasks_blocked()
    assert most == [[20_000.0], [16_000.0, 20_000.0], [1.0, 16_000.0], [90_000.0], [0.0]]


async def test_room_that_was_taken_in_tenths_of_a_second_is_all_given_back() -> None:
    """0.1 + 0.2 - 0.1 - 0.2 is not 0."""
    room = _Room()
    async with room.taken(0.1), room.taken(0.2):
        pass
    with anyio.fail_after(60):
        async with room.taken(90_000.0):
            pass


# -------------------------------------------------------------------------------------------------------- mixed spaces


def old_model(video_id: str) -> str:
    return "Marengo-retrieval-2.7" if video_id == "video0002" else "marengo3.0"


async def test_a_second_model_is_refused_with_what_to_do(desk: Desk, index: Path) -> None:
    async with serving(library(3, 12), model=old_model) as server:
        await bring(desk, index, server, space="marengo3.0-16")
        came_to, stopped = await bring(desk, index, server)
    assert came_to.unchanged == 2
    assert isinstance(stopped, UsageError)
    assert str(stopped) == (
        f"video 'video0002' was made by 'Marengo-retrieval-2.7': {index} holds vectors of the space 'marengo3.0-16'; "
        "vectors of 'marengo-retrieval-2.7-16' cannot be compared with them: put them into an index of their own "
        "(`bulk-classify index create`). With --space marengo3.0-16 this import leaves such videos out; with --space "
        "marengo-retrieval-2.7-16 an import into another index takes them alone"
    )


async def test_each_space_can_be_taken_into_an_index_of_its_own(desk: Desk, tmp_path: Path) -> None:
    async with serving(library(3, 12), model=old_model) as server:
        for name, space, count in (("new", "marengo3.0-16", 2), ("old", "marengo-retrieval-2.7-16", 1)):
            create_index(tmp_path / name, name, None)
            came_to, stopped = await bring(desk, tmp_path / name, server, space=space)
            assert (came_to, stopped) == (Imported(listed=3, imported=count, of_other_spaces=3 - count), None)
            assert index_info(tmp_path / name)["space"] == space


# ---------------------------------------------------------------------------------------------------------------- plan


async def test_the_plan_tells_what_the_import_then_takes_and_changes_nothing(desk: Desk, index: Path) -> None:
    async with serving(library(120, 30)) as server:
        server.status["video0003"] = "failed"
        before = index_info(index)
        plan = await plan_import(order(desk, server, MovedClock(), rate=2.0), Wanted(index, "index1"))
        assert index_info(index) == before
        assert Counter(one.kind for one in server.asked) == {"list": 3, "video": 3}
        assert plan == ImportPlan(
            listed=120,
            not_ready=1,
            unchanged=0,
            to_import=119,
            hours=0.992,
            requests=122,
            seconds=61.0,
            models=["marengo3.0"],
            spaces=["marengo3.0-16"],
            looked_at=3,
            estimated_bytes=plan.estimated_bytes,
            estimated_index_bytes=119 * 2 * 5 * DIMENSIONS * 4,
        )
        server.asked.clear()
        await bring(desk, index, server)
        assert len(server.asked) == plan.requests
        assert (await plan_import(order(desk, server), Wanted(index, "index1"))).to_import == 0


async def test_the_plan_of_a_short_list_looks_at_three_videos_too(desk: Desk, index: Path) -> None:
    async with serving(library(3, 12), model=old_model) as server:
        plan = await plan_import(order(desk, server), Wanted(index, "index1"))
    assert (plan.looked_at, plan.spaces) == (3, ["marengo-retrieval-2.7-16", "marengo3.0-16"])


async def test_the_plan_is_printed_as_json(desk: Desk, index: Path) -> None:
    async with serving(library(2, 30)) as server:
        done = await desk.command(*command(index, server), "--plan")
    told = json.loads(done.stdout)
    assert (done.exit_code, done.stderr, told["to_import"], told["spaces"]) == (0, "", 2, ["marengo3.0-16"])


# ------------------------------------------------------------------------------------------------------------ the edge


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        (None, "https://api.twelvelabs.io/v1.3"),
        ("https://proxy.example", "https://proxy.example/v1.3"),
        ("https://proxy.example/", "https://proxy.example/v1.3"),
        ("https://proxy.example/vendor/v1.3", "https://proxy.example/vendor/v1.3"),
    ],
)
def test_a_base_url_gets_the_version_where_it_has_none(given: str | None, asked: str) -> None:
    assert base_url(given) == asked


async def refused(desk: Desk, *arguments: str | Path) -> Finished:
    return await desk.command("index", "import", "vendor", *arguments, "--index-id", "index1")


async def test_the_key_goes_nowhere_in_the_clear_and_an_index_must_exist(desk: Desk, index: Path) -> None:
    done = await refused(desk, index, "--api-url", "http://proxy.example")
    assert (done.exit_code, "https only" in done.stderr) == (2, True)
    missing = desk.folder / "missing.index"
    done = await refused(desk, missing)
    assert (done.exit_code, done.stderr) == (
        2,
        f"error: there is no index at {missing}: `bulk-classify index create` makes one\n",
    )
