"""The brake: the first reason counts, draining is bounded, and a signal pulls it."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Iterator

import anyio
import pytest

from pipeline.console import Console
from pipeline.errors import Drained, Interrupted, KeyRefused, QuotaReached
from pipeline.pacing import Gate, Pace
from pipeline.stopping import Stop


def gate() -> Gate:
    return Gate(Pace(), window=None, posts_spent=0, clock=lambda: 0.0)


@pytest.fixture
def ignored_hangup() -> Iterator[None]:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, before)


async def test_the_first_reason_counts_and_closes_the_gate() -> None:
    closing = gate()
    stop = Stop(closing, Console(io.StringIO()))
    assert stop.reason is None
    first = KeyRefused("no")
    stop.because(first)
    stop.because(QuotaReached("spent"))
    assert stop.reason is first
    with pytest.raises(Drained):
        await closing.reserve()


async def test_what_is_under_way_when_the_drain_is_over_is_cancelled() -> None:
    stop = Stop(gate(), Console(io.StringIO()))
    async with anyio.create_task_group() as watching:
        with anyio.CancelScope() as asking:
            watching.start_soon(stop.end_draining, 0.0, asking)
            stop.because(KeyRefused("no"))
            await anyio.sleep_forever()
    assert asking.cancelled_caught


async def test_a_quota_that_is_used_up_lets_pass_what_was_reserved_before() -> None:
    open_gate = gate()
    stop = Stop(open_gate, Console(io.StringIO()))
    asking = anyio.CancelScope()
    async with anyio.create_task_group() as watching:
        watching.start_soon(stop.end_draining, 0.0, asking)
        await open_gate.reserve()
        stop.because(QuotaReached("spent"))
        async with open_gate.post_turn():
            pass
        await anyio.wait_all_tasks_blocked()
        watching.cancel_scope.cancel()
    assert (type(stop.reason), asking.cancel_called) == (QuotaReached, False)


async def test_nothing_is_cancelled_before_something_stops_the_run() -> None:
    stop = Stop(gate(), Console(io.StringIO()))
    asking = anyio.CancelScope()
    async with anyio.create_task_group() as watching:
        watching.start_soon(stop.end_draining, 0.0, asking)
        await anyio.wait_all_tasks_blocked()
        assert not asking.cancel_called
        watching.cancel_scope.cancel()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_stops_the_run_and_says_so(number: signal.Signals) -> None:
    stream = io.StringIO()
    stop = Stop(gate(), Console(stream))
    with anyio.CancelScope() as asking:
        async with anyio.create_task_group() as watching:
            watching.start_soon(stop.watch_signals)
            watching.start_soon(stop.end_draining, 0.0, asking)
            await anyio.wait_all_tasks_blocked()
            os.kill(os.getpid(), number)
            await anyio.sleep_forever()
    assert isinstance(stop.reason, Interrupted)
    assert str(stop.reason) == f"stopped by {number.name}"
    assert stream.getvalue() == f"{number.name}: finishing the requests under way; once more ends at once\n"


@pytest.mark.usefixtures("ignored_hangup")
async def test_a_hangup_that_was_ignored_at_the_start_stays_ignored() -> None:
    stop = Stop(gate(), Console(io.StringIO()))
    async with anyio.create_task_group() as watching:
        watching.start_soon(stop.watch_signals)
        await anyio.wait_all_tasks_blocked()
        os.kill(os.getpid(), signal.SIGHUP)
        await anyio.wait_all_tasks_blocked()
        watching.cancel_scope.cancel()
    assert stop.reason is None
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
