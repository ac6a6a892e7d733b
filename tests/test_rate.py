"""At most the allowed rate, and nearly all of it, with a clock that only the test moves."""

from __future__ import annotations

import random
from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import pairwise

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.rate import Rate
from tests.runs import MovedClock
from tests.servers.strict import SlidingWindow


class Oversleeping(MovedClock):
    """Whoever sleeps wakes up to ``most`` seconds too late, always in the same way."""

    def __init__(self, most: float = 0.0) -> None:
        super().__init__()
        self._late = random.Random(1)
        self._most = most

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds + self._late.uniform(0, self._most))


class Network:
    """Carries requests to a strict server, each with a delay of its own."""

    def __init__(self, requests_per_second: float, jitter: float) -> None:
        self._window = SlidingWindow(requests_per_second)
        self._delays = random.Random(2)
        self._jitter = jitter
        self._on_the_way: list[float] = []

    def carry(self, departure: float) -> None:
        heappush(self._on_the_way, departure + self._delays.uniform(0, self._jitter))

    def refused(self, until: float) -> Iterator[float]:
        """The arrivals up to a moment that are refused."""
        while self._on_the_way and self._on_the_way[0] <= until:
            moment = heappop(self._on_the_way)
            if not self._window.admits(moment):
                yield moment


async def left(rate: Rate) -> float:
    """The moment at which one more request leaves, as soon as it may."""
    departure = await rate.post()
    departure.tell(departure.moment)
    return departure.moment


@pytest.mark.parametrize(("requests_per_second", "requests"), [(1, 100), (10, 1_000), (50, 1_000), (500, 2_000)])
async def test_a_strict_server_refuses_nothing_and_hardly_anything_of_the_rate_is_lost(
    requests_per_second: int, requests: int
) -> None:
    """With 2 ms of jitter on the way, in a process that wakes up to 5 ms too late."""
    clock = Oversleeping(0.005)
    rate = Rate(requests_per_second, clock.timer)
    network = Network(requests_per_second, 0.002)
    begun = clock.now
    for _ in range(requests):
        network.carry(await left(rate))
    assert list(network.refused(clock.now + 1)) == []
    assert (requests - 1) / (clock.now - begun) >= 0.985 * requests_per_second


async def test_where_the_jitter_is_larger_the_margin_learns_it_and_few_are_refused() -> None:
    clock = MovedClock()
    rate = Rate(50, clock.timer)
    network = Network(50, 0.05)
    refusals = []
    learnt_at = clock.now
    for number in range(6_000):
        network.carry(await left(rate))
        for _ in network.refused(clock.now):
            refusals.append(number)
            rate.widen()
        if number == 1_000:
            learnt_at = clock.now
    assert 0 < len(refusals) < 10
    assert [one for one in refusals if one > 1_000] == refusals[-1:]
    assert 0.93 < 5_000 / (clock.now - learnt_at) / 50 < 0.97


async def test_a_margin_widens_at_each_refusal_and_narrows_slowly_to_what_it_was() -> None:
    clock = MovedClock()
    rate = Rate(1, clock.timer)
    margins = [rate.margin]
    for _ in range(2):
        rate.widen()
        margins.append(rate.margin)
    for seconds in (500, 1_000, 1_000):
        clock.now += seconds
        margins.append(rate.margin)
    assert margins == pytest.approx([0.008, 0.018, 0.028, 0.023, 0.013, 0.008])
    for _ in range(100):
        rate.widen()
    assert rate.margin == 0.5


@given(
    st.one_of(st.integers(1, 60), st.floats(0.01, 60)),
    st.lists(st.floats(0, 3), min_size=20, max_size=150),
    st.floats(0, 0.2),
)
def test_whatever_came_before_no_period_has_one_request_too_many(
    requests_per_second: float, idle: list[float], oversleep: float
) -> None:
    async def departures() -> list[float]:
        clock = Oversleeping(oversleep)
        rate = Rate(requests_per_second, clock.timer)
        moments = []
        for seconds in idle:
            clock.now += seconds if seconds > 2 else 0
            moments.append(await left(rate))
        return moments

    moments = anyio.run(departures)
    whole = max(1, int(requests_per_second))
    spans = [later - earlier for earlier, later in zip(moments, moments[whole:], strict=False)]
    assert all(span >= whole / requests_per_second + 0.008 - 1e-6 for span in spans)


async def test_a_request_that_a_handshake_held_up_counts_from_when_it_left() -> None:
    clock = MovedClock()
    rate = Rate(1, clock.timer)
    departure = await rate.post()
    departure.tell(clock.now + 0.3)
    assert (await rate.post()).moment == pytest.approx(departure.moment + 1.008)


async def test_a_request_that_has_not_left_yet_may_leave_at_any_moment() -> None:
    """A handshake that takes longer than the period: the next request does not leave just behind it."""
    clock = MovedClock()
    rate = Rate(1, clock.timer)
    held_up = await rate.post()
    began_at, moments = clock.now, []

    async def next_one() -> None:
        moments.append((await rate.post()).moment)

    async with anyio.create_task_group() as requests:
        requests.start_soon(next_one)
        while clock.now < began_at + 5:
            await anyio.lowlevel.checkpoint()
        assert moments == []
        held_up.tell(clock.now)
    assert moments[0] >= held_up.moment + 1.008


async def test_at_first_and_after_a_rest_requests_leave_one_by_one_too() -> None:
    """What could be made good is a twentieth of a second's worth, however long nothing was sent."""
    clock = MovedClock()
    rate = Rate(20, clock.timer)
    for rest in (0.0, 3_600.0):
        clock.now += rest
        moments = [await left(rate) for _ in range(6)]
        gaps = [later - earlier for earlier, later in pairwise(moments)]
        assert gaps == pytest.approx([0.0, 0.05, 0.05, 0.05, 0.05], abs=1e-6)


async def test_a_page_goes_before_the_posts_that_wait() -> None:
    clock = MovedClock()
    rate = Rate(1, clock.timer)
    order: list[str] = []

    async def leave(what: str) -> None:
        (await (rate.page() if what == "page" else rate.post())).tell(clock.now)
        order.append(what)

    async with anyio.create_task_group() as requests:
        for what in ("first", "second", "third", "page"):
            requests.start_soon(leave, what)
    assert set(order[:2]) == {"first", "page"}
