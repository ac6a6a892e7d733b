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
    fit.learn(videos_of(20_000, 15_000), 36_000.5)  # 2.9 per cent: it may be one wrong duration
    assert fit.max_seconds == int(36_000 / 1.0055)
    fit.learn(videos_of(35_000), 36_050)  # 3 per cent, once more
    assert fit.max_seconds == int(36_000 / (36_000.5 / 35_000 + 0.0005))


def test_a_refusal_of_unknown_durations_tells_how_many_fit() -> None:
    fit = Fit()
    fit.learn(videos_of(*[None] * 80), 48_000)
    assert fit.most_unknown == 57  # sixty, less what the next may be longer by
    fit.learn(videos_of(*[None] * 57), 40_000)
    assert (fit.most_unknown, len(fit.kept(videos_of(*[None] * 80)))) == (48, 48)


def test_what_was_taught_outlives_the_process() -> None:
    fit = Fit()
    fit.learn(videos_of(36_000), 36_010.5)
    assert Fit.remembered(fit.text()) == fit
    assert Fit.remembered(None) == Fit()


durations = st.lists(st.floats(0.5, 40_000), min_size=1, max_size=60)


@given(durations, st.floats(1.0, 1.5))
def test_what_is_kept_fits_or_is_nothing_and_no_video_too_many_is_taken_out(known: list[float], factor: float) -> None:
    fit, videos = Fit(), videos_of(*known)
    for _ in range(2):
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


async def test_videos_of_unknown_duration_go_together_in_growing_numbers_until_one_post_is_refused(desk: Desk) -> None:
    videos = library(600, 600)  # sixty fit
    async with ContractServer(videos, key=KEY) as server:
        desk.write_ids(dict.fromkeys(videos, None))
        desk.write_config(server.url, limits__concurrency=1)
        assert (await run(desk.order(timer=MovedClock().timer))).exit_code == 0
        desk.check(server, videos)
    sizes = [len(post.video_ids) for post in server.posts]
    assert sizes[:6] == [20, 25, 32, 40, 50, 63]
    assert (server.refused, max(sizes[6:]), server.reposts) == (1, 57, 0)
    assert len(server.posts) <= 15


async def test_what_was_learnt_of_unknown_durations_holds_for_those_of_next_week(desk: Desk) -> None:
    videos = library(400, 600)
    async with ContractServer(videos, key=KEY) as server:
        desk.write_ids(dict.fromkeys(list(videos)[:300], None))
        desk.write_config(server.url, limits__concurrency=1)
        assert (await desk.run()).exit_code == 0
        before = len(server.posts)
        desk.write_ids(dict.fromkeys(videos, None))
        assert (await desk.run()).exit_code == 0
        desk.check(server, videos)
    assert [len(post.video_ids) for post in server.posts[before:]] == [57, 43]
