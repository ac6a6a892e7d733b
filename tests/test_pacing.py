"""When a request may go: each door of the gate, with a clock that a test moves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import pairwise
from typing import Any

import anyio
import pytest

from pipeline.errors import (
    Drained,
    Overbooked,
    Overloaded,
    PlatformDown,
    QuotaReached,
    RateLimited,
    RequestRefused,
    TimedOut,
)
from pipeline.pacing import Gate, Pace
from pipeline.quota import Quota, Window
from tests.runs import MovedClock

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT
DAY = 86_400.0


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


async def page(through: Gate) -> None:
    async with through.page_turn():
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
    with pytest.raises(RequestRefused):
        async with one.post_turn():
            raise RequestRefused("no")
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
    with pytest.raises(
        QuotaReached, match=r"^the quota of 2 POSTs is used up until 2023-11-14T22:15:02\.000Z$"
    ) as stop:
        await one.reserve()
    assert stop.value.resume_after == NOW + 102
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
    assert one.window == Window(15, NOW + 60, 20)
    for _ in range(5):
        await post(one)
    with pytest.raises(QuotaReached, match="quota of 20 POSTs"):
        await one.reserve()


async def test_what_was_told_of_a_window_outlives_the_process_and_not_the_window() -> None:
    """Else each start within it would send one POST that is refused."""
    for told, said in (
        (Window(10, NOW + 100, 10), "quota of 10 POSTs"),
        (Window(3, NOW + 100, None, NOW + 100), "the quota is"),
    ):
        now = NOW
        one = gate(lambda: now, window=told, posts_per_window=1200, wait_for_quota=False)  # noqa: B023 - called here
        with pytest.raises(QuotaReached, match=said):
            await one.reserve()
        now += 102
        await one.reserve()
        assert one.window == Window(1, NOW + 102 + DAY, None, told.closed_until)


async def test_a_limit_that_the_user_states_is_kept_where_the_platform_allows_more() -> None:
    one = gate(posts_per_window=5, wait_for_quota=False)
    for used in range(1, 6):
        await post(one, Quota(20, 20 - used, NOW + 60))
    with pytest.raises(QuotaReached, match="quota of 5 POSTs"):
        await one.reserve()


async def test_near_the_end_of_a_window_the_answers_under_way_decide() -> None:
    """The platform may have counted them already, and then there are places left: none is wasted, none refused."""
    one = gate(posts_per_window=20, wait_for_quota=False)
    for _ in range(8):
        await one.reserve()
    one.answered(Quota(20, 7, NOW + 60))  # 13 are counted; whether the other seven under way are, is unknown
    assert one.window == Window(20, NOW + 60, 20)
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
    assert one.window == Window(13, NOW + 60, 20)


async def test_a_late_answer_of_an_earlier_window_changes_nothing() -> None:
    one = gate(posts_per_window=20)
    await post(one, Quota(20, 12, NOW + 120))
    await post(one, Quota(20, 0, NOW + 60))
    assert one.window == Window(9, NOW + 120, 20)


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
    assert one.window == Window(3, NOW + 60, 3)


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
    assert one.window == Window(3, NOW + 60, 20)


async def test_a_platform_that_allows_nothing_is_not_taken_for_one_without_a_limit() -> None:
    one = gate(wait_for_quota=False)
    await post(one, Quota(0, 0, NOW + 60))
    with pytest.raises(QuotaReached):
        await one.reserve()


async def test_a_spent_budget_stops_the_run_and_says_what_to_raise() -> None:
    one = gate(sent=2, max_posts=3)
    await post(one)
    with pytest.raises(QuotaReached, match=r"^the budget of limits\.max_posts = 3 is spent; raise it to go on$"):
        await one.reserve()


async def test_at_the_end_of_the_budget_the_posts_under_way_decide() -> None:
    """One of them may be given back, and then there is one more to send."""
    one = gate(max_posts=3)
    for _ in range(3):
        await one.reserve()
    outcomes: list[str] = []
    async with anyio.create_task_group() as waiting:
        waiting.start_soon(drained, one.reserve(), outcomes)
        await anyio.wait_all_tasks_blocked()
        assert outcomes == []
        one.give_back()
    assert (outcomes, one.posts_spent) == (["passed"], 3)


# -------------------------------------------------------------------------------------------------------------- rate


async def test_the_second_post_waits_for_the_rate_and_a_page_does_not() -> None:
    one = gate(requests_per_second=0.001)
    await post(one)
    await page(one)
    await one.reserve()
    outcomes: list[str] = []
    async with anyio.create_task_group() as posts:
        posts.start_soon(drained, turn(one), outcomes)
        await anyio.wait_all_tasks_blocked()
        assert outcomes == []
        one.close()
    assert outcomes == ["drained"]


async def refused(through: Gate, error: RateLimited) -> None:
    """One POST that gets a 429."""
    await through.reserve()
    with pytest.raises(RateLimited):
        async with through.post_turn():
            raise error


async def test_posts_that_left_together_and_are_refused_together_are_one_refusal() -> None:
    """Each by itself would double the pause and widen the margin: eight would make two minutes of a second."""
    clock = MovedClock()
    one = Gate(Pace(), window=None, posts_spent=0, clock=clock, timer=clock.timer)
    await post(one)
    begun = clock.now
    all_left = anyio.Event()

    async def refuse() -> None:
        with suppress(RateLimited):
            async with one.post_turn():
                await all_left.wait()
                raise RateLimited("HTTP 429")

    async with anyio.create_task_group() as posts:
        for _ in range(8):
            await one.reserve()
            posts.start_soon(refuse)
        await anyio.wait_all_tasks_blocked()
        all_left.set()
    await post(one)
    assert clock.now == begun + 1
    assert one.posts_spent == 2


async def test_refusals_one_after_another_are_waited_for_longer_and_longer() -> None:
    clock = MovedClock()
    one = Gate(Pace(), window=None, posts_spent=0, clock=clock, timer=clock.timer)
    left = []
    for _ in range(5):
        await refused(one, RateLimited("HTTP 429"))
        left.append(clock.now)
    assert [later - earlier for earlier, later in pairwise(left)] == [1, 2, 4, 8]


async def test_after_a_429_one_post_goes_alone_and_the_others_follow_its_answer() -> None:
    clock = MovedClock()
    one = Gate(Pace(), window=None, posts_spent=0, clock=clock, timer=clock.timer)
    await post(one)
    await refused(one, RateLimited("HTTP 429"))
    under_way: list[int] = []
    answer = anyio.Event()

    async def send(number: int) -> None:
        await one.reserve()
        async with one.post_turn():
            under_way.append(number)
            await answer.wait()
            one.answered(None)

    async with anyio.create_task_group() as posts:
        for number in range(3):
            posts.start_soon(send, number)
        await anyio.wait_all_tasks_blocked()
        assert len(under_way) == 1
        answer.set()
    assert len(under_way) == 3


async def test_an_order_to_wait_for_long_means_a_quota() -> None:
    """So that ``on_quota = "stop"`` stops, and a laptop that sleeps meanwhile wakes in time."""
    one = gate(wait_for_quota=False)
    await one.reserve()
    one.refused_for_rate(3_600.0)
    with pytest.raises(QuotaReached, match=r"^the quota is used up until 2023-11-14T23:13:22\.000Z$") as stop:
        await one.reserve()
    assert stop.value.resume_after == NOW + 3_602


async def test_a_429_uses_nothing_of_a_window_that_nobody_tells_of() -> None:
    one = gate(posts_per_window=3, wait_for_quota=False)
    for _ in range(3):
        await one.reserve()
        one.refused_for_rate(0.0)
    assert one.window == Window(0, NOW + DAY)


async def test_nothing_but_429s_for_long_enough_means_a_quota() -> None:
    clock = MovedClock()
    limits = Pace(wait_for_quota=False, give_up_after_seconds=600)
    one = Gate(limits, window=None, posts_spent=0, clock=clock, timer=clock.timer)
    begun = clock.now

    async def go_on() -> None:
        while True:
            await refused(one, RateLimited("HTTP 429"))

    with pytest.raises(QuotaReached, match=r"^the quota is used up until"):
        await go_on()
    assert 600 < clock.now - begun < 700
    again = Gate(limits, window=one.window, posts_spent=0, clock=clock, timer=clock.timer)
    await again.reserve()  # it was a guess: whoever begins anew asks once


async def test_where_the_tariff_paces_pages_they_wait_like_posts() -> None:
    clock = MovedClock()
    one = Gate(Pace(1, pages_paced=True), window=None, posts_spent=0, clock=clock, timer=clock.timer)
    moments = []
    for _ in range(3):
        await page(one)
        moments.append(clock.now)
    await post(one)
    moments.append(clock.now)
    gaps = [later - earlier for earlier, later in pairwise(moments)]
    assert gaps == pytest.approx([1.008, 1.008, 1.008], abs=1e-5)


@pytest.mark.parametrize("pages_paced", [True, False])
async def test_a_429_for_a_page_pauses_posts_only_where_both_are_counted_together(pages_paced: bool) -> None:
    clock = MovedClock()
    one = Gate(Pace(10, pages_paced=pages_paced), window=None, posts_spent=0, clock=clock, timer=clock.timer)
    with pytest.raises(RateLimited):
        async with one.page_turn():
            raise RateLimited("HTTP 429", retry_after_seconds=7)
    begun = clock.now
    await post(one)
    assert clock.now - begun == (7 if pages_paced else 0)


# ------------------------------------------------------------------------------------------------------------ windows


async def test_a_window_that_nobody_tells_opens_when_its_first_post_is_answered() -> None:
    """The platform cannot have opened it later, however long the POST waited to leave."""
    now = NOW
    one = gate(lambda: now, posts_per_window=2)
    await one.reserve()
    now += 300
    async with one.post_turn():
        now += 10
        one.answered(None)
    assert one.window == Window(1, NOW + 310 + DAY)
    await post(one)
    assert one.window == Window(2, NOW + 310 + DAY)


async def test_a_window_that_an_earlier_process_never_opened_opens_when_its_first_post_is_answered() -> None:
    """That process took a place in it and gave it back, because the platform could not be reached."""
    one = gate(window=Window(0, NOW + 60), posts_per_window=2)
    await post(one)
    assert one.window == Window(1, NOW + DAY)


async def test_the_first_post_of_a_window_goes_alone_and_tells_what_others_have_used() -> None:
    now = NOW
    one = gate(lambda: now, posts_per_window=20, wait_for_quota=False)
    await post(one, Quota(20, 0, NOW + 100))
    now += 103
    under_way: list[int] = []
    answer = anyio.Event()
    stopped: list[str] = []

    async def send(number: int) -> None:
        try:
            await one.reserve()
            async with one.post_turn():
                under_way.append(number)
                await answer.wait()
                one.answered(Quota(20, 2 - len(under_way) + 1, now + 1_000))
        except Overbooked:
            one.give_back()
            stopped.append("overbooked")

    async with anyio.create_task_group() as posts:
        for number in range(8):
            posts.start_soon(send, number)
        await anyio.wait_all_tasks_blocked()
        assert len(under_way) == 1
        answer.set()
    assert (len(under_way), len(stopped)) == (3, 5)


async def test_a_post_that_waited_into_the_next_window_counts_in_that_one() -> None:
    now = NOW
    one = gate(lambda: now, window=Window(1, NOW + 10), posts_per_window=2)
    await one.reserve()
    assert one.window == Window(2, NOW + 10)
    now += 12
    async with one.post_turn():
        assert one.window == Window(1, NOW + 12 + DAY)


async def test_a_clock_that_is_set_back_takes_the_end_of_the_window_with_it() -> None:
    """Also where eight wait for it."""
    clock, set_back_by = MovedClock(), 0.0
    one = Gate(
        Pace(posts_per_window=1, window_seconds=7_200),
        window=Window(1, clock.now + 7_200),
        posts_spent=0,
        clock=lambda: clock.now - set_back_by,
        timer=clock.timer,
    )
    begun = clock.now

    async def wait() -> None:
        await one.reserve()
        one.give_back()

    async with anyio.create_task_group() as waiting:
        for _ in range(8):
            waiting.start_soon(wait)
        while clock.now < begun + 600:
            await anyio.lowlevel.checkpoint()
        set_back_by = 3_600.0
    assert 7_200 <= clock.now - begun < 7_300


async def test_a_window_that_ends_long_after_it_can_is_that_of_a_clock_gone_wrong() -> None:
    one = gate(window=Window(2, NOW + 1_000 * DAY), posts_per_window=2)
    assert one.window == Window(2, NOW + DAY)


async def test_after_a_429_every_post_waits_as_ordered_and_a_page_does_not() -> None:
    one = gate()
    await post(one)
    await one.reserve()
    one.refused_for_rate(300.0)
    await page(one)
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
    for ordered in (300.0, 0.0):
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
    one.refused_for_rate(300)
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
    for door in (one.reserve(), turn(one), page(one), one.pause(0)):
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
    clock = MovedClock()
    one = Gate(Pace(give_up_after_seconds=60), window=None, posts_spent=0, clock=clock, timer=clock.timer)
    for _ in range(4):
        one.failed()
    clock.now += 61
    said = r"^the platform has answered nothing for 61 s \(5 requests in a row failed\); the last: HTTP 503$"
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


async def test_posts_that_were_under_way_together_and_are_lost_together_are_one_loss() -> None:
    """One interruption of the network takes all that are under way: it does not end the night."""
    clock = MovedClock()
    one = Gate(Pace(max_unknown_posts=2), window=None, posts_spent=0, clock=clock, timer=clock.timer)
    await post(one)
    interrupted = anyio.Event()

    async def lose() -> None:
        await one.reserve()
        with suppress(TimedOut):
            async with one.post_turn() as sent:
                sent()
                await interrupted.wait()
                raise TimedOut("lost")

    async with anyio.create_task_group() as posts:
        for _ in range(8):
            posts.start_soon(lose)
        await anyio.wait_all_tasks_blocked()
        clock.now += 5
        interrupted.set()
    assert (one.broken, one.posts_spent) == (True, 9)
    with pytest.raises(PlatformDown, match=r"^2 POSTs in a row"):
        await lose()


async def test_while_a_window_is_waited_for_nobody_gives_up_on_the_platform() -> None:
    clock = MovedClock()
    limits = Pace(posts_per_window=2, give_up_after_seconds=60)
    one = Gate(limits, window=None, posts_spent=0, clock=clock, timer=clock.timer)
    for _ in range(2):
        await one.reserve()
        one.failed(perhaps_billed=True)
    for _ in range(3):
        await one.reserve()
        one.failed()
    assert clock.now > NOW + DAY
    assert one.broken


async def test_an_answer_between_begins_the_row_of_unknown_posts_anew() -> None:
    one = gate(max_unknown_posts=2)
    for _ in range(10):
        one.failed(perhaps_billed=True)
        one.answered(None)
