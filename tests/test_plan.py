"""The plan by its figures: POSTs and their bound, windows and time, estimates, what is warned of and hinted at."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.chunks import OpenVideos
from pipeline.config_keys import Config, InputSection, LimitsSection
from pipeline.models import JobClass
from pipeline.packing import prompt_groups
from pipeline.plan import OpenGroup, Plan, Survey, Written, in_words, plan_of, shape_hint
from pipeline.quota import Window
from tests.builders import config

NOW = 1_700_000_000.0
DAY = 86_400.0


def surveyed(chunks: int = 1, groups: int = 1, *, duplicates: int = 0) -> Survey:
    """Nothing is held yet: so many full chunks of 50 videos."""
    videos = 50 * chunks
    seconds = 36_000.0 * chunks
    each = OpenGroup(chunks, seconds)
    return Survey(videos, OpenVideos(videos, seconds, seconds, 0), chunks, (each,) * groups, duplicates)


def planned(survey: Survey, *, asked: Config | None = None, **limits: Any) -> Plan:
    with_limits = msgspec.structs.replace(asked or config(), limits=LimitsSection(**limits))
    return plan_of(survey, with_limits, now=NOW)


def classes(*sizes: int) -> list[JobClass]:
    return [JobClass(f"class {n}", tuple(f"{n}.{p}" for p in range(size))) for n, size in enumerate(sizes)]


# -------------------------------------------------------------------------------------------------------------- POSTs


def test_a_full_chunk_takes_a_post_for_each_prompt_group_and_no_packing_takes_fewer() -> None:
    plan = planned(surveyed(chunks=7, groups=3, duplicates=2))
    assert (plan.videos, plan.open, plan.duplicates, plan.hours) == (350, 350, 2, 70.0)
    assert (plan.chunks, plan.prompt_groups, plan.posts, plan.posts_lower_bound) == (7, 3, 21, 21)


@pytest.mark.parametrize(
    ("group", "least"),
    [
        (OpenGroup(4, 72_000.0), 2),
        (OpenGroup(4, 72_000.5), 3),
        (OpenGroup(4, 0.0), 1),  # of videos whose durations nobody knows
        (OpenGroup(0, 0.0), 0),
        (OpenGroup(1, 36_000.000_000_01), 1),  # what a sum is too large by
    ],
)
def test_the_lower_bound_is_the_seconds_by_ten_hours_rounded_up(group: OpenGroup, least: int) -> None:
    assert planned(replace(surveyed(4), groups=(group,))).posts_lower_bound == least


def test_posts_that_rest_on_a_page_token_are_told_apart() -> None:
    survey = replace(surveyed(2), groups=(OpenGroup(1, 36_000.0, on_tokens=1),))
    assert (planned(survey).posts, planned(survey).posts_on_tokens) == (1, 1)
    assert "and 1 more where page tokens have died" in in_words(planned(survey))[1]


def test_where_nothing_is_open_nothing_is_planned() -> None:
    survey = Survey(20, OpenVideos(0, 0.0, 0.0, 0), 0, (OpenGroup(0, 0.0),), written=Written(20, 60.0, 9_000))
    plan = planned(survey, posts_per_window=20, requests_per_second=1.0)
    assert (plan.posts, plan.windows, plan.seconds, plan.rows, plan.posts_lower_bound) == (0, 0, 0.0, 0, 0)
    assert in_words(plan) == ["videos: 20, 0 of them open; nothing is left to ask for"]


# --------------------------------------------------------------------------------------------------- windows and time


@pytest.mark.parametrize(
    ("limits", "seconds"),
    [
        ({"concurrency": 1}, 20 * 2.0),
        ({"concurrency": 8}, 2.0 + 19 * 2.0 / 8),
        ({"requests_per_second": 1.0, "concurrency": 8}, 2.0 + 19 * 1.0),
        ({"requests_per_second": 1.0, "concurrency": 1}, 2.0 + 19 * 2.0),
    ],
)
def test_the_slower_one_of_rate_and_concurrency_decides(limits: dict[str, Any], seconds: float) -> None:
    plan = planned(surveyed(20), **limits)
    assert (plan.windows, plan.posts_per_window) == (1, None)
    assert plan.seconds == pytest.approx(seconds)


def test_pages_take_their_time_and_under_some_tariffs_their_place_in_the_pace() -> None:
    """50 videos on pages of 10: five requests for each POST."""
    asked = config(include_clips=True)
    assert planned(surveyed(), asked=asked).seconds == pytest.approx(10.0)
    paced = planned(surveyed(20), asked=asked, requests_per_second=1.0, pages_paced=True)
    assert paced.seconds == pytest.approx(10.0 + 19 * 5.0)


@pytest.mark.parametrize(
    ("window", "posts", "windows", "seconds"),
    [
        (None, 20, 1, 0.0),
        (None, 21, 2, DAY),
        (None, 60, 3, 2 * DAY),
        (Window(5, NOW + 1_000), 15, 1, 0.0),
        (Window(5, NOW + 1_000), 16, 2, 1_000.0),
        (Window(20, NOW + 1_000), 16, 1, 1_000.0),
        (Window(25, NOW + 1_000), 36, 2, 1_000.0 + DAY),
        (Window(5, NOW + 1_000, 10), 6, 2, 1_000.0),
        (Window(5, NOW + 1_000, 100), 16, 2, 1_000.0),
        (Window(20, NOW - 1), 20, 1, 0.0),
    ],
)
def test_a_quota_spreads_the_posts_over_windows_of_which_one_may_have_begun(
    window: Window | None, posts: int, windows: int, seconds: float
) -> None:
    plan = planned(replace(surveyed(posts), window=window), posts_per_window=20, concurrency=1024)
    assert plan.windows == windows
    assert plan.seconds == pytest.approx(seconds, abs=2.0 + 20 * 2.0)
    assert f"in {windows} window{'s' * (windows > 1)} of 20" in in_words(plan)[1]


@given(
    posts=st.integers(1, 300),
    limit=st.integers(1, 40),
    window_seconds=st.integers(1, 100),
    rate=st.sampled_from([0.0, 0.5, 3.0]),
    window=st.builds(Window, st.integers(0, 50), st.integers(-5, 100).map(lambda rest: NOW + rest)),
)
def test_time_and_windows_are_those_of_a_run_gone_through_post_by_post(
    posts: int, limit: int, window_seconds: int, rate: float, window: Window
) -> None:
    plan = planned(
        replace(surveyed(posts), window=window),
        posts_per_window=limit,
        window_seconds=window_seconds,
        requests_per_second=rate,
        concurrency=1024,
    )
    step = max(1 / rate if rate else 0.0, 2.0 / posts)
    now, left, ends = 0.0, limit, float(window_seconds)
    if window.resets_at > NOW:
        left, ends = limit - window.used, window.resets_at - NOW
    windows: set[int] = set()
    count = 0
    for _ in range(posts):
        if left <= 0:
            now, left, count = max(now, ends), limit, count + 1
            ends = now + window_seconds
        windows.add(count)
        left -= 1
        now += step
    assert plan.windows == len(windows)
    assert plan.seconds == pytest.approx(now - step + 2.0)


def test_the_end_is_told_in_utc_and_never_beyond_what_can_be_written() -> None:
    plan = planned(surveyed(20), posts_per_window=19)
    assert plan.finishes_at[:16] == "2023-11-15T22:13"
    assert "until 2023-11-15 22:13 UTC" in in_words(plan)[2]
    endless = planned(surveyed(1_000_000), posts_per_window=1, window_seconds=31_536_000)
    assert endless.finishes_at == "9999-12-31T23:59:59.000Z"


# ---------------------------------------------------------------------------------------------------------- estimates


def test_rows_are_guessed_by_a_stated_assumption() -> None:
    """Two classes of 50 videos: 100 rows of scores, 300 of clips where they are asked for, 50 of videos."""
    without = planned(surveyed())
    assert (without.rows, without.bytes) == (150, 100 * 330 + 50 * 190)
    assert without.basis == "if a video matches 2 classes"
    plan = planned(surveyed(), asked=config(include_clips=True))
    assert (plan.rows, plan.bytes) == (450, 100 * 330 + 300 * 290 + 50 * 190)
    assert in_words(plan)[3] == "rows: about 450 (129.5 kB), if a video matches 2 classes with 3 clips each"


def test_rows_are_reckoned_from_those_of_the_run_so_far_where_there_are_some() -> None:
    plan = planned(replace(surveyed(), written=Written(10, 70.0, 2_000)))
    assert (plan.rows, plan.bytes, plan.basis) == (350, 10_000, "as the videos answered so far have")


# ----------------------------------------------------------------------------------------------- warnings, index mode


def test_unknown_durations_over_long_videos_and_skipped_lines_are_warned_of() -> None:
    open_videos = OpenVideos(50, 90_000.0, 72_000.0, 45, too_long=1, first_too_long="video0001")
    plan = planned(replace(surveyed(), open=open_videos, skipped_lines=3), max_videos_per_post=7)
    assert (plan.unknown_durations, plan.too_long, plan.skipped_lines) == (45, 1, 3)
    skipped, unknown, too_long = plan.warnings
    assert skipped == '3 bad lines left out (input.on_bad_line = "skip")'
    assert unknown.startswith("45 videos have no known duration, so a POST takes only 7 (limits.max_videos_per_post); ")
    assert too_long.startswith("1 video longer than 36,000 s, such as video0001: ")
    assert f"warning: {unknown}" in in_words(plan)
    (widening,) = planned(
        replace(surveyed(), open=replace(open_videos, too_long=0)), default_videos_per_post=2_000
    ).warnings
    assert "so the first POST takes only 2,000 (limits.default_videos_per_post), and each a quarter more; " in widening


@pytest.mark.parametrize(
    ("limits", "spent", "stop"),
    [
        ({"max_posts": 10}, 4, 6),
        ({"max_posts": 10}, 12, 0),
        ({"max_posts": 34}, 4, None),
        ({"posts_per_window": 20, "on_quota": "stop"}, 0, 15),
        ({"posts_per_window": 20, "on_quota": "wait"}, 0, None),
        ({"posts_per_window": 20, "on_quota": "stop", "max_posts": 9}, 0, 9),
    ],
)
def test_what_ends_a_run_before_its_last_post_is_told(limits: dict[str, Any], spent: int, stop: int | None) -> None:
    survey = replace(surveyed(30), posts_spent=spent, window=Window(5, NOW + 60))
    plan = planned(survey, **limits)
    assert plan.posts_before_stop == stop
    assert any("code 75" in line for line in plan.warnings) is (stop is not None)


@pytest.mark.parametrize(("chunks", "told"), [(1, None), (2, 3)])
def test_index_mode_is_hinted_at_where_it_takes_fewer_posts(chunks: int, told: int | None) -> None:
    asked = msgspec.structs.replace(config(), input=InputSection(ids=("/ids.txt",), index_id="index1"))
    plan = planned(surveyed(chunks, groups=3), asked=asked)
    assert plan.posts_in_index_mode == told
    hint = 'hint: input.mode = "index" takes 3 POSTs for the whole index, with rows for each video in it'
    assert (hint in in_words(plan)) is (told is not None)
    assert planned(surveyed(chunks, groups=3)).posts_in_index_mode is None


# ---------------------------------------------------------------------------------------------------- shapes of classes


@pytest.mark.parametrize(
    ("sizes", "end"),
    [
        (
            (34,) * 9,
            "take 5 prompt groups, each a POST for each chunk; with at most 33 prompts a class they would take 3",
        ),
        (
            (34,) * 3,
            "take 2 prompt groups, each a POST for each chunk; with at most 33 prompts a class they would take 1",
        ),
        (
            (51, 50),
            "take 2 prompt groups, each a POST for each chunk; with at most 50 prompts a class they would take 1",
        ),
        (
            (60,) * 4,
            "and 3 would hold them: classes of 50, 33 or 25 prompts share a request without a rest",
        ),
    ],
)
def test_a_wasteful_shape_of_classes_is_told_with_what_a_better_one_takes(sizes: tuple[int, ...], end: str) -> None:
    assert str(shape_hint(classes(*sizes))).endswith(end)


@pytest.mark.parametrize("sizes", [(3,), (34, 34), (100, 100, 100), (33,) * 9, (50,) * 5, (60, 40, 99, 1)])
def test_classes_that_fill_their_requests_get_no_hint(sizes: tuple[int, ...]) -> None:
    assert shape_hint(classes(*sizes)) is None


@given(st.lists(st.integers(1, 100), min_size=1, max_size=40))
def test_a_hint_promises_fewer_prompt_groups_than_there_are(sizes: list[int]) -> None:
    hint = shape_hint(classes(*sizes))
    groups = len(prompt_groups(classes(*sizes)))
    if hint is not None and "they would take" in hint:
        most = int(hint.partition("at most ")[2].split()[0])
        promised = int(hint.rpartition(" ")[2])
        assert promised == len(prompt_groups(classes(*(min(size, most) for size in sizes)))) < groups


@pytest.mark.parametrize(
    ("size", "told"), [(999, "999 bytes"), (1_000, "1.0 kB"), (2_500_000, "2.5 MB"), (7 * 10**13, "70.0 TB")]
)
def test_sizes_are_told_in_round_units(size: int, told: str) -> None:
    survey = replace(surveyed(), written=Written(50, 1.0, size))
    assert f"({told})" in in_words(planned(survey))[3]


@pytest.mark.parametrize(
    ("window", "room"),
    [
        (Window(5, NOW + 60, 12), 7),
        (Window(5, NOW + 60, None, NOW + 3_600), 0),
        (Window(5, NOW - 60, None, NOW + 3_600), 0),
        (Window(5, NOW - 60, 12, NOW - 60), None),
    ],
    ids=["a told limit", "closed", "closed beyond its end", "all over"],
)
def test_what_the_platform_has_told_of_its_quota_counts_where_the_user_states_none(
    window: Window, room: int | None
) -> None:
    plan = planned(replace(surveyed(30), window=window), posts_per_window=0, on_quota="stop")
    assert plan.posts_before_stop == room
    assert plan.windows == (1 if room in {None, 0} else 2)
