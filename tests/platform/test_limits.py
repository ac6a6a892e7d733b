from __future__ import annotations

import pytest

from pipeline.platform.limits import TARIFFS, Limits, Tariff


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.25

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_tariffs_are_those_of_the_contract() -> None:
    assert dict(TARIFFS) == {
        "none": Tariff(0, 0),
        "v1.1": Tariff(calls_per_second=1),
        "v1.2-free": Tariff(posts_per_window=20, window_seconds=86_400),
        "v1.2-developer": Tariff(posts_per_window=1200, window_seconds=86_400),
    }


def test_without_a_tariff_everything_passes_without_headers(clock: Clock) -> None:
    limits = Limits(TARIFFS["none"], clock)
    admissions = [limits.admit("post") for _ in range(100)] + [limits.admit("page") for _ in range(100)]
    assert all(each.admitted and not each.headers for each in admissions)


def test_version_1_1_admits_one_call_in_any_second_posts_and_pages_alike(clock: Clock) -> None:
    limits = Limits(TARIFFS["v1.1"], clock)
    passed = []
    for step, call in [(0, "post"), (0.999, "page"), (0.001, "page"), (0.5, "post"), (0.5, "post"), (7, "page")]:
        clock.now += step
        passed.append(limits.admit("post" if call == "post" else "page").admitted)
    assert passed == [True, False, True, False, True, True]


def test_a_sliding_second_admits_no_burst_at_its_edge(clock: Clock) -> None:
    limits = Limits(Tariff(calls_per_second=3), clock)
    passed = []
    for step in [0, 0, 0.9, 0, 0.1, 0, 0, 0.9]:
        clock.now += step
        passed.append(limits.admit("post").admitted)
    assert passed == [True, True, True, False, True, True, False, True]


def test_a_clock_that_is_set_back_locks_nobody_out(clock: Clock) -> None:
    limits = Limits(TARIFFS["v1.1"], clock)
    limits.admit("post")
    clock.now -= 3600
    assert limits.admit("post").admitted


def test_version_1_2_counts_posts_and_tells_so(clock: Clock) -> None:
    limits = Limits(TARIFFS["v1.2-free"], clock)
    first = limits.admit("post")
    assert first.headers == {
        "X-Ratelimit-Limit": "20",
        "X-Ratelimit-Remaining": "19",
        "X-Ratelimit-Used": "1",
        "X-Ratelimit-Reset": "1086401",
    }
    clock.now += 3600
    assert [limits.admit("post").admitted for _ in range(20)] == [True] * 19 + [False]
    refused = limits.admit("post")
    assert refused.headers == {
        "X-Ratelimit-Limit": "20",
        "X-Ratelimit-Remaining": "0",
        "X-Ratelimit-Used": "20",
        "X-Ratelimit-Reset": "1086401",
    }


def test_pages_are_free_under_version_1_2(clock: Clock) -> None:
    limits = Limits(TARIFFS["v1.2-free"], clock)
    assert all(limits.admit("page").admitted for _ in range(100))
    assert limits.admit("post").headers["X-Ratelimit-Used"] == "1"


def test_the_window_opens_anew_at_its_reset_and_not_before(clock: Clock) -> None:
    limits = Limits(Tariff(posts_per_window=1, window_seconds=60), clock)
    reset = int(limits.admit("post").headers["X-Ratelimit-Reset"])
    clock.now = reset - 0.001
    assert not limits.admit("post").admitted
    clock.now = reset
    again = limits.admit("post")
    assert (again.admitted, again.headers["X-Ratelimit-Reset"]) == (True, str(reset + 60))
