"""Durations that are wrong or not known: what refusals teach, and what whole runs cost then."""

from __future__ import annotations

import random
from collections.abc import Sequence
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.fitting import Fit
from pipeline.models import MAX_SECONDS, Video
from pipeline.run import run
from tests.runs import KEY, Desk, MovedClock, library
from tests.servers.contract import ContractServer


def videos_of(*durations: float | None) -> list[Video]:
    return [Video(f"v{number}", seconds) for number, seconds in enumerate(durations)]


def names(videos: Sequence[Video]) -> list[str]:
    return [video.video_id for video in videos]


# ------------------------------------------------------------------------------------------------- what refusals teach


def test_before_anything_is_refused_ten_hours_fit_and_any_number_of_unknown_durations() -> None:
    assert Fit().max_seconds == MAX_SECONDS
    assert len(Fit().kept(videos_of(*[None] * 500))) == 500
    assert names(Fit().kept(videos_of(30_000, 5_999.5))) == ["v0", "v1"]


def test_the_smallest_video_that_is_enough_is_taken_out() -> None:
    assert names(Fit().kept(videos_of(20_000, 10_000, 300, 200, 5_700))) == ["v0", "v1", "v2", "v4"]


def test_where_no_video_is_enough_the_longest_go_first() -> None:
    assert len(Fit().kept(videos_of(*[300.0] * 125))) == 120


def test_a_refusal_shortens_all_by_its_share_and_a_little() -> None:
    fit = Fit()
    fit.learn(videos_of(20_000, 16_000), 36_180.0)  # half a per cent more than we knew
    assert fit.max_seconds == int(36_000 / 1.0055)


def test_a_large_share_counts_when_it_was_seen_three_times_and_a_huge_one_never() -> None:
    fit = Fit()
    for total, shortest in ((36_750.0, 36_000), (36_800.0, 36_000), (1e12, 36_000), (36_900.0, int(36_000 / 1.0505))):
        fit.learn(videos_of(35_000), total)
        assert fit.max_seconds == shortest


def test_two_refusals_of_unknown_durations_tell_how_many_fit() -> None:
    fit = Fit()
    learnt = []
    # One of the first may be endless. Sixty would have fitted of the second: less what the next may be longer by.
    for number, total in ((63, 58_600), (80, 48_000), (57, 40_000)):
        fit.learn(videos_of(*[None] * number), total)
        learnt.append(fit.most_unknown)
    assert learnt == [None, 57, 48]
    assert len(fit.kept(videos_of(*[None] * 80))) == 48


def test_what_was_taught_outlives_the_process() -> None:
    fit = Fit()
    fit.learn(videos_of(36_000), 36_010.5)
    assert Fit.remembered(fit.text()) == fit
    assert Fit.remembered(None) == Fit()


durations = st.lists(st.floats(0.5, 40_000), min_size=1, max_size=60)


@given(durations, st.floats(1.0, 1.3))
def test_what_is_kept_fits_or_is_nothing_and_no_video_too_many_is_taken_out(known: list[float], factor: float) -> None:
    fit, videos = Fit(), videos_of(*known)
    for _ in range(3):
        fit.learn(videos_of(MAX_SECONDS), MAX_SECONDS * factor)
    kept = fit.kept(videos)
    assert sum(ceil(video.duration_seconds or 0) for video in kept) <= fit.max_seconds <= MAX_SECONDS
    taken_out = [video for video in videos if video not in kept]
    for one in taken_out:
        others = [video for video in videos if video is one or video in kept]
        assert sum(ceil(video.duration_seconds or 0) for video in others) > fit.max_seconds


# ---------------------------------------------------------------------------------------------------------- whole runs


def drawn(count: int, seed: int) -> dict[str, float]:
    """Durations as those of real videos are: lognormal, median four minutes, at most two hours."""
    dice = random.Random(seed)
    return {one: min(dice.lognormvariate(5.48, 1), 7_200) for one in library(count)}


@pytest.mark.parametrize(("low", "high"), [(0.995, 1.005), (0.995, 0.995)], ids=["either way", "all too short"])
async def test_durations_that_are_half_a_per_cent_wrong_cost_four_per_cent_at_most(
    desk: Desk, low: float, high: float
) -> None:
    true, dice = drawn(6_000, 1), random.Random(2)
    bound = ceil(sum(true.values()) / MAX_SECONDS)
    async with ContractServer(true, key=KEY) as server:
        desk.write_ids({one: seconds * dice.uniform(low, high) for one, seconds in true.items()})
        desk.write_config(server.url, job__include_clips=False, job__show_detailed_score=False, job__page_limit=50)
        assert (await desk.run()).exit_code == 0
    assert desk.status().scored + desk.status().no_match == 6_000
    assert (server.reposts, bound) == (0, 65)
    assert server.refused <= 2
    assert len(server.posts) <= 1.04 * bound


async def test_one_wrong_duration_shortens_nothing_but_its_own_chunk(desk: Desk) -> None:
    videos = library(600, 600)
    async with ContractServer(videos | {"video0007": 9_000.0}, key=KEY) as server:
        desk.write_ids(videos)
        desk.write_config(server.url)
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos)
    assert (server.refused, len(server.posts)) == (1, 10 + 2)


async def test_videos_of_unknown_duration_go_together_in_growing_numbers_until_posts_are_refused(desk: Desk) -> None:
    videos = library(600, 600)  # sixty fit
    async with ContractServer(videos, key=KEY) as server:
        desk.write_ids(dict.fromkeys(videos, None))
        desk.write_config(server.url, limits__concurrency=1)
        assert (await run(desk.order(timer=MovedClock().timer))).exit_code == 0
        desk.check(server, videos)
    sizes = [len(post.video_ids) for post in server.posts]
    assert sizes[:7] == [20, 25, 32, 40, 50, 63, 79]
    assert (server.refused, max(sizes[7:]), server.reposts) == (2, 57, 0)
    assert len(server.posts) <= 16


async def test_what_was_learnt_of_unknown_durations_holds_for_those_of_next_week(desk: Desk) -> None:
    videos = library(500, 600)
    async with ContractServer(videos, key=KEY) as server:
        desk.write_ids(dict.fromkeys(list(videos)[:400], None))
        desk.write_config(server.url, limits__concurrency=1)
        assert (await desk.run()).exit_code == 0
        before = len(server.posts)
        desk.write_ids(dict.fromkeys(videos, None))
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos)
    assert [len(post.video_ids) for post in server.posts[before:]] == [57, 43]


@pytest.mark.parametrize("known", [True, False])
async def test_one_endless_video_shortens_nothing_for_long(desk: Desk, known: bool) -> None:
    videos = library(1_200, 300)
    async with ContractServer(videos | {"video0100": 40_000.0}, key=KEY) as server:
        desk.write_ids(videos if known else dict.fromkeys(videos, None))
        desk.write_config(server.url, job__include_clips=False, job__show_detailed_score=False)
        assert (await run(desk.order(timer=MovedClock().timer))).exit_code == 3
    assert desk.failures() == {"video0100": "parameter_invalid"}
    assert len(server.posts) <= (10 if known else 18) + 14  # halved until it stands alone
