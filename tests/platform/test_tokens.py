from __future__ import annotations

from dataclasses import dataclass

import pytest

from pipeline.platform.tokens import PagePlace, Walks
from pipeline.wire import PageInfo, RequestInvalid


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Videos:
    """So many videos, of ten bytes each."""

    count: int

    def __len__(self) -> int:
        return self.count

    @property
    def size_bytes(self) -> int:
        return 10 * self.count


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def walks(clock: Clock) -> Walks[Videos]:
    return Walks(600, clock)


def next_token(place: PagePlace[Videos]) -> str:
    assert place.info.next_page_token
    return place.info.next_page_token


def test_pages_tile_the_walk_in_both_directions(walks: Walks[Videos]) -> None:
    videos = Videos(5)
    first = walks.open(videos, page_limit=2)
    second = walks.page(next_token(first))
    third = walks.page(next_token(second))
    assert [(page.first, page.beyond) for page in (first, second, third)] == [(0, 2), (2, 4), (4, 5)]
    assert {page.info.total_results for page in (first, second, third)} == {5}
    assert third.info.next_page_token == ""
    assert walks.page(third.info.prev_page_token) == second
    assert walks.page(second.info.prev_page_token) == first
    assert all(page.found is videos for page in (first, second, third))


def test_a_token_leads_to_the_page_that_has_it(walks: Walks[Videos]) -> None:
    second = walks.page(next_token(walks.open(Videos(5), page_limit=2)))
    assert walks.page(second.token) == second


def test_a_walk_of_one_page_has_no_tokens_and_is_not_kept(walks: Walks[Videos]) -> None:
    info = walks.open(Videos(2), page_limit=2).info
    assert info == PageInfo(limit_per_page=2, total_results=2, page_expired_at=1_000_600)
    assert walks.held_bytes == 0


def test_an_empty_walk_is_one_empty_page(walks: Walks[Videos]) -> None:
    place = walks.open(Videos(0), page_limit=10)
    assert (place.first, place.beyond, place.info.total_results, place.info.next_page_token) == (0, 0, 0, "")


def test_a_token_dies_when_its_page_said_it_would(walks: Walks[Videos], clock: Clock) -> None:
    first = walks.open(Videos(6), page_limit=2)
    assert first.info.page_expired_at == 1_000_600
    clock.now += 599
    second = walks.page(next_token(first))
    assert second.info.page_expired_at == 1_001_199
    clock.now += 600
    with pytest.raises(RequestInvalid, match="The page token is expired or invalid: it expired") as refused:
        walks.page(next_token(second))
    assert refused.value.code == "parameter_invalid"


def test_a_token_that_was_never_given_is_refused(walks: Walks[Videos]) -> None:
    token = next_token(walks.open(Videos(5), page_limit=2))
    secret = token.removesuffix("-2")
    for wrong in ["", "-", "bulk", secret, f"{secret}-0", f"{secret}-4", f"{secret}-02", f"{secret}-²", f"x{token}"]:
        with pytest.raises(RequestInvalid, match="The page token is expired or invalid: it was never given"):
            walks.page(wrong)
    with pytest.raises(RequestInvalid):
        walks.page(f"{secret}-{'9' * 5000}")


def test_no_two_walks_share_a_token(walks: Walks[Videos]) -> None:
    tokens = {next_token(walks.open(Videos(2), page_limit=1)) for _ in range(50)}
    assert len(tokens) == 50


def test_over_the_budget_the_walk_that_nobody_read_for_longest_goes_first(clock: Clock) -> None:
    walks = Walks[Videos](600, clock, budget_bytes=100)
    tokens = [next_token(walks.open(Videos(5), page_limit=2)) for _ in range(2)]
    held = walks.held_bytes
    walks.page(tokens[0])
    newest = next_token(walks.open(Videos(5), page_limit=2))
    assert walks.held_bytes == held == 100
    walks.page(tokens[0])
    walks.page(newest)
    with pytest.raises(RequestInvalid):
        walks.page(tokens[1])


def test_the_newest_walk_stays_whatever_its_size(clock: Clock) -> None:
    walks = Walks[Videos](600, clock, budget_bytes=10)
    walks.page(next_token(walks.open(Videos(5), page_limit=2)))


def test_expired_walks_are_dropped_when_another_one_opens(walks: Walks[Videos], clock: Clock) -> None:
    walks.open(Videos(50), page_limit=2)
    clock.now += 600
    walks.open(Videos(2), page_limit=1)
    assert walks.held_bytes == 20
