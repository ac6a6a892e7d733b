"""The headers' meaning by table, the clock that they are by, and the count of a window."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.quota import ClockDifference, Quota, Window, WindowCount, quota_of, retry_after_seconds

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT
DAY = 86_400.0


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
        ({"X-Ratelimit-Reset": "60", "X-Ratelimit-Remaining": "0"}, 60.0),
        ({"X-Ratelimit-Reset": "60", "X-Ratelimit-Remaining": "7"}, None),
        ({"Retry-After": "5", "X-Ratelimit-Reset": "60", "X-Ratelimit-Remaining": "7"}, 5.0),
    ],
)
def test_what_the_platform_orders_is_read_in_all_its_forms(headers: Mapping[str, str], expected: float | None) -> None:
    assert retry_after_seconds(headers, NOW) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "86400"}, 300.0),
        ({"Retry-After": "Fri, 14 Nov 2025 22:14:20 GMT"}, 300.0),
        ({"X-Ratelimit-Remaining": "0", "X-Ratelimit-Reset": "60"}, None),
    ],
)
def test_an_overloaded_platform_is_asked_again_after_five_minutes_whatever_its_quota(
    headers: Mapping[str, str], expected: float | None
) -> None:
    assert retry_after_seconds(headers, NOW, for_load=True) == expected


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
        (limits("0", "0", "1700000060"), None),
        (limits("9" * 30, "5", "1700000060"), None),
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


@pytest.mark.parametrize("reset", ["4102444800", "9999999999", "99999999999999", "5000000"])
def test_no_window_ends_later_than_a_day_from_now(reset: str) -> None:
    headers = {"X-Ratelimit-Limit": "20", "X-Ratelimit-Remaining": "0", "X-Ratelimit-Reset": reset}
    quota = quota_of(headers, NOW)
    assert quota is None or quota.resets_at <= NOW + 86_400


# -------------------------------------------------------------------------------------------------------------- clocks


def difference(*answers: tuple[float, str, float]) -> float:
    """What these answers teach, each by when it was asked for, its date, and when it came."""
    clocks = ClockDifference()
    for sent_at, date, now in answers:
        clocks.observe({"Date": date}, sent_at, now)
    return clocks.seconds


AT_NOW = "Tue, 14 Nov 2023 22:13:20 GMT"


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([], 0.0),
        ([(NOW, "yesterday", NOW)], 0.0),
        ([(NOW, AT_NOW, NOW + 0.2)], 0.0),
        ([(NOW - 30, AT_NOW, NOW + 30)], 0.0),
        ([(NOW + 300, AT_NOW, NOW + 300.2)], 300.2),
        ([(NOW - 300, AT_NOW, NOW - 299.5)], -299.5),
        ([(NOW + 300, AT_NOW, NOW + 360), (NOW + 300, AT_NOW, NOW + 300.5)], 300.5),
        ([(NOW + 300, AT_NOW, NOW + 300.5), (NOW + 300, AT_NOW, NOW + 360)], 300.5),
        ([(NOW + 300, AT_NOW, NOW + 300.5), (NOW - 60, AT_NOW, NOW - 59)], -59.0),
    ],
    ids=[
        "nothing",
        "no date",
        "the same",
        "perhaps the same",
        "ahead",
        "behind",
        "the quickest tells most, last",
        "or first",
        "ours was set",
    ],
)
def test_how_far_our_clock_is_ahead_is_told_by_dates(answers: list[tuple[float, str, float]], expected: float) -> None:
    assert difference(*answers) == pytest.approx(expected)


@given(st.floats(-1e6, 1e6), st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=1, max_size=20))
def test_a_difference_is_never_thought_less_than_it_is_unless_it_may_be_none(
    ahead: float, legs: list[tuple[float, float]]
) -> None:
    clocks = ClockDifference()
    for there, back in legs:
        date = formatdate(NOW + there, usegmt=True)
        clocks.observe({"Date": date}, NOW + ahead, NOW + there + back + ahead)
    assert clocks.seconds == 0 or clocks.seconds >= ahead - 1e-3


# -------------------------------------------------------------------------------------------------------------- window


def test_a_count_of_an_earlier_window_is_late_and_one_of_a_later_window_begins_anew() -> None:
    count = WindowCount(20, DAY, None, NOW)
    assert count.renew(NOW)
    count.learn(Quota(20, 12, NOW + 120))
    count.learn(Quota(20, 0, NOW + 60))
    assert count.window == Window(8, NOW + 120, 20)
    count.learn(Quota(20, 11, NOW + 120.6))
    assert count.window == Window(9, NOW + 120.6, 20)
    count.learn(Quota(20, 19, NOW + 500))
    assert count.window == Window(1, NOW + 500, 20)


def test_what_the_platform_orders_holds_until_it_ends_whatever_is_told_of_the_quota_meanwhile() -> None:
    count = WindowCount(None, DAY, None, NOW)
    count.renew(NOW)
    assert count.opens_at() <= NOW
    count.take()
    count.close(NOW + 100, is_told=True)
    count.learn(Quota(20, 12, NOW + DAY))
    assert (count.opens_at(), count.window) == (NOW + 102, Window(9, NOW + DAY, 20, NOW + 100))
    assert count.is_overbooked(NOW + 101.9)
    assert not count.is_overbooked(NOW + 102)
    count.renew(NOW + DAY + 2)
    assert count.window == Window(1, NOW + 2 * DAY + 2, None, NOW + 100)


def test_a_guess_that_the_quota_is_used_up_binds_no_other_process() -> None:
    count = WindowCount(20, DAY, None, NOW)
    count.renew(NOW)
    count.close(NOW + 100, is_told=False)
    assert count.opens_at() == NOW + 102
    assert WindowCount(20, DAY, count.window, NOW).opens_at() <= NOW


@pytest.mark.parametrize("until", [NOW + 30, NOW + 100])
def test_where_an_order_meets_a_used_up_window_the_later_end_counts(until: float) -> None:
    count = WindowCount(None, DAY, Window(20, NOW + 60, 20, until), NOW)
    assert count.opens_at() == max(until, NOW + 60) + 2


@pytest.mark.parametrize("is_told", [True, False], ids=["told", "guessed"])
def test_what_is_waited_for_ends_when_it_would_have_ended_although_our_clock_was_set(is_told: bool) -> None:
    count = WindowCount(None, DAY, None, NOW)
    count.renew(NOW)
    count.close(NOW + 100, is_told=is_told)
    count.move(-3_600)
    assert count.opens_at() == NOW - 3_600 + 102


def test_an_order_that_ends_long_after_it_can_is_that_of_a_clock_gone_wrong() -> None:
    count = WindowCount(None, DAY, Window(0, NOW + 60, None, NOW + 1_000 * DAY), NOW)
    assert count.opens_at() == NOW + DAY + 2


def test_the_limit_of_an_earlier_window_holds_where_the_user_says_how_long_a_window_is() -> None:
    for most, expected in ((None, None), (1200, 12)):
        count = WindowCount(most, DAY, None, NOW)
        count.renew(NOW)
        count.learn(Quota(12, 0, NOW + 8))
        count.renew(NOW + 10)
        assert count.limit == expected


def test_an_answer_that_is_late_takes_nothing_back_of_what_was_counted_after_it() -> None:
    count = WindowCount(20, DAY, None, NOW)
    count.renew(NOW)
    count.learn(Quota(20, 7, NOW + 60))
    count.learn(Quota(20, 8, NOW + 60))
    assert count.window == Window(13, NOW + 60, 20)


@pytest.mark.parametrize("window", [Window(1, NOW + 60), Window(0, NOW + 60, 20)], ids=["used", "told"])
def test_a_window_that_an_earlier_process_opened_ends_when_it_was_to_end(window: Window) -> None:
    count = WindowCount(20, DAY, window, NOW)
    count.take()
    count.end()
    count.open(NOW + 1)
    assert count.window == replace(window, used=window.used + 1)
