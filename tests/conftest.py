"""What every test finds: signals as a terminal leaves them, whoever started the tests, and no deadline."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.runs import Desk

settings.register_profile("any machine", deadline=None, print_blob=True)  # a slow one has no bug
settings.load_profile("any machine")

USUAL: dict[signal.Signals, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture(autouse=True)
def _heeded_signals() -> Iterator[None]:
    """Under ``nohup``, or behind ``&`` in a script, signals are ignored, and a run rightly leaves them so."""
    before = {number: signal.getsignal(number) for number in USUAL}
    for number, usual in USUAL.items():
        signal.signal(number, usual)
    yield
    for number, present in before.items():
        signal.signal(number, present)
