"""Numbers in messages."""

from __future__ import annotations

import pytest

from pipeline.wording import counted


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 chunks, 0 classes"), (1, "1 chunk, 1 class"), (1_200, "1,200 chunks, 1,200 classes")]
)
def test_one_thing_is_one_thing(count: int, said: str) -> None:
    assert f"{counted(count, 'chunk')}, {counted(count, 'class', 'classes')}" == said
