"""How far a reaction goes, by table."""

from __future__ import annotations

import pytest

from pipeline.errors import (
    AnswerCut,
    CannotConnect,
    ConnectionLost,
    GatewayFailed,
    Overloaded,
    RateLimited,
    RequestFailed,
    TimedOut,
)
from pipeline.reaction import (
    MAX_COUNTED_RESENDS,
    MAX_CUT_RESENDS,
    MAX_OVERLOADED_RESENDS,
    Tries,
    may_be_the_videos,
    page_resend_after,
    resend_after,
)


@pytest.mark.parametrize(
    ("error", "allowed"),
    [
        (Overloaded("x"), 5),
        (ConnectionLost("x"), 3),
        (TimedOut("x"), 3),
        (GatewayFailed("x"), 3),
        (AnswerCut("x"), 2),
    ],
)
def test_a_request_is_sent_again_a_fixed_number_of_times(error: RequestFailed, allowed: int) -> None:
    tries = Tries()
    for resends in range(allowed):
        tries = tries.after(error)
        assert (tries.total, tries.used_up) == (resends + 1, False)
    assert tries.after(error).used_up


@pytest.mark.parametrize("error", [CannotConnect("x"), RateLimited("x")])
def test_what_is_nobodys_fault_is_not_counted(error: RequestFailed) -> None:
    assert Tries(5, 3, 2).after(error) == Tries(5, 3, 2)


def test_failures_of_different_costs_are_counted_apart() -> None:
    tries = Tries()
    for error in [*[Overloaded("x")] * 5, *[TimedOut("x")] * 3, *[AnswerCut("x")] * 2]:
        tries = tries.after(error)
    assert (tries, tries.total, tries.used_up) == (Tries(5, 3, 2), 10, False)


@pytest.mark.parametrize(
    ("failures", "longest"),
    [(0, 1.0), (1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (5, 16.0), (6, 32.0), (7, 60.0), (100, 60.0)],
)
def test_the_backoff_doubles_up_to_a_minute(failures: int, longest: float) -> None:
    waits = [resend_after(Overloaded("x"), Tries(overloaded=failures), jitter=jitter) for jitter in (0.0, 0.5, 1.0)]
    assert waits == [0.0, longest / 2, longest]


@pytest.mark.parametrize(
    ("ordered", "expected"), [(None, 2.0), (0.0, 2.0), (1.5, 2.0), (2.5, 2.5), (86_400.0, 86_400.0)]
)
def test_what_the_platform_orders_counts_if_it_is_longer(ordered: float | None, expected: float) -> None:
    assert resend_after(Overloaded("x", retry_after_seconds=ordered), Tries(overloaded=2), jitter=1.0) == expected


@pytest.mark.parametrize(("ordered", "expected"), [(None, 2.0), (1.5, 2.0), (2.5, 2.5), (60.0, 60.0), (61.0, 60.0)])
def test_for_a_page_it_counts_up_to_a_minute(ordered: float | None, expected: float) -> None:
    assert page_resend_after(RateLimited("x", retry_after_seconds=ordered), 2, jitter=1.0) == expected


def test_a_429_is_waited_for_at_the_gate_and_not_here() -> None:
    assert resend_after(RateLimited("x", retry_after_seconds=9.0), Tries(overloaded=5), jitter=1.0) == 0.0


@pytest.mark.parametrize(("status", "expected"), [(500, True), (507, True), (503, False), (408, False), (425, False)])
def test_a_500_may_lie_in_the_videos_and_a_busy_platform_does_not(status: int, expected: bool) -> None:
    assert may_be_the_videos(Overloaded("no", http_status=status)) is expected


def test_a_lost_connection_does_not_lie_in_the_videos() -> None:
    assert not may_be_the_videos(CannotConnect("no"))


def test_of_the_attempts_of_an_earlier_process_one_is_always_left() -> None:
    assert Tries(9, 9, 9).with_one_left() == Tries(MAX_OVERLOADED_RESENDS, MAX_COUNTED_RESENDS, MAX_CUT_RESENDS)
    assert not Tries(9, 9, 9).with_one_left().used_up
    assert Tries(1, 2, 1).with_one_left() == Tries(1, 2, 1)
