"""So many requests at once, and pages before POSTs."""

from __future__ import annotations

import anyio

from pipeline.seats import Seats


async def seated(seats: Seats, name: str, order: list[str]) -> None:
    if not seats.take():
        await seats.wait(for_page=name.startswith("page"))
    order.append(name)


async def test_a_seat_that_is_given_back_goes_to_pages_first_and_among_equals_to_whoever_came_first() -> None:
    seats, order = Seats(1), list[str]()
    async with anyio.create_task_group() as requests:
        for name in ("first", "post 1", "post 2", "page 1", "page 2"):
            requests.start_soon(seated, seats, name, order)
            await anyio.wait_all_tasks_blocked()
        for _ in range(4):
            seats.leave()
            await anyio.wait_all_tasks_blocked()
    assert order == ["first", "page 1", "page 2", "post 1", "post 2"]
    seats.leave()
    assert [seats.take(), seats.take()] == [True, False]


async def test_whoever_stops_waiting_leaves_its_place_in_the_queue_to_the_next() -> None:
    seats, order = Seats(1), list[str]()
    assert seats.take()
    async with anyio.create_task_group() as requests:
        with anyio.move_on_after(0):
            await seats.wait(for_page=False)
        requests.start_soon(seated, seats, "post", order)
        await anyio.wait_all_tasks_blocked()
        seats.leave()
    assert order == ["post"]


async def test_a_seat_given_to_one_who_is_cancelled_at_that_moment_is_not_lost() -> None:
    seats = Seats(1)
    assert seats.take()
    async with anyio.create_task_group() as requests:
        requests.start_soon(seated, seats, "post", [])
        await anyio.wait_all_tasks_blocked()
        requests.cancel_scope.cancel()
        seats.leave()
    assert [seats.take(), seats.take()] == [True, False]


def test_none_is_as_many_as_are_wanted() -> None:
    seats = Seats(0)
    assert all(seats.take() for _ in range(1_000))
