"""Numbers and foreign texts in messages."""

from __future__ import annotations

import pytest

from pipeline.wording import LONGEST_TOLD, counted, escaped, harmless, printable


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 chunks, 0 classes"), (1, "1 chunk, 1 class"), (1_200, "1,200 chunks, 1,200 classes")]
)
def test_one_thing_is_one_thing(count: int, said: str) -> None:
    assert f"{counted(count, 'chunk')}, {counted(count, 'class', 'classes')}" == said


def test_what_a_terminal_would_obey_is_written_out_or_left_out() -> None:
    told = "näh\x1b[2J\r\n\u202ex\udcff"
    assert escaped(told) == r"näh\x1b[2J\r\n\u202ex\udcff"
    assert printable(told) == "näh [2J   x "
    assert escaped("a 'quoted' name") == "a 'quoted' name"


def test_what_a_server_says_repeats_no_key_and_is_not_endless() -> None:
    assert harmless("no tlk_secret\x07 here", "tlk_secret") == "no [key]  here"
    assert harmless("next", "x") == "next", "so short a key is no secret"
    assert harmless("as it is", None) == "as it is"
    assert harmless("a" * 10_000, "tlk_secret") == "a" * LONGEST_TOLD
    assert harmless("a" * (LONGEST_TOLD - 4) + "tlk_secret", "tlk_secret").endswith("a[key"), "struck before it is cut"
