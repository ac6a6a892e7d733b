from __future__ import annotations

import re

import pytest

from pipeline.platform.tokens import Walks
from pipeline.wire import RequestInvalid, decode_page


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def entries(count: int) -> list[bytes]:
    return [b'{"video_id":"v%d","classes":[]}' % number for number in range(count)]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def walks(clock: Clock) -> Walks:
    return Walks(600, clock)


def next_token(body: bytes) -> str:
    token = decode_page(body).next_token
    assert token
    return token


def prev_token(body: bytes) -> str:
    found = re.search(rb'"prev_page_token":"([^"]*)"', body)
    assert found
    return found[1].decode()


def test_pages_tile_the_walk_in_both_directions(walks: Walks) -> None:
    first = walks.open(entries(5), page_limit=2, score_source="local/x/y")
    second = walks.page(next_token(first.body))
    third = walks.page(next_token(second.body))
    pages = [decode_page(page.body) for page in (first, second, third)]
    assert [[one.video_id for one in page.videos] for page in pages] == [["v0", "v1"], ["v2", "v3"], ["v4"]]
    assert [page.total_results for page in pages] == [5, 5, 5]
    assert pages[2].next_token is None
    assert walks.page(prev_token(third.body)).body == second.body
    assert walks.page(prev_token(second.body)).body == first.body
    assert {page.score_source for page in (first, second, third)} == {"local/x/y"}


def test_a_walk_of_one_page_has_no_tokens_and_is_not_kept(walks: Walks) -> None:
    body = walks.open(entries(2), page_limit=2, score_source="s").body
    assert b'"limit_per_page":2,"total_results":2,' in body
    assert b'"next_page_token":"","prev_page_token":""' in body
    assert walks.held_bytes == 0


def test_an_empty_walk_is_one_empty_page(walks: Walks) -> None:
    page = decode_page(walks.open([], page_limit=10, score_source="s").body)
    assert (page.videos, page.total_results, page.next_token) == ((), 0, None)


def test_a_token_dies_when_its_page_said_it_would(walks: Walks, clock: Clock) -> None:
    first = walks.open(entries(6), page_limit=2, score_source="s").body
    assert decode_page(first).expires_at == 1_000_600
    clock.now += 599
    second = walks.page(next_token(first)).body
    assert decode_page(second).expires_at == 1_001_199
    clock.now += 600
    with pytest.raises(RequestInvalid, match="The page token is expired or invalid: it expired") as refused:
        walks.page(next_token(second))
    assert refused.value.code == "parameter_invalid"


def test_a_token_that_was_never_given_is_refused(walks: Walks) -> None:
    token = next_token(walks.open(entries(5), page_limit=2, score_source="s").body)
    secret = token.removesuffix("-2")
    for wrong in ["", "-", "bulk", secret, f"{secret}-0", f"{secret}-4", f"{secret}-02", f"{secret}-²", f"x{token}"]:
        with pytest.raises(RequestInvalid, match="The page token is expired or invalid: it was never given"):
            walks.page(wrong)
    with pytest.raises(RequestInvalid):
        walks.page(f"{secret}-{'9' * 5000}")


def test_no_two_walks_share_a_token(walks: Walks) -> None:
    tokens = {next_token(walks.open(entries(2), page_limit=1, score_source="s").body) for _ in range(50)}
    assert len(tokens) == 50


def test_over_the_budget_the_walk_that_nobody_read_for_longest_goes_first(clock: Clock) -> None:
    walks = Walks(600, clock, budget_bytes=1000)
    tokens = [next_token(walks.open(entries(5), page_limit=2, score_source="s").body) for _ in range(2)]
    held = walks.held_bytes
    walks.page(tokens[0])
    newest = next_token(walks.open(entries(5), page_limit=2, score_source="s").body)
    assert walks.held_bytes == held <= 1000
    walks.page(tokens[0])
    walks.page(newest)
    with pytest.raises(RequestInvalid):
        walks.page(tokens[1])


def test_the_newest_walk_stays_whatever_its_size(clock: Clock) -> None:
    walks = Walks(600, clock, budget_bytes=10)
    walks.page(next_token(walks.open(entries(5), page_limit=2, score_source="s").body))


def test_expired_walks_are_dropped_when_another_one_opens(walks: Walks, clock: Clock) -> None:
    walks.open(entries(50), page_limit=2, score_source="s")
    clock.now += 600
    walks.open(entries(2), page_limit=1, score_source="s")
    assert walks.held_bytes == sum(len(entry) + 48 for entry in entries(2))
