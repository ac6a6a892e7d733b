"""Failed videos are taken again: those that can succeed, those of a code, or all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.order import Retry
from pipeline.rows import FAILURES
from pipeline.run import run
from tests.runs import KEY, Desk, library
from tests.servers.contract import ContractServer, Fault, MissingVideos, RequestSeen

VIDEOS = library(12)
UNKNOWN = {"nowhere1": 30.5, "nowhere2": 30.5}


@dataclass
class Platform:
    """A server that, while it owes, leaves a video out wherever a certain one is asked for."""

    desk: Desk
    server: ContractServer
    owes: bool = True

    def posted_since(self, number: int) -> list[set[str]]:
        return [set(post.video_ids) for post in self.server.posts[number:]]


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[Platform]:
    """A run that ended with failures: two ids that nobody knows, and videos that were never shown."""

    def fault(seen: RequestSeen) -> Fault | None:
        is_owed = "video0007" in seen.video_ids
        return MissingVideos(1) if one.owes and seen.kind == "post" and is_owed else None

    async with ContractServer(VIDEOS, key=KEY, faults=fault) as server:
        one = Platform(Desk(tmp_path), server)
        one.desk.write_ids(VIDEOS | UNKNOWN)
        one.desk.write_config(server.url, limits__concurrency=1)
        assert (await one.desk.run()).exit_code == 3
        one.owes = False
        yield one


def failed_with(desk: Desk, code: str) -> set[str]:
    return {video_id for video_id, why in desk.failures().items() if why == code}


async def test_only_what_can_succeed_is_taken_again(platform: Platform) -> None:
    desk, before = platform.desk, len(platform.server.posts)
    owed = failed_with(desk, "incomplete_answer")
    assert owed
    assert failed_with(desk, "resource_not_exist") == set(UNKNOWN)
    assert {row["video_id"] for row in desk.rows(FAILURES) if row["retryable"]} == owed
    assert desk.status().next_command == f"bulk-classify retry {desk.out}"

    outcome = await run(desk.order(read_input=False, retry=Retry()))
    assert outcome.exit_code == 3
    assert platform.posted_since(before) == [owed]
    assert set(desk.failures()) == set(UNKNOWN)
    assert desk.status().posts_by_reason["retry"] == 1
    assert desk.status().next_command is None
    desk.check(platform.server, VIDEOS)


async def test_a_code_names_what_is_taken_again_whatever_its_chance(platform: Platform) -> None:
    before = len(platform.server.posts)
    codes = frozenset({"resource_not_exist"})
    assert (await run(platform.desk.order(read_input=False, retry=Retry(codes)))).exit_code == 3
    assert all(posted <= set(UNKNOWN) for posted in platform.posted_since(before))
    assert failed_with(platform.desk, "resource_not_exist") == set(UNKNOWN)


async def test_all_means_all(platform: Platform) -> None:
    failed, before = set(platform.desk.failures()), len(platform.server.posts)
    assert (await run(platform.desk.order(read_input=False, retry=Retry(every=True)))).exit_code == 3
    assert set.union(*platform.posted_since(before)) == failed
    assert set(platform.desk.failures()) == set(UNKNOWN)


async def test_the_command_says_what_it_does(platform: Platform) -> None:
    ended = await platform.desk.command("retry", platform.desk.out, "--code", "incomplete_answer")
    assert ended.exit_code == 3, ended.stderr
    assert ended.stderr.splitlines()[0].startswith("retry: ")
    assert set(platform.desk.failures()) == set(UNKNOWN)


async def test_a_code_that_no_failure_has_and_that_nobody_knows_is_refused_with_those_that_there_are(
    platform: Platform,
) -> None:
    before = len(platform.server.posts)
    with pytest.raises(UsageError) as refused:
        await run(platform.desk.order(read_input=False, retry=Retry(frozenset({"timed_out", "resource_not_exits"}))))
    there = ", ".join(platform.desk.status().failures)
    assert str(refused.value) == f"--code resource_not_exits: no failed video has this code; there are: {there}"
    assert (await run(platform.desk.order(read_input=False, retry=Retry(frozenset({"timed_out"}))))).exit_code == 3
    assert len(platform.server.posts) == before
