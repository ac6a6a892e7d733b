"""A walk tells of one state of the index, whatever happens to it meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.models import JobClass, Threshold
from pipeline.platform.answers import Opened, answer, page_entries
from pipeline.platform.store import Store
from pipeline.platform.videos import Calibration, IndexedVideo
from pipeline.wire import ClassifyRequest, RequestInvalid, decode_answer
from tests.platform.made_up import CURVE, SPACE, prompt_vectors, track, video

INDEX_ID = "64428d88456b2dab381e7000"
REQUEST = ClassifyRequest(
    (JobClass("A", ("alpha",)), JobClass("B", ("beta", "gamma"))),
    ("visual", "conversation"),
    index_id=INDEX_ID,
    include_clips=True,
    show_detailed_score=True,
    page_limit=2,
    threshold=Threshold(1, 1, 0.01),
)


def a_video(number: int, score: float | None = None, seconds: float = 20_000) -> IndexedVideo:
    """Longer than half of what one POST may name, so that each is a slice of its own; v0 is the best."""
    best = 90 - number if score is None else score
    return video(f"v{number}", seconds, track("visual", (0, 9_000, [best, 20]), (10_000, 19_000, [best / 2, 30])))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "index.sqlite", INDEX_ID, "Test") as opened:
        opened.calibrate({"visual": CURVE})
        opened.add_videos([a_video(number) for number in (3, 0, 4, 2, 1)], SPACE)
        yield opened


def opened(store: Store) -> Opened:
    return answer(store, prompt_vectors(), REQUEST)


def page(store: Store, found: Opened, number: int) -> list[str]:
    first = 2 * (number - 1)
    entries = page_entries(store, found.answers, first, min(first + 2, len(found.answers)))
    return [decode_answer(entry).video_id for entry in entries]


def refused(store: Store, found: Opened, number: int) -> str:
    with pytest.raises(RequestInvalid) as told:
        page(store, found, number)
    assert told.value.code == "parameter_invalid"
    return str(told.value)


CHANGED = (
    "The page token is expired or invalid: videos of this page have changed since the request; post the request again."
)


def test_the_first_page_comes_with_the_search_and_is_the_same_when_it_is_asked_for_again(store: Store) -> None:
    found = opened(store)
    assert [decode_answer(entry).video_id for entry in found.first_page] == ["v0", "v1"]
    assert page_entries(store, found.answers, 0, 2) == found.first_page
    assert found.answers.opening == found.first_page[:1]


def test_an_index_is_ranked_over_all_its_slices(store: Store) -> None:
    found = opened(store)
    assert found.answers.video_ids == ("v0", "v1", "v2", "v3", "v4")
    assert [page(store, found, number) for number in (1, 2, 3)] == [["v0", "v1"], ["v2", "v3"], ["v4"]]


def test_what_is_kept_of_a_walk_does_not_grow_with_its_answers(store: Store) -> None:
    found = opened(store).answers
    assert found.size_bytes < 2_500 + len(found.opening[0])


@pytest.mark.parametrize("changed", [a_video(2, 50), a_video(2, seconds=21_000), video("v2", 20_000)])
def test_a_page_with_a_video_that_has_changed_is_refused_and_the_others_stay(
    store: Store, changed: IndexedVideo
) -> None:
    found = opened(store)
    store.add_videos([changed], SPACE)
    assert refused(store, found, 2) == CHANGED
    assert [page(store, found, number) for number in (1, 3)] == [["v0", "v1"], ["v4"]]


def test_new_videos_and_the_same_ones_again_do_not_disturb_a_walk(store: Store) -> None:
    found = opened(store)
    store.add_videos([a_video(7, 95), *[a_video(number) for number in range(5)]], SPACE)
    assert [page(store, found, number) for number in (1, 2, 3)] == [["v0", "v1"], ["v2", "v3"], ["v4"]]


def test_a_walk_keeps_the_calibration_that_it_began_with(store: Store) -> None:
    found = opened(store)
    before = page_entries(store, found.answers, 2, 4)
    store.calibrate({"visual": Calibration(10, 0.5)})
    assert page_entries(store, found.answers, 2, 4) == before
    assert opened(store).answers.score_source != found.answers.score_source


def test_an_option_that_is_new_to_the_index_is_not_in_a_walk_that_began_without_it(store: Store) -> None:
    found = opened(store)
    spoken = track("conversation", (0, 20_000, [99, 99]), texts=("alpha",))
    store.add_videos([IndexedVideo("v3", "f", 20_000, (*a_video(3).tracks, spoken))], SPACE)
    assert page(store, found, 2) == ["v2", "v3"]
