"""What every test finds: signals as a terminal leaves them, whoever started the tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

USUAL: dict[signal.Signals, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}


@pytest.fixture(autouse=True)
def _heeded_signals() -> Iterator[None]:
    """Under ``nohup``, or behind ``&`` in a script, signals are ignored, and a run rightly leaves them so."""
    before = {number: signal.getsignal(number) for number in USUAL}
    for number, usual in USUAL.items():
        signal.signal(number, usual)
    yield
    for number, present in before.items():
        signal.signal(number, present)
