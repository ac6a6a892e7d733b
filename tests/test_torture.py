"""A short form of ``scripts/torture``: what it promises is in ``tests/torture``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runs import working_strace
from tests.torture import injected, kills


async def test_random_kills_lose_double_and_repeat_nothing(tmp_path: Path) -> None:
    report = await kills.torture(tmp_path, seed=20260102, kills=8, videos=72)
    assert report.kills == 8


@pytest.mark.skipif(working_strace() is None, reason="strace traces nothing here")
async def test_kills_and_errors_at_chosen_calls_lose_double_and_repeat_nothing(tmp_path: Path) -> None:
    report = await injected.torture(tmp_path, seed=20260102, most=8)
    assert report.runs == 8
    assert report.points > 100
