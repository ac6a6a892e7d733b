"""When a request may go: the headers' meaning by table, and each door of the gate with a clock that a test moves."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import Drained, Overbooked, Overloaded, PlatformDown, QuotaReached
from pipeline.pacing import Gate, Pace, Quota, Window, quota_of, retry_after_seconds

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT
DAY = 86_400.0


# ---------------------------------------------------------------------------------------------------------- headers


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "1.5"}, 1.5),
        ({"Retry-After": " 7 "}, 7.0),
        ({"Retry-After": "90000"}, DAY),
        ({"Retry-After": "Tue, 14 Nov 2023 22:14:20 GMT"}, 60.0),
        ({"Retry-After": "Tue, 14 Nov 2023 22:12:20 GMT"}, 0.0),
        ({"Retry-After": "Tuesday, 14-Nov-23 22:14:20 GMT"}, 60.0),
        ({"Retry-After": "Fri, 14 Nov 2025 22:14:20 GMT"}, DAY),
        ({"X-Ratelimit-Reset": "1700000060"}, 60.0),
        ({"X-Ratelimit-Reset": "1700000060000"}, 60.0),
        ({"X-Ratelimit-Reset": "60"}, 60.0),
        ({"X-Ratelimit-Reset": "1699999999"}, 0.0),
        ({"X-Ratelimit-Reset": "1800000000"}, DAY),
        ({"Retry-After": "7", "X-Ratelimit-Reset": "60"}, 7.0),
        ({"Retry-After": "soon", "X-Ratelimit-Reset": "60"}, 60.0),
        ({"Retry-After": "-1", "X-Ratelimit-Reset": "60"}, 60.0),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": ""}, None),
        ({"Retry-After": "9" * 400}, None),
        ({"X-Ratelimit-Reset": "tomorrow"}, None),
    ],
)
def test_what_the_platform_orders_is_read_in_all_its_forms(headers: Mapping[str, str], expected: float | None) -> None:
    assert retry_after_seconds(headers, NOW) == expected


@pytest.fixture
def far_from_greenwich(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as changed:
        changed.setenv("TZ", "America/New_York")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("far_from_greenwich")
@pytest.mark.parametrize(
    "date", ["Tue, 14 Nov 2023 22:14:20 GMT", "Tue, 14 Nov 2023 22:14:20 -0000", "Tue Nov 14 22:14:20 2023"]
)
def test_a_date_is_in_utc_whatever_the_time_zone_here(date: str) -> None:
    """The last is the form of asctime, which HTTP has a recipient accept."""
    assert retry_after_seconds({"Retry-After": date}, NOW) == 60.0


@given(st.text(), st.text())
def test_whatever_stands_in_the_headers_the_wait_is_within_a_day(retry_after: str, reset: str) -> None:
    wait = retry_after_seconds({"Retry-After": retry_after, "X-Ratelimit-Reset": reset}, NOW)
    assert wait is None or 0 <= wait <= DAY


def limits(limit: str, remaining: str, reset: str) -> dict[str, str]:
    return {"X-Ratelimit-Limit": limit, "X-Ratelimit-Remaining": remaining, "X-Ratelimit-Reset": reset}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (limits("1200", "1100", "1700000060"), Quota(1200, 1100, 1_700_000_060.0)),
        (limits("20", "0", "1700000060"), Quota(20, 0, 1_700_000_060.0)),
        (limits("20", "20", "1700000060.5"), Quota(20, 20, 1_700_000_060.5)),
        (limits("20", "21", "1700000060"), None),
        (limits("20", "-1", "1700000060"), None),
        (limits("20", "1.5", "1700000060"), None),
        (limits("many", "1", "1700000060"), None),
        (limits("20", "1", "60"), Quota(20, 1, NOW + 60)),
        (limits("20", "1", "nan"), None),
        (limits("20", "1", "1700000060000"), Quota(20, 1, 1_700_000_060.0)),
        ({"X-Ratelimit-Limit": "20", "X-Ratelimit-Remaining": "1"}, None),
        ({}, None),
    ],
)
def test_the_platforms_own_count_is_taken_where_it_makes_sense(
    headers: Mapping[str, str], expected: Quota | None
) -> None:
    assert quota_of(headers, NOW) == expected


# ------------------------------------------------------------------------------------------------------------- gate


class Clock:
    """Seconds since the epoch: each of ``later`` in turn, and then the last for ever."""

    def __init__(self, *later: float) -> None:
        self._later = list(later)
        self.now = later[0]

    def __call__(self) -> float:
        if self._later:
            self.now = self._later.pop(0)
        return self.now


def gate(clock: Callable[[], float] = lambda: NOW, window: Window | None = None, sent: int = 0, **pace: Any) -> Gate:
    return Gate(Pace(**pace), window=window, posts_spent=sent, clock=clock)


async def post(through: Gate, quota: Quota | None = None) -> None:
    """One POST that is answered."""
    await through.reserve()
    async with through.post_turn():
        pass
    through.answered(quota)


async def drained(waiting: Awaitable[object], outcomes: list[str]) -> None:
    try:
        await waiting
    except Drained:
        outcomes.append("drained")
    else:
        outcomes.append("passed")


async def turn(through: Gate) -> None:
    async with through.post_turn():
        pass


async def test_until_one_post_was_answered_one_goes_alone() -> None:
    one = gate()
    under_way: list[int] = []
    answer = [anyio.Event() for _ in range(3)]

    async def send(number: int) -> None:
        await one.reserve()
        async with one.post_turn():
            under_way.append(number)
            await answer[number].wait()
            one.answered(None)

    async with anyio.create_task_group() as posts:
        for number in range(3):
            posts.start_soon(send, number)
        await anyio.wait_all_tasks_blocked()
        assert under_way == [0]
        answer[0].set()
        await anyio.wait_all_tasks_blocked()
        assert under_way == [0, 1, 2]
        answer[1].set()
        answer[2].set()


async def test_a_refused_post_proves_nothing_so_the_next_goes_alone_too() -> None:
    one = gate()
    await one.reserve()
    async with one.post_turn():
        one.refused()
    await one.reserve()
    await one.reserve()
    passed: list[str] = []
    async with anyio.create_task_group() as posts, one.post_turn():
        posts.start_soon(drained, turn(one), passed)
        await anyio.wait_all_tasks_blocked()
        assert passed == []
    assert passed == ["passed"]


async def test_each_reserved_post_counts_in_the_window_until_it_is_given_back() -> None:
    one = gate(posts_per_window=2)
    await one.reserve()
    assert (one.window, one.posts_spent) == (Window(1, NOW + DAY), 1)
    await one.reserve()
    one.give_back()
    assert (one.window, one.posts_spent) == (Window(1, NOW + DAY), 1)


async def test_a_used_up_window_stops_the_run_where_the_pace_says_so() -> None:
    one = gate(window=Window(2, NOW + 100), posts_per_window=2, wait_for_quota=False)
    with pytest.raises(QuotaReached, match=r"^the quota of 2 POSTs is used up; it starts anew in 102 s$"):
        await one.reserve()
    assert one.window == Window(2, NOW + 100)


async def test_a_used_up_window_is_waited_for_until_two_seconds_after_its_end() -> None:
    clock = Clock(NOW + 1.999, NOW + 1.9999, NOW + 2)
    one = gate(clock, window=Window(2, NOW), posts_per_window=2)
    await one.reserve()
    assert one.window == Window(1, NOW + 2 + DAY)


async def test_a_window_of_an_earlier_process_counts_on() -> None:
    one = gate(window=Window(1, NOW + 100), posts_per_window=2, wait_for_quota=False)
    await post(one)
    with pytest.raises(QuotaReached):
        await one.reserve()


async def test_the_platforms_count_replaces_ours() -> None:
    one = gate(posts_per_window=1000, wait_for_quota=False)
    await post(one, Quota(20, 5, NOW + 60))
    assert one.window == Window(15, NOW + 60)
    for _ in range(5):
        await post(one)
    with pytest.raises(QuotaReached, match="quota of 20 POSTs"):
        await one.reserve()


async def test_near_the_end_of_a_window_the_answers_under_way_decide() -> None:
    """The platform may have counted them already, and then there are places left: none is wasted, none refused."""
    one = gate(posts_per_window=20, wait_for_quota=False)
    for _ in range(8):
        await one.reserve()
    one.answered(Quota(20, 7, NOW + 60))  # 13 are counted; whether the other seven under way are, is unknown
    assert one.window == Window(20, NOW + 60)
    outcomes: list[str] = []
    async with anyio.create_task_group() as waiting:
        waiting.start_soon(drained, one.reserve(), outcomes)
        await anyio.wait_all_tasks_blocked()
        assert outcomes == []
        one.answered(Quota(20, 8, NOW + 60))  # counted before the first, answered after it
        await anyio.wait_all_tasks_blocked()
    assert outcomes == ["passed"]
    for _ in range(7):
        one.answered(Quota(20, 7, NOW + 60))
    assert one.window == Window(13, NOW + 60)


async def test_a_late_answer_of_an_earlier_window_changes_nothing() -> None:
    one = gate(posts_per_window=20)
    await post(one, Quota(20, 12, NOW + 120))
    await post(one, Quota(20, 0, NOW + 60))
    assert one.window == Window(9, NOW + 120)


async def test_a_place_that_the_platform_does_not_have_is_given_back() -> None:
    """Eight are reserved when the first answer says that only one more may go."""
    one = gate(posts_per_window=1000, wait_for_quota=False)
    for _ in range(4):
        await one.reserve()
    one.answered(Quota(3, 1, NOW + 60))
    with pytest.raises(Overbooked):
        await turn(one)
    one.give_back()
    with pytest.raises(Overbooked):
        await turn(one)
    one.give_back()
    await turn(one)
    assert one.window == Window(3, NOW + 60)


async def test_a_429_that_says_the_quota_is_used_up_pauses_nobody_but_ends_the_window() -> None:
    one = gate(wait_for_quota=False)
    await one.reserve()
    one.refused_for_rate(86_400.0, Quota(20, 0, NOW + 60))
    with pytest.raises(QuotaReached, match="quota of 20 POSTs"):
        await one.reserve()


async def test_posts_under_way_are_added_to_the_platforms_count() -> None:
    one = gate()
    for _ in range(3):
        await one.reserve()
    one.answered(Quota(20, 19, NOW + 60))
    assert one.window == Window(3, NOW + 60)


async def test_a_platform_that_allows_nothing_is_not_taken_for_one_without_a_limit() -> None:
    one = gate(wait_for_quota=False)
    await post(one, Quota(0, 0, NOW + 60))
    with pytest.raises(QuotaReached):
        await one.reserve()


async def test_a_spent_budget_stops_the_run_and_says_what_to_raise() -> None:
    one = gate(sent=2, max_posts=3)
    await one.reserve()
    with pytest.raises(QuotaReached, match=r"^the budget of limits\.max_posts = 3 is spent; raise it to go on$"):
        await one.reserve()
    one.give_back()
    await one.reserve()


# -------------------------------------------------------------------------------------------------------------- rate


async def test_the_second_post_waits_for_the_rate_and_a_page_does_not() -> None:
    one = gate(requests_per_second=0.001)
    await post(one)
    await one.page_turn()
    await one.reserve()
    outcomes: list[str] = []
    async with anyio.create_task_group() as posts:
        posts.start_soon(drained, turn(one), outcomes)
        await anyio.wait_all_tasks_blocked()
        assert outcomes == []
        one.close()
    assert outcomes == ["drained"]


async def test_where_the_tariff_paces_pages_they_wait_like_posts() -> None:
    one = gate(requests_per_second=0.001, pages_paced=True)
    await one.page_turn()
    outcomes: list[str] = []
    async with anyio.create_task_group() as pages:
        pages.start_soon(drained, one.page_turn(), outcomes)
        await anyio.wait_all_tasks_blocked()
        assert outcomes == []
        one.close()
    assert outcomes == ["drained"]


async def test_after_a_429_every_post_waits_as_ordered_and_a_page_does_not() -> None:
    one = gate()
    await post(one)
    await one.reserve()
    one.refused_for_rate(3600.0)
    await one.page_turn()
    await one.reserve()
    outcomes: list[str] = []
    async with anyio.create_task_group() as posts:
        posts.start_soon(drained, turn(one), outcomes)
        await anyio.wait_all_tasks_blocked()
        assert outcomes == []
        one.close()
    assert outcomes == ["drained"]


async def test_a_short_order_does_not_shorten_a_longer_one() -> None:
    one = gate()
    for ordered in (3600.0, 0.0):
        await one.reserve()
        one.refused_for_rate(ordered)
    outcomes: list[str] = []
    async with anyio.create_task_group() as posts:
        posts.start_soon(drained, turn(one), outcomes)
        await anyio.wait_all_tasks_blocked()
        one.close()
    assert outcomes == ["drained"]


# ------------------------------------------------------------------------------------------------------------ closing


async def whole_pause(one: Gate) -> None:
    await one.pause(3600)


async def window_wait(one: Gate) -> None:
    await post(one, Quota(1, 0, NOW + 3600))
    await one.reserve()


async def rate_wait(one: Gate) -> None:
    await post(one)
    await post(one)


async def order_wait(one: Gate) -> None:
    one.refused_for_rate(3600)
    await turn(one)


WAITS = {one.__name__: one for one in (whole_pause, window_wait, rate_wait, order_wait)}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS.keys())
async def test_closing_wakes_whatever_waits(wait: Callable[[Gate], Awaitable[None]]) -> None:
    one = gate(requests_per_second=0.001)
    outcomes: list[str] = []
    async with anyio.create_task_group() as waiting:
        waiting.start_soon(drained, wait(one), outcomes)
        await anyio.wait_all_tasks_blocked()
        assert outcomes == []
        one.close()
    assert outcomes == ["drained"]


async def test_closing_wakes_those_who_wait_for_the_first_answer_and_leaves_the_first() -> None:
    one = gate()
    answer = anyio.Event()
    outcomes: list[str] = []

    async def first() -> None:
        async with one.post_turn():
            await answer.wait()

    async with anyio.create_task_group() as posts:
        posts.start_soon(drained, first(), outcomes)
        await anyio.wait_all_tasks_blocked()
        posts.start_soon(drained, turn(one), outcomes)
        posts.start_soon(drained, turn(one), outcomes)
        await anyio.wait_all_tasks_blocked()
        assert outcomes == []
        one.close()
        await anyio.wait_all_tasks_blocked()
        assert outcomes == ["drained", "drained"]
        answer.set()
    assert outcomes == ["drained", "drained", "passed"]


async def test_nothing_passes_a_closed_gate() -> None:
    one = gate()
    one.close()
    for door in (one.reserve(), turn(one), one.page_turn(), one.pause(0)):
        with pytest.raises(Drained):
            await door


async def test_a_post_that_is_under_way_when_the_gate_closes_is_not_disturbed() -> None:
    one = gate()
    await one.reserve()
    async with one.post_turn():
        one.close()
        await anyio.wait_all_tasks_blocked()
    one.answered(None)


# ------------------------------------------------------------------------------------------------------------ breaker


async def test_after_five_failures_in_a_row_only_single_probes_go() -> None:
    one = gate()
    await post(one)
    for number in range(5):
        assert not one.broken
        await one.reserve()
        one.failed()
        assert one.broken == (number == 4)
    await one.reserve()
    await one.reserve()
    outcomes: list[str] = []
    async with anyio.create_task_group() as posts:
        posts.start_soon(drained, turn(one), outcomes)
        posts.start_soon(drained, turn(one), outcomes)
        await anyio.wait_all_tasks_blocked()
        assert outcomes == []
        one.close()
    assert outcomes == ["drained", "drained"]


@pytest.mark.parametrize("end", [lambda one: one.answered(None), lambda one: one.refused()])
async def test_an_answer_of_any_kind_mends_the_breaker(end: Callable[[Gate], None]) -> None:
    one = gate()
    for _ in range(6):
        await one.reserve()
    for _ in range(5):
        one.failed()
    end(one)
    assert not one.broken


async def test_a_platform_that_answers_nothing_for_long_enough_is_down() -> None:
    one = gate(give_up_after_seconds=-1.0)
    for _ in range(4):
        one.failed()
    said = r"^the platform has answered nothing for 0 s \(5 requests in a row failed\); the last: HTTP 503$"
    with pytest.raises(PlatformDown, match=said):
        one.failed(cause=Overloaded("HTTP 503"))


async def test_a_platform_that_is_down_for_a_week_is_probed_all_the_while() -> None:
    one = gate(give_up_after_seconds=604_800.0)
    for _ in range(2_000):
        one.failed()
    assert one.broken


async def test_posts_in_a_row_that_may_have_been_billed_for_nothing_end_the_run() -> None:
    one = gate(max_unknown_posts=3)
    one.failed(perhaps_billed=True)
    one.failed(perhaps_billed=True)
    one.failed()
    with pytest.raises(PlatformDown, match=r"^3 POSTs in a row may have been billed and brought nothing"):
        one.failed(perhaps_billed=True)


async def test_an_answer_between_begins_the_row_of_unknown_posts_anew() -> None:
    one = gate(max_unknown_posts=2)
    for _ in range(10):
        one.failed(perhaps_billed=True)
        one.answered(None)


@pytest.mark.parametrize("reset", ["4102444800", "9999999999", "99999999999999", "5000000"])
def test_no_window_ends_later_than_a_day_from_now(reset: str) -> None:
    headers = {"X-Ratelimit-Limit": "20", "X-Ratelimit-Remaining": "0", "X-Ratelimit-Reset": reset}
    quota = quota_of(headers, NOW)
    assert quota is None or quota.resets_at <= NOW + 86_400
