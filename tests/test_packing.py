from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.models import JobClass
from pipeline.packing import OPEN_CHUNKS, Packer, prompt_groups


def place_all(packer: Packer, durations: Sequence[float | None]) -> list[int]:
    return [packer.place(duration) for duration in durations]


# --------------------------------------------------------------------------------------------------- videos in chunks


def test_a_video_goes_where_it_leaves_least_room() -> None:
    assert place_all(Packer(100), [60, 70, 80, 20, 30, 40]) == [1, 2, 3, 3, 2, 1]


def test_of_equally_full_chunks_the_older_one_is_filled_first() -> None:
    assert place_all(Packer(100), [60, 60, 40, 40]) == [1, 2, 1, 2]


def test_durations_are_rounded_up_to_whole_seconds() -> None:
    assert place_all(Packer(10), [5.0, 5.0, 4.001, 5.001]) == [1, 1, 2, 3]


def test_a_video_longer_than_the_limit_is_alone_and_one_of_just_the_limit_fits() -> None:
    assert place_all(Packer(100), [10, 101, 100, 100.5, math.inf, 90, 1]) == [1, 2, 3, 4, 5, 1, 6]


def test_unknown_durations_share_chunks_by_number_among_themselves() -> None:
    packer = Packer(100, videos_of_unknown_duration=2)
    assert place_all(packer, [None, 10, None, None, 20, None, None]) == [1, 2, 1, 3, 2, 3, 4]


def test_a_limit_on_videos_holds_for_known_and_unknown_durations() -> None:
    assert place_all(Packer(100, max_videos=2), [1, 1, 1, None, None, None]) == [1, 1, 2, 3, 3, 4]


def test_chunks_that_widen_never_exceed_the_limit_however_many_they_are() -> None:
    assert place_all(Packer(max_videos=10, widening=True), [None] * 40_000)[-1] == 4_000


def test_where_too_many_chunks_are_open_the_fullest_is_closed() -> None:
    assert place_all(Packer(100, open_chunks=2), [60, 90, 70, 10, 30, 40]) == [1, 2, 3, 3, 1, 4]


def test_numbers_go_on_from_the_first_chunk() -> None:
    assert place_all(Packer(100, first_chunk=8), [60, 60, None, 200]) == [8, 9, 10, 11]


durations_seconds = st.none() | st.floats(min_value=0.001, max_value=150) | st.integers(min_value=1, max_value=150)


@given(
    durations=st.lists(durations_seconds, max_size=200),
    max_videos=st.integers(min_value=0, max_value=5),
    unknown=st.integers(min_value=1, max_value=7),
    open_chunks=st.integers(min_value=1, max_value=4),
    first=st.integers(min_value=1, max_value=1000),
)
def test_every_chunk_keeps_every_limit_whatever_comes(
    durations: list[float | None], max_videos: int, unknown: int, open_chunks: int, first: int
) -> None:
    packer = Packer(
        100, max_videos=max_videos, videos_of_unknown_duration=unknown, open_chunks=open_chunks, first_chunk=first
    )
    placed = place_all(packer, durations)

    begun = list(dict.fromkeys(placed))
    assert begun == list(range(first, first + len(begun))), "numbers rise by one with each new chunk"
    chunks: dict[int, list[float | None]] = defaultdict(list)
    for chunk, duration in zip(placed, durations, strict=True):
        chunks[chunk].append(duration)
    for videos in chunks.values():
        known = [duration for duration in videos if duration is not None]
        assert len(known) in {0, len(videos)}, "known and unknown durations never mix"
        assert len(videos) == 1 or sum(math.ceil(duration) for duration in known) <= 100
        assert len(videos) <= (max_videos or len(videos))
        if not known:
            assert len(videos) <= unknown


def lognormal(count: int, seed: int) -> list[float]:
    draws = np.random.default_rng(seed).lognormal(math.log(240), 1.0, count)
    return [float(seconds) for seconds in np.clip(draws, 1, 7200)]


def uniform(count: int, seed: int) -> list[float]:
    return [float(seconds) for seconds in np.random.default_rng(seed).uniform(60, 3600, count)]


@pytest.mark.parametrize("durations_of", [lognormal, uniform])
@pytest.mark.parametrize(
    ("videos", "samples"), [(50, 20), (100, 20), (500, 20), (1_000, 10), (2_000, 10), (10_000, 2), (100_000, 1)]
)
def test_realistic_durations_take_hardly_more_chunks_than_the_lower_bound(
    durations_of: Callable[[int, int], list[float]], videos: int, samples: int
) -> None:
    for seed in range(samples):
        durations = durations_of(videos, seed)
        lower_bound = math.ceil(math.fsum(durations) / 36_000)
        chunks = max(place_all(Packer(), durations))
        assert lower_bound <= chunks <= max(lower_bound + 1, 1.002 * lower_bound)


def test_only_the_open_chunks_are_remembered() -> None:
    packer = Packer()
    place_all(packer, uniform(20_000, seed=1))
    assert len(packer._open) <= OPEN_CHUNKS


# ------------------------------------------------------------------------------------------------- classes in groups


def job_class(name: str, prompts: int) -> JobClass:
    return JobClass(name, tuple(f"{name} {number}" for number in range(prompts)))


def names(groups: tuple[tuple[JobClass, ...], ...]) -> list[list[str]]:
    return [[one.name for one in group] for group in groups]


def test_classes_that_fit_together_stay_as_the_config_has_them() -> None:
    classes = [job_class("b", 30), job_class("a", 40), job_class("c", 30)]
    assert prompt_groups(classes) == (tuple(classes),)


def test_large_classes_are_placed_first_and_the_order_of_the_config_is_kept() -> None:
    classes = [job_class("a", 30), job_class("b", 60), job_class("c", 40), job_class("d", 70)]
    assert names(prompt_groups(classes)) == [["a", "d"], ["b", "c"]]


def test_a_class_of_all_the_prompts_stands_alone() -> None:
    assert names(prompt_groups([job_class("a", 1), job_class("b", 100), job_class("c", 1)])) == [["a", "c"], ["b"]]


def test_no_classes_make_no_group() -> None:
    assert prompt_groups([]) == ()


def test_every_class_with_too_many_prompts_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        prompt_groups([job_class("a", 4), job_class("b", 3), job_class("c", 5)], max_prompts=3)
    assert caught.value.problems == (
        "job.classes: 'a' has 4 prompts, and a request takes at most 3: divide it into several classes",
        "job.classes: 'c' has 5 prompts, and a request takes at most 3: divide it into several classes",
    )


@given(st.lists(st.integers(min_value=1, max_value=100), max_size=60))
def test_every_class_is_in_one_group_and_no_group_is_over_the_limit(sizes: list[int]) -> None:
    classes = [job_class(f"class {position}", size) for position, size in enumerate(sizes)]
    groups = prompt_groups(classes)

    assert Counter(one.name for group in groups for one in group) == Counter(one.name for one in classes)
    assert all(sum(len(one.prompts) for one in group) <= 100 for group in groups)
    positions = [[classes.index(one) for one in group] for group in groups]
    assert all(group == sorted(group) for group in positions)
    assert positions == sorted(positions)
    # First fit: no two groups could be one, so at most one group is half empty or more.
    assert sum(sum(len(one.prompts) for one in group) <= 50 for group in groups) <= 1
