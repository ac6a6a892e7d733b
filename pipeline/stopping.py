"""How a run stops: the first reason counts, nothing new is sent, and what is under way gets a bounded time to end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio

from pipeline.console import Console
from pipeline.errors import Interrupted, QuotaReached, StopRun
from pipeline.pacing import Gate

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def ended_by_signals(console: Console, last: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Let a signal end the process at once: for as long as nothing is promised, such as while the input is read.

    ``last`` is still done before that.
    """

    def end(number: int, _: object) -> None:
        console.say(f"{signal.Signals(number).name}: ended before anything was sent")
        last()
        os._exit(Interrupted.exit_code)

    with _met_by(end):
        yield


@contextmanager
def unmoved_by_signals() -> Iterator[None]:
    """Let signals change nothing: the run is over, and its process ends by itself soon, with the run's exit code."""
    with _met_by(lambda _number, _frame: None):  # not SIG_IGN, which whatever is started here would inherit
        yield


@contextmanager
def _met_by(meet: Callable[[int, object], None]) -> Iterator[None]:
    """Have signals met, but for those that were ignored when we began (``nohup``)."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, present in before.items():
        if present is not signal.SIG_IGN:
            signal.signal(number, meet)
    try:
        yield
    finally:
        for number, present in before.items():
            signal.signal(number, present)


class Stop:
    """The run's one brake. ``reason`` is None while nothing has pulled it; ``go_on`` is what goes on after a stop."""

    def __init__(self, gate: Gate, console: Console, *, go_on: str = "`bulk-classify resume`") -> None:
        self.reason: StopRun | None = None
        self._gate = gate
        self._console = console
        self._go_on = go_on
        self._draining = anyio.Event()
        self._signalled = False

    def because(self, reason: StopRun) -> None:
        """Stop the run; the first reason is the one that is told.

        A quota that is used up closes no gate: what was reserved before is still to be sent and walked to its end.
        """
        self.reason = self.reason or reason
        if not isinstance(reason, QuotaReached):
            self._gate.close()
            self._draining.set()

    async def end_draining(self, drain_seconds: float, asking: anyio.CancelScope) -> None:
        """Once the run drains, give the requests under way so many seconds, then cancel them."""
        await self._draining.wait()
        await anyio.sleep(drain_seconds)
        asking.cancel()

    async def watch_signals(self) -> None:
        """Let the first SIGINT, SIGTERM or SIGHUP stop the run, and a second one end the process at once.

        The second is as safe as a kill: what is committed is on the disk, and the rest was never promised. A SIGHUP
        that was ignored when we began (``nohup``) stays ignored.
        """
        heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        with anyio.open_signal_receiver(*heeded) as signals:
            async for number in signals:
                if self._signalled:
                    self._console.say(f"{number.name}: ended at once; {self._go_on} goes on from here")
                    os._exit(Interrupted.exit_code)
                self._signalled = True
                self._console.say(f"{number.name}: finishing the requests under way; once more ends at once")
                self.because(Interrupted(f"stopped by {number.name}"))
