"""Every way in which a run is stopped from outside, and what may go on afterwards: by whom, where, and what changed.

The commands are real processes. A server that holds a request back tells when a run is in the midst of its work, so no
test depends on how long anything takes.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import Process

from pipeline.errors import RunHeld, UsageError
from pipeline.rows import FAILURES
from pipeline.rundir import RUN_JSON, held
from tests.runs import CLASSES, KEY, Desk, faults, library
from tests.servers.contract import ContractServer, Delay, Fault, RequestSeen, Status

LONG = 30.0
"""Seconds of a delay that nobody waits for to its end: by then the client is stopped or killed."""
BY_TENS: dict[str, object] = {"limits__max_videos_per_post": 10, "limits__concurrency": 1}


class Moment:
    """Delays one kind of request from a number on, and tells when that one has come."""

    def __init__(self, kind: str, number: int, seconds: float = LONG) -> None:
        self.come = anyio.Event()
        self.over = False
        self._kind, self._number, self._seconds = kind, number, seconds

    async def arrives(self) -> None:
        with anyio.fail_after(120):
            await self.come.wait()

    def __call__(self, seen: RequestSeen) -> Fault | None:
        if self.over or seen.kind != self._kind or seen.number < self._number:
            return None
        self.come.set()
        return Delay(self._seconds)


async def ended(process: Process) -> int:
    with anyio.fail_after(120):
        return await process.wait()


def stored_limit(desk: Desk, name: str) -> object:
    """A limit in the configuration that the run directory keeps."""
    return json.loads((desk.out / RUN_JSON).read_bytes())["config"]["limits"][name]


# ------------------------------------------------------------------------------------------------------------ signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_drains_says_how_to_go_on_and_a_resume_ends_the_run(desk: Desk, number: signal.Signals) -> None:
    videos = library(60)
    moment = Moment("post", 3, seconds=0.5)
    async with ContractServer(videos, key=KEY, faults=moment) as server:
        desk.write_ids(videos)
        desk.write_config(server.url, limits__max_videos_per_post=10, limits__concurrency=2)
        process = await desk.start("run", desk.config)
        await moment.arrives()
        process.send_signal(number)
        assert await ended(process) == 130
        sent = len(server.posts)
        assert sent < 6, "the run was over before the signal"
        assert f"error: stopped by {number.name}" in desk.stderr
        assert f"next: bulk-classify resume {desk.out}" in desk.stderr
        assert desk.status().posts["unknown"] == 0
        moment.over = True
        assert (await desk.command("resume", desk.out)).exit_code == 0
        desk.check(server, videos)
    # What was under way was finished and kept: no answer was paid for twice.
    assert (server.reposts, len(server.posts)) == (0, 6)


async def test_a_signal_within_a_walk_keeps_its_pages_and_the_resume_goes_on_from_its_token(desk: Desk) -> None:
    videos = library(55)
    moment = Moment("page", 2, seconds=0.3)
    async with ContractServer(videos, key=KEY, faults=moment) as server:
        desk.write_ids(videos)
        desk.write_config(server.url)
        process = await desk.start("run", desk.config)
        await moment.arrives()
        process.terminate()
        assert await ended(process) == 130
        moment.over = True
        assert (await desk.command("resume", desk.out)).exit_code == 0
        desk.check(server, videos)
    shown = [one for request in (*server.posts, *server.pages) for one in request.shown]
    assert (len(server.posts), len(shown)) == (1, len(set(shown)))


async def test_a_drain_that_lasts_too_long_is_cut_off_and_its_posts_are_of_unknown_fate(desk: Desk) -> None:
    videos = library(20)
    moment = Moment("post", 2)
    async with ContractServer(videos, key=KEY, faults=moment) as server:
        desk.write_ids(videos)
        desk.write_config(server.url, limits__drain_seconds=0.1, **BY_TENS)
        process = await desk.start("run", desk.config)
        await moment.arrives()
        process.terminate()
        assert await ended(process) == 130
        assert (desk.status().open, desk.status().posts["unknown"]) == (10, 1)


@pytest.mark.parametrize(
    ("first", "second"), [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGHUP)], ids=["twice", "two kinds"]
)
async def test_a_second_signal_ends_at_once_and_a_resume_ends_the_run(
    desk: Desk, first: signal.Signals, second: signal.Signals
) -> None:
    videos = library(20)
    moment = Moment("post", 2)
    async with ContractServer(videos, key=KEY, faults=moment) as server:
        desk.write_ids(videos)
        desk.write_config(server.url, **BY_TENS)
        process = await desk.start("run", desk.config)
        await moment.arrives()
        process.send_signal(first)
        with anyio.fail_after(120):
            while "once more ends at once" not in desk.stderr:  # noqa: ASYNC110 - no event tells of a line
                await anyio.sleep(0.01)  # Two signals at once would be one.
        process.send_signal(second)
        assert await ended(process) == 130
        moment.over = True
        assert (await desk.command("resume", desk.out)).exit_code == 0
        desk.check(server, videos)


async def test_a_signal_when_nothing_is_left_to_send_ends_the_run_as_it_would_have_ended(desk: Desk) -> None:
    videos = library(20)
    moment = Moment("post", 2, seconds=0.5)
    async with ContractServer(videos, key=KEY, faults=moment) as server:
        desk.write_ids(videos)
        desk.write_config(server.url, **BY_TENS)
        process = await desk.start("run", desk.config)
        await moment.arrives()
        process.terminate()
        assert await ended(process) == 0
        desk.check(server, videos)
    assert "SIGTERM: finishing the requests under way" in desk.stderr
    assert "error: " not in desk.stderr


async def test_under_nohup_a_hangup_stops_nothing(desk: Desk) -> None:
    videos = library(30)
    moment = Moment("post", 2, seconds=0.5)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # As nohup does; what is ignored stays so over exec.
    async with ContractServer(videos, key=KEY, faults=moment) as server:
        desk.write_ids(videos)
        desk.write_config(server.url, **BY_TENS)
        process = await desk.start("run", desk.config)
        await moment.arrives()
        process.send_signal(signal.SIGHUP)
        assert await ended(process) == 0
        desk.check(server, videos)


# ------------------------------------------------------------------------------------------------------------- killed


@pytest.mark.parametrize(("kind", "number"), [("post", 1), ("post", 4), ("page", 3)])
async def test_after_a_kill_the_rows_are_those_of_a_run_that_nobody_disturbed(
    desk: Desk, kind: str, number: int
) -> None:
    videos = library(88)
    concurrency = 3
    moment = Moment(kind, number)
    async with ContractServer(videos, key=KEY, faults=moment) as server:
        desk.write_ids(videos)
        settings = {"limits__max_videos_per_post": 11, "limits__concurrency": concurrency}
        desk.write_config(server.url, job__page_limit=3, **settings)
        process = await desk.start("run", desk.config)
        await moment.arrives()
        process.kill()
        assert await ended(process) == -signal.SIGKILL
        moment.over = True
        finished = await desk.command("run", desk.config)
        assert finished.exit_code == 0
        desk.check(server, videos, answers_lost=True)
    assert 8 <= len(server.posts) <= 8 + concurrency
    assert [row["video_id"] for row in desk.rows(FAILURES)] == []


# ------------------------------------------------------------------------------------------------------ two processes


async def test_a_run_that_another_process_holds_is_code_73(desk: Desk) -> None:
    desk.write_ids(library(2))
    desk.write_config("http://127.0.0.1:1/v1.2")
    desk.out.mkdir()
    with held(desk.out):
        finished = await desk.command("run", desk.config)
    assert finished.exit_code == 73
    assert finished.stderr.startswith(f"error: {desk.out}: another process is working on this run")
    assert len(finished.stderr.splitlines()) == 1


async def test_a_second_run_of_an_account_is_code_73_and_says_who_holds_it_until_that_one_is_gone(desk: Desk) -> None:
    videos = library(20)
    moment = Moment("post", 1)
    async with ContractServer(videos, key=KEY, faults=moment) as server:
        desk.write_ids(videos)
        desk.write_config(server.url)
        first = await desk.start("run", desk.config)
        await moment.arrives()
        refused = await desk.command("run", desk.config, "--out", "second")
        assert refused.exit_code == 73
        assert f"another run of this account is at work on this machine: process {first.pid}, {desk.out}" in (
            refused.stderr
        )
        assert len(server.posts) == 1
        first.kill()
        await ended(first)
        moment.over = True
        assert (await desk.command("run", desk.config, "--out", "second")).exit_code == 0
        assert (await desk.command("resume", desk.out)).exit_code == 0
        desk.check(server, videos, answers_lost=True)


async def test_an_account_is_a_name_at_one_platform_and_stands_above_the_key(desk: Desk) -> None:
    """Runs of two accounts go on beside each other, also with one key; runs of one account do not, also with two."""
    moment = Moment("post", 1)
    desk.write_ids(library(5))
    async with ContractServer(library(5), key=KEY, faults=moment) as busy, ContractServer(library(5), key=KEY) as idle:
        desk.write_config(busy.url, api__account="team-a")
        first = await desk.start("run", desk.config)
        await moment.arrives()
        moment.over = True
        same = await desk.command("run", desk.config, "--out", "same", TWELVELABS_API_KEY="another-key")
        otherwise = busy.url.replace("http://127.0.0.1", "HTTP://LOCALHOST").replace("v1.2", "v1.1")
        spelled = await desk.command("run", desk.config, "--out", "spelled", "--api-url", otherwise)
        desk.write_config(busy.url, api__account="team-b")
        other_account = await desk.command("run", desk.config, "--out", "other account")
        desk.write_config(idle.url, api__account="team-a")
        other_platform = await desk.command("run", desk.config, "--out", "other platform")
        first.kill()
        await ended(first)
    assert [one.exit_code for one in (same, spelled, other_account, other_platform)] == [73, 73, 0, 0]


# ---------------------------------------------------------------------------------------------------- another place


@pytest.mark.parametrize("where", ["absolute", "relative", "from elsewhere", "."])
async def test_a_moved_directory_goes_on_from_its_new_place_and_needs_neither_config_nor_list(
    desk: Desk, where: str
) -> None:
    videos = library(30)
    async with ContractServer(videos, key=KEY) as server:
        desk.write_ids(videos)
        desk.write_config(server.url, limits__max_posts=1, **BY_TENS)
        assert (await desk.run()).exit_code == 75
        place = desk.folder / "archive" / "of may" / "out"
        place.parent.mkdir(parents=True)
        desk.out.rename(place)
        desk.config.unlink()
        (desk.folder / "ids.csv").unlink()
        spellings: dict[str, tuple[Path, str | Path]] = {
            "absolute": (desk.folder, place),
            "relative": (desk.folder, "archive/of may/out"),
            "from elsewhere": (desk.folder / "archive", "./of may/../of may/out/"),
            ".": (place, "."),
        }
        cwd, name = spellings[where]
        finished = await Desk(cwd).command("resume", name, "--set", "limits.max_posts=0")
        assert (finished.exit_code, desk.out.exists()) == (0, False)
        Desk(place.parent).check(server, videos)
    assert (len(server.posts), server.reposts) == (3, 0)


# --------------------------------------------------------------------------------------------------------- another job


OTHER_PROMPTS = ({**CLASSES[0], "prompts": ["Tango"]}, *CLASSES[1:])
RENAMED = ({**CLASSES[0], "name": "TangoTok"}, *CLASSES[1:])
ANOTHER_OPTION = ({**CLASSES[0], "options": ["conversation"]}, *CLASSES[1:])


@pytest.mark.parametrize(
    ("changes", "differences"),
    [
        ({"job.include_clips": False}, ["job.include_clips: was True, is False"]),
        ({"job.show_detailed_score": False}, ["job.show_detailed_score: was True, is False"]),
        ({"job.options": ["visual", "conversation"]}, ["job.options: was ('visual',), is ('visual', 'conversation')"]),
        ({"job.conversation_option": "exact_match"}, ["job.conversation_option: was "]),
        ({"job.classes": OTHER_PROMPTS}, ["job.classes: 'DanceTok' has other prompts or options"]),
        ({"job.classes": ANOTHER_OPTION}, ["job.classes: 'DanceTok' has other prompts or options"]),
        ({"job.classes": RENAMED}, ["job.classes: 'TangoTok' is new", "job.classes: 'DanceTok' is gone"]),
        ({"job.classes": CLASSES[:2]}, ["job.classes: 'PetTok' is gone"]),
        ({"job.classes": [*CLASSES, {"name": "New", "prompts": ["x"]}]}, ["job.classes: 'New' is new"]),
        ({"job.classes": CLASSES[::-1]}, ["job.classes: the order of the classes is another"]),
        ({"job.threshold": {"min_clip_score": 2}}, ["job.threshold: was "]),
        (
            {"job.include_clips": False, "job.classes": CLASSES[:2]},
            ["job.classes: 'PetTok' is gone", "job.include_clips: was True, is False"],
        ),
    ],
)
async def test_another_job_in_the_same_directory_is_refused_by_what_differs(
    desk: Desk, changes: dict[str, Any], differences: list[str]
) -> None:
    videos = library(5)
    async with ContractServer(videos, key=KEY) as server:
        desk.write_ids(videos)
        desk.write_config(server.url)
        await desk.run()
        stored = (desk.out / RUN_JSON).read_bytes()
        desk.write_config(server.url, **changes)
        with pytest.raises(UsageError) as caught:
            await desk.run()
    assert caught.value.exit_code == 2
    for difference in differences:
        assert f"  {difference}" in str(caught.value)
    assert len(server.posts) == 1
    assert (desk.out / RUN_JSON).read_bytes() == stored


async def test_how_it_is_sent_may_change_from_run_to_run(desk: Desk) -> None:
    videos = library(20)
    async with ContractServer(videos, key=KEY) as server:
        desk.write_ids(library(10))
        desk.write_config(server.url)
        await desk.run()
        desk.write_ids(videos)
        settings = {"limits__max_videos_per_post": 5, "limits__concurrency": 2, "notify__command": ["true"]}
        desk.write_config(server.url, job__page_limit=3, api__account="team-a", name="another", **settings)
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos)
    assert len(server.posts) == 1 + 2


async def test_the_same_platform_may_have_another_address(desk: Desk) -> None:
    videos = library(20)
    desk.write_ids(videos)
    async with ContractServer(videos, key=KEY) as before:
        desk.write_config(before.url, limits__max_posts=1, **BY_TENS)
        assert (await desk.run()).exit_code == 75
    async with ContractServer(videos, key=KEY) as server:
        desk.write_config(server.url, **BY_TENS)
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos)
    assert len(before.posts) == len(server.posts) == 1


async def test_a_platform_with_another_scale_is_code_2_and_its_answer_is_not_mixed_in(desk: Desk) -> None:
    videos = library(20)
    body = b'{"data": [], "page_info": {"total_results": 0}}'
    other_scale = Status(200, body, {"Content-Type": "application/json", "X-Score-Source": "local/other/1"})
    desk.write_ids(videos)
    async with ContractServer(videos, key=KEY, faults=faults(("post", 2, other_scale))) as server:
        desk.write_config(server.url, **BY_TENS)
        finished = await desk.command("run", desk.config)
        assert (finished.exit_code, desk.status().open) == (2, 10)
        assert (
            "error: the scores now come from local/other/1, those of this run from twelvelabs/v1.2" in finished.stderr
        )
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos)


async def test_a_limit_that_a_resume_changes_is_kept_for_the_next_one(desk: Desk) -> None:
    videos = library(40)
    async with ContractServer(videos, key=KEY) as server:
        desk.write_ids(videos)
        desk.write_config(server.url, limits__max_posts=1, **BY_TENS)
        assert (await desk.run()).exit_code == 75
        assert (await desk.command("resume", desk.out, "--set", "limits.max_posts=2")).exit_code == 75
        assert (len(server.posts), stored_limit(desk, "max_posts")) == (2, 2)
        again = await desk.command("resume", desk.out, "--set", "limits.concurrency=3")
        assert (again.exit_code, len(server.posts)) == (75, 2)
        assert "limits.max_posts = 2" in again.stderr
        assert (stored_limit(desk, "max_posts"), stored_limit(desk, "concurrency")) == (2, 3)
        assert (await desk.command("resume", desk.out, "--set", "limits.max_posts=0")).exit_code == 0
        desk.check(server, videos)
    assert server.reposts == 0


async def test_a_resume_changes_nothing_but_limits_and_those_only_to_what_is_allowed(desk: Desk) -> None:
    async with ContractServer(library(5), key=KEY) as server:
        desk.write_ids(library(5))
        desk.write_config(server.url)
        await desk.run()
        stored = (desk.out / RUN_JSON).read_bytes()
        changes = ["job.page_limit=5", "api.url=https://elsewhere.example", "input.ids=x", "output.dir=y", "name=z"]
        wrong = ["limits.concurrency=0", "limits.max_post=1"]
        finished = await desk.command("resume", desk.out, *(f"--set={one}" for one in (*changes, *wrong)))
    assert finished.exit_code == 2
    for name in ("job.page_limit", "api.url", "input.ids", "output.dir", "name"):
        assert f"error: {name}: only limits may change in a run that has begun" in finished.stderr.splitlines()
    assert "limits.concurrency = 0" in finished.stderr
    assert "limits.max_post" in finished.stderr
    assert (desk.out / RUN_JSON).read_bytes() == stored


# --------------------------------------------------------------------------------------------------------- no run there


@pytest.mark.parametrize("command", ["resume", "retry", "status", "verify"])
async def test_a_directory_without_a_run_is_code_2_in_one_line_and_left_as_it_is(desk: Desk, command: str) -> None:
    desk.out.mkdir()
    for place in (desk.out, desk.folder / "nowhere"):
        finished = await desk.command(command, place)
        assert (finished.exit_code, finished.stdout) == (2, "")
        assert (
            finished.stderr
            == f"error: {place}: not a run directory (it has no {RUN_JSON}); give the --out or output.dir of a run\n"
        )
        assert not place.exists() or not list(place.iterdir())


async def test_the_directory_stays_free_when_a_run_that_held_it_is_refused(desk: Desk) -> None:
    """A refusal lets go of every lock: the next command is not told that somebody is at work."""
    videos = library(5)
    async with ContractServer(videos, key=KEY) as server:
        desk.write_ids(videos)
        desk.write_config(server.url)
        await desk.run()
        desk.write_config(server.url, CLASSES[:2])
        for _ in range(2):
            with pytest.raises(UsageError):
                await desk.run()
        with held(desk.out), pytest.raises(RunHeld):
            await desk.run()
        desk.write_config(server.url)
        assert (await desk.run()).exit_code == 0


async def test_a_run_whose_input_was_never_taken_in_cannot_be_resumed(desk: Desk) -> None:
    async with ContractServer(library(5), key=KEY) as server:
        desk.write_ids({"b@d": 1.0})
        desk.write_config(server.url)
        assert (await desk.command("run", desk.config)).exit_code == 2
        finished = await desk.command("resume", desk.out)
    assert finished.exit_code == 2
    assert "run" in finished.stderr
