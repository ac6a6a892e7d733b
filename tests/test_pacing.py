"""When a request may go: each door of the gate, with a clock that a test moves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any

import anyio
import pytest

from pipeline.errors import (
    AnswerUnusable,
    CannotConnect,
    Drained,
    Overbooked,
    Overloaded,
    PlatformDown,
    QuotaReached,
    RateLimited,
    RequestFailed,
    RequestRefused,
    TimedOut,
)
from pipeline.pacing import Gate, Pace
from pipeline.quota import Quota, Window
from pipeline.rate import STEADY, Timer
from tests.runs import MovedClock

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT
DAY = 86_400.0


# ------------------------------------------------------------------------------------------------------------- gate


class Night(MovedClock):
    """While it is ``held``, the rate lets nothing pass. Whoever still sleeps after two days would never wake."""

    def __init__(self) -> None:
        super().__init__()
        self.held = False

    def may_pass(self) -> bool:
        return not self.held

    async def sleep(self, seconds: float) -> None:
        assert self.now < NOW + 2 * DAY
        await super().sleep(seconds)


def gate(
    clock: Callable[[], float] = lambda: NOW,
    window: Window | None = None,
    sent: int = 0,
    timer: Timer | None = None,
    **pace: Any,
) -> Gate:
    """A gate that also waits by its clock where that is a moved one."""
    timer = timer or (clock.timer if isinstance(clock, MovedClock) else STEADY)
    return Gate(Pace(**pace), window=window, posts_spent=sent, clock=clock, timer=timer)


def gaps(moments: Sequence[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(moments)]


async def post(through: Gate, quota: Quota | None = None) -> None:
    """One POST that is answered."""
    await through.reserve()
    async with through.post_turn():
        pass
    through.answered(quota)


async def failing(through: Gate, error: RequestFailed) -> None:
    """One POST that fails so."""
    await through.reserve()
    with pytest.raises(type(error)):
        async with through.post_turn():
            raise error


async def settled() -> None:
    """Wait until nothing happens any more: on a moved clock all takes turns of the event loop, and no time."""
    for _ in range(300):
        await anyio.lowlevel.checkpoint()


async def waves(through: Gate, meanwhile: Callable[[], object] = lambda: None) -> list[int]:
    """How many of three POSTs are under way together, time after time: all are answered when no more come.

    What happens ``meanwhile`` happens when all three wait to leave.
    """
    under_way: list[anyio.Event] = []
    seen: list[int] = []

    async def send() -> None:
        await through.reserve()
        async with through.post_turn() as sent:
            sent()
            under_way.append(answer := anyio.Event())
            await answer.wait()
            through.answered(None)

    async with anyio.create_task_group() as posts:
        for _ in range(3):
            posts.start_soon(send)
        await settled()
        meanwhile()
        while sum(seen) < 3:
            await settled()
            assert under_way, "nothing leaves any more"
            seen.append(len(under_way))
            for answer in under_way:
                answer.set()
            under_way.clear()
    return seen


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
    assert await waves(gate()) == [1, 2]


async def test_a_refused_post_proves_nothing_so_the_next_goes_alone_too() -> None:
    one = gate()
    await failing(one, RequestRefused("no"))
    assert await waves(one) == [1, 2]


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
    one = gate(Night(), window=Window(2, NOW), posts_per_window=2)
    await one.reserve()
    assert one.window == Window(1, NOW + 2 + DAY)


@pytest.mark.parametrize(
    ("error", "cost"),
    [
        (CannotConnect("no"), 0),
        (Overloaded("HTTP 503"), 0),
        (RateLimited("HTTP 429"), 0),
        (TimedOut("lost"), 1),
        (AnswerUnusable("not JSON"), 1),
        (RequestRefused("HTTP 400"), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, RequestFailed) else None,
)
async def test_what_a_failed_post_may_have_used_counts_in_the_window_and_the_budget(
    error: RequestFailed, cost: int
) -> None:
    one = gate(posts_per_window=3)
    await failing(one, error)
    assert (one.window, one.posts_spent) == (Window(cost, NOW + DAY), cost)


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
    night = Night()
    one = gate(night)
    await one.reserve()
    one.refused_for_rate(86_400.0, Quota(20, 0, NOW + 60))
    await post(one)
    assert night.now == NOW + 62


async def test_a_quota_that_should_have_begun_anew_is_not_used_up_and_the_order_counts() -> None:
    night = Night()
    one = gate(night)
    await one.reserve()
    one.refused_for_rate(7.0, Quota(20, 0, NOW - 1))
    await post(one)
    assert (night.now, one.window) == (NOW + 7, Window(1, NOW + 7 + DAY))


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


async def test_a_pause_also_holds_back_the_post_that_waits_for_the_rate() -> None:
    night = Night()
    one = gate(night, requests_per_second=1)
    await post(one)
    await one.reserve()
    night.held = True
    async with anyio.create_task_group() as posts:
        posts.start_soon(turn, one)
        await settled()
        one.failed(7.0)
        night.held = False
    assert night.now == pytest.approx(NOW + 7, abs=1e-5)


async def test_the_rate_counts_from_when_a_post_left_however_long_its_answer_takes() -> None:
    night = Night()
    one = gate(night, requests_per_second=1)
    await one.reserve()
    async with one.post_turn() as sent:
        sent()
        night.now += 5
    await turn(one)
    assert night.now == NOW + 5


async def test_after_a_429_the_requests_stay_further_apart() -> None:
    night = Night()
    one = gate(night, requests_per_second=1)
    left = []
    for _ in range(2):
        await post(one)
        left.append(night.now)
    await failing(one, RateLimited("HTTP 429"))
    left.append(night.now)
    await post(one)
    left.append(night.now)
    assert gaps(left) == pytest.approx([1.008, 1.008, 1.018], abs=1e-5)


@pytest.mark.parametrize("door", [Gate.post_turn, Gate.page_turn])
async def test_requests_that_left_together_and_are_refused_together_are_one_refusal(door: Any) -> None:
    """Each by itself would double the pause and widen the margin: eight would make two minutes of a second."""
    night = Night()
    one = gate(night, requests_per_second=100, pages_paced=True)
    await post(one)
    all_left = anyio.Event()

    async def refuse() -> None:
        with suppress(RateLimited):
            async with door(one):
                await all_left.wait()
                raise RateLimited("HTTP 429")

    async with anyio.create_task_group() as requests:
        for _ in range(8):
            if door is Gate.post_turn:
                await one.reserve()
            requests.start_soon(refuse)
        await settled()
        refused_at = night.now
        all_left.set()
    await post(one)
    assert night.now == pytest.approx(refused_at + 1, abs=1e-5)
    assert one.posts_spent == 2


async def test_refusals_one_after_another_are_waited_for_longer_and_longer_until_one_is_answered() -> None:
    night = Night()
    one = gate(night)
    left = []
    for refusals in (5, 3):
        for _ in range(refusals):
            await failing(one, RateLimited("HTTP 429"))
            left.append(night.now)
        await post(one)
    assert gaps(left) == [1, 2, 4, 8, 16, 1, 2]


async def test_an_order_to_come_back_at_once_is_obeyed_later_and_later_until_it_is_once_a_second() -> None:
    night = Night()
    one = gate(night)
    left = []
    for _ in range(9):
        await failing(one, RateLimited("HTTP 429", retry_after_seconds=0.0))
        left.append(night.now)
    assert gaps(left) == pytest.approx([1 / 60, 2 / 60, 4 / 60, 8 / 60, 16 / 60, 32 / 60, 1, 1], abs=1e-5)


async def test_after_a_429_one_post_goes_alone_and_the_others_follow_its_answer() -> None:
    one = gate(Night())
    await post(one)
    await failing(one, RateLimited("HTTP 429"))
    assert await waves(one) == [1, 2]


async def test_after_a_429_posts_that_waited_for_the_rate_already_let_one_go_alone_too() -> None:
    night = Night()
    one = gate(night, requests_per_second=1)
    await post(one)
    await one.reserve()
    night.held = True

    def refuse() -> None:
        one.refused_for_rate(7.0)
        night.held = False

    assert await waves(one, refuse) == [1, 2]


async def test_an_order_to_wait_for_long_means_a_quota() -> None:
    """So that ``on_quota = "stop"`` stops, and a laptop that sleeps meanwhile wakes in time."""
    one = gate(wait_for_quota=False)
    await one.reserve()
    one.refused_for_rate(3_600.0)
    with pytest.raises(QuotaReached, match=r"^the quota is used up until 2023-11-14T23:13:22\.000Z$") as stop:
        await one.reserve()
    assert stop.value.resume_after == NOW + 3_602


async def test_an_order_to_wait_for_long_is_waited_for_by_the_wall_clock() -> None:
    """A laptop's timer does not count while it sleeps."""
    timer, slept = Night(), 0.0
    one = gate(lambda: timer.now + slept, timer=timer.timer)
    await one.reserve()
    one.refused_for_rate(3_600.0)
    slept = 3_602.0
    await post(one)
    assert timer.now == NOW + 1


async def test_nothing_but_429s_for_long_enough_means_a_quota() -> None:
    """It is a guess, for an hour; then it is tried as long again."""
    night = Night()
    one = gate(night, wait_for_quota=False, give_up_after_seconds=600)

    async def go_on() -> None:
        while True:
            await failing(one, RateLimited("HTTP 429"))

    for _ in range(2):
        begun = night.now
        with pytest.raises(QuotaReached, match=r"^the quota is used up until") as stop:
            await go_on()
        assert 600 < night.now - begun < 700
        assert stop.value.resume_after == night.now + 3_602
        await gate(night, one.window, wait_for_quota=False).reserve()  # a guess: whoever begins anew asks once
        night.now += 3_602


@pytest.mark.parametrize(
    "between", [post, lambda one: failing(one, Overloaded("HTTP 503"))], ids=["an answer", "another failure"]
)
async def test_429s_with_anything_else_between_them_never_mean_a_quota(
    between: Callable[[Gate], Awaitable[None]],
) -> None:
    night = Night()
    one = gate(night, wait_for_quota=False, give_up_after_seconds=600)
    for _ in range(4):
        await failing(one, RateLimited("HTTP 429"))
        await between(one)
        night.now += 400


async def test_where_the_tariff_paces_pages_they_wait_like_posts_also_behind_what_never_left() -> None:
    night = Night()
    one = gate(night, requests_per_second=1, pages_paced=True)
    moments = []
    for request in (page, page, post, turn, page):
        await request(one)
        moments.append(night.now)
    assert gaps(moments) == pytest.approx([1.008] * 4, abs=1e-5)


@pytest.mark.parametrize("pages_paced", [True, False])
async def test_a_429_for_a_page_pauses_posts_only_where_both_are_counted_together(pages_paced: bool) -> None:
    night = Night()
    one = gate(night, requests_per_second=10, pages_paced=pages_paced)
    with pytest.raises(RateLimited):
        async with one.page_turn():
            raise RateLimited("HTTP 429", retry_after_seconds=7)
    await post(one)
    assert night.now - NOW == (7 if pages_paced else 0)


# ------------------------------------------------------------------------------------------------------------ windows


async def test_a_window_that_nobody_tells_opens_when_its_first_post_is_answered() -> None:
    """The platform cannot have opened it later, however long the POST waited to leave. So does the next one."""
    now = NOW
    one = gate(lambda: now, posts_per_window=2)
    for begins in (NOW, NOW + 2 * DAY):
        now = begins
        await one.reserve()
        now += 300
        async with one.post_turn():
            now += 10
            one.answered(None)
        assert one.window == Window(1, begins + 310 + DAY)
        await post(one)
        assert one.window == Window(2, begins + 310 + DAY)


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
    one = gate(
        lambda: clock.now - set_back_by,
        window=Window(1, NOW + 7_200),
        timer=clock.timer,
        posts_per_window=1,
        window_seconds=7_200,
    )

    async def wait() -> None:
        await one.reserve()
        one.give_back()

    async with anyio.create_task_group() as waiting:
        for _ in range(8):
            waiting.start_soon(wait)
        while clock.now < NOW + 600:
            await anyio.lowlevel.checkpoint()
        set_back_by = 3_600.0
    assert 7_200 <= clock.now - NOW < 7_300


async def test_a_clock_that_is_put_right_by_a_second_now_and_then_does_not_move_the_window() -> None:
    """Each time backwards would count, and none forwards."""
    timer, off_by = Night(), 0.0
    one = gate(lambda: timer.now + off_by, window=Window(1, NOW + 7_200), timer=timer.timer)
    for _ in range(20):
        off_by = 1.0 - off_by
        await one.reserve()
        one.give_back()
    assert one.window == Window(1, NOW + 7_200)


@pytest.mark.parametrize(("window_seconds", "longest"), [(3_600.0, DAY), (7 * DAY, 7 * DAY)])
async def test_a_window_that_ends_long_after_it_can_is_that_of_a_clock_gone_wrong(
    window_seconds: float, longest: float
) -> None:
    """The platform may count another window than the pace says, but none says more than a day."""
    one = gate(window=Window(2, NOW + 1_000 * DAY), posts_per_window=2, window_seconds=window_seconds)
    assert one.window == Window(2, NOW + longest)


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
    night = Night()
    one = gate(night)
    await post(one)
    for number in range(5):
        assert not one.broken
        await failing(one, Overloaded("HTTP 503"))
        assert one.broken == (number == 4)
    assert await waves(one) == [1, 2]
    assert night.now == NOW + 1


async def test_probes_go_further_and_further_apart_but_every_ten_seconds() -> None:
    night = Night()
    one = gate(night)
    left = []
    for _ in range(11):
        await failing(one, Overloaded("HTTP 503"))
        left.append(night.now)
    assert gaps(left) == [0, 0, 0, 0, 1, 2, 4, 8, 10, 10]


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
    night = Night()
    one = gate(night, give_up_after_seconds=60)
    for _ in range(4):
        one.failed()
    night.now += 61
    said = r"^the platform has answered nothing for 61 s \(5 requests in a row failed\); the last: HTTP 503$"
    with pytest.raises(PlatformDown, match=said):
        one.failed(cause=Overloaded("HTTP 503"))


async def test_a_platform_that_is_down_for_a_week_is_probed_all_the_while() -> None:
    one = gate(give_up_after_seconds=604_800.0)
    for _ in range(2_000):
        one.failed()
    assert one.broken


async def test_posts_in_a_row_that_may_have_been_billed_for_nothing_end_the_run() -> None:
    """One by one, even where each leaves at the very moment at which the last was lost."""
    one = gate(Night(), max_unknown_posts=3)
    for error in (TimedOut("lost"), TimedOut("lost"), Overloaded("HTTP 503")):
        await failing(one, error)
    with pytest.raises(PlatformDown, match=r"^3 POSTs in a row may have been billed and brought nothing"):
        await failing(one, TimedOut("lost"))


async def test_posts_that_were_under_way_together_and_are_lost_together_are_one_loss() -> None:
    """One interruption of the network takes all that are under way: it does not end the night."""
    night = Night()
    one = gate(night, max_unknown_posts=2)
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
        night.now += 5
        interrupted.set()
    assert (one.broken, one.posts_spent) == (True, 9)
    with pytest.raises(PlatformDown, match=r"^2 POSTs in a row"):
        await lose()


async def test_a_post_that_left_after_a_loss_is_another_loss_whatever_else_failed_meanwhile() -> None:
    night = Night()
    one = gate(night, max_unknown_posts=2)
    one.failed(perhaps_billed=True, left_at=NOW)
    night.now += 1
    one.failed()
    with pytest.raises(PlatformDown, match=r"^2 POSTs in a row"):
        one.failed(perhaps_billed=True, left_at=NOW + 0.5)


async def test_while_a_window_is_waited_for_nobody_gives_up_on_the_platform() -> None:
    night = Night()
    one = gate(night, posts_per_window=2, give_up_after_seconds=60)
    for _ in range(2):
        await one.reserve()
        one.failed(perhaps_billed=True)
    for _ in range(3):
        await one.reserve()
        one.failed()
    assert night.now > NOW + DAY
    assert one.broken


async def test_an_answer_between_begins_the_row_of_unknown_posts_anew() -> None:
    one = gate(max_unknown_posts=2)
    for _ in range(10):
        one.failed(perhaps_billed=True)
        one.answered(None)
