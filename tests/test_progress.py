"""How a run stands, in lines: exactly, at every width, and never wider than a terminal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.progress import (
    ACTIVITIES,
    Activity,
    Allowance,
    Facts,
    cells,
    duration,
    heartbeat,
    live_view,
    moment,
    plain,
    rate,
    seconds_left,
    shortened,
)

NOW = 1_700_000_000.0  # 2023-11-14 22:13:20 UTC
HOUR = 3_600.0
QUOTA = Allowance(limit=1_200, used=84, resets_at=NOW + 8 * HOUR, seconds=86_400)
FACTS = Facts(
    now=NOW,
    videos=12_000,
    scored=3_000,
    no_match=88,
    failures={"resource_not_exist": 10, "timed_out": 2},
    posts=84,
    posts_planned=240,
    pace=0.982,
    pace_allowed=1.0,
    allowance=QUOTA,
    activity=Activity("answering", detail="8 POSTs under way or next"),
    seconds_left=159,
)


def view(facts: Facts, columns: int) -> list[str]:
    return [plain(line) for line in live_view(facts, columns)]


def test_the_live_view_of_eighty_columns() -> None:
    assert view(FACTS, 79) == [
        " videos  3,100 of 12,000 (25 %)  ███████████░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░",
        " POSTs   84 of 240 planned; 0.98 a second, 1.00 allowed",
        " quota   1,116 of 1,200 left, resets at 2023-11-15 06:13 UTC (in 8 h)",
        " failed  12: 10 resource_not_exist; 2 timed_out",
        " now     8 POSTs under way or next",
        " left    about 3 min, until 22:15 UTC",
    ]


def test_a_narrow_terminal_gets_the_parts_that_matter_most() -> None:
    assert view(replace(FACTS, seconds_left=3 * HOUR + 1_200), 39) == [
        " videos  3,100 of 12,000 (25 %)",
        " POSTs   84 of 240 planned",
        " quota   1,116 of 1,200 left",
        " failed  12: 10 resource_not_exist",
        " now     8 POSTs under way or next",
        " left    about 3 h 20 min",
    ]


def test_a_wide_terminal_gets_a_bar_that_is_no_longer_than_the_eye_likes() -> None:
    assert view(FACTS, 199)[0] == " videos  3,100 of 12,000 (25 %)  " + "█" * 15 + "░" * 45


@pytest.mark.parametrize(
    ("activity", "said"),
    [
        (Activity("answering"), "reading answers"),
        (
            Activity("waiting_for_quota", NOW + 5_400),
            "waiting for the quota until 23:43 UTC, 1 h 30 min from now",
        ),
        (
            Activity("probing", NOW + 8, "3 min", NOW + 1_620),
            "no answer for 3 min, the next probe in 8 s, gives up at 22:40 UTC",
        ),
        (Activity("probing", None, "20 s"), "no answer for 20 s, the next probe now"),
        (Activity("held_back", NOW + 30), "held back by the platform, the next POST in 30 s"),
        (Activity("draining"), "stopping: what is under way is finished"),
        (
            Activity("draining", detail="stopped by SIGINT"),
            "stopping: what is under way is finished (stopped by SIGINT)",
        ),
    ],
)
def test_the_view_says_what_is_happening(activity: Activity, said: str) -> None:
    assert f" now     {said}" in view(replace(FACTS, activity=activity), 119)


def test_what_is_not_known_or_not_there_has_no_line() -> None:
    facts = Facts(NOW, videos=5, scored=0, no_match=0, failures={}, posts=0, posts_planned=0)
    assert view(facts, 59) == [
        " videos  0 of 5 (0 %)  " + "░" * 36,
        " POSTs   0 sent",
        " now     reading answers",
    ]


def test_a_run_is_whole_only_when_all_of_it_is_done() -> None:
    nearly = Facts(NOW, videos=1_000, scored=999, no_match=0, failures={}, posts=9, posts_planned=9, seconds_left=1)
    whole = replace(nearly, scored=1_000)
    assert (view(nearly, 79)[0].count("░"), " 999 of 1,000 (99 %)" in view(nearly, 79)[0]) == (1, True)
    assert (view(whole, 79)[0].count("░"), view(whole, 79)[-1]) == (0, " now     reading answers")
    assert replace(nearly, videos=0, scored=0).percent == 100


def test_of_many_codes_the_most_frequent_are_named_and_nothing_in_them_is_obeyed_by_a_terminal() -> None:
    facts = replace(FACTS, failures={"a": 1, "b": 5, "c\x1b[2J": 3, "d": 2, "e": 1})
    assert " failed  12: 5 b; 3 c [2J; 2 d; 2 for other reasons" in view(facts, 119)


def test_a_used_up_quota_and_failures_are_told_in_words_and_in_colour() -> None:
    facts = replace(FACTS, allowance=replace(QUOTA, used=1_300))
    styles = {piece.text: piece.style for line in live_view(facts, 79) for piece in line}
    assert (styles["0 of 1,200 left"], styles["12"]) == ("wait", "bad")


def test_the_heartbeat_says_the_same_in_one_line() -> None:
    assert heartbeat(FACTS) == (
        "2023-11-14 22:13:20 UTC  3,100 of 12,000 videos (25 %); POSTs 84 of 240 planned; 0.98 a second, 1.00 allowed; "
        "quota 1,116 of 1,200 left, resets at 2023-11-15 06:13 UTC (in 8 h); "
        "failed 12: 10 resource_not_exist; 2 timed_out; 8 POSTs under way or next; "
        "left about 3 min, until 22:15 UTC"
    )


codes = st.text(st.characters(codec="utf-8"), max_size=30)
some_facts: st.SearchStrategy[Facts] = st.builds(
    Facts,
    now=st.just(NOW),
    videos=st.integers(0, 10**9),
    scored=st.integers(0, 10**9),
    no_match=st.integers(0, 10**6),
    failures=st.dictionaries(codes, st.integers(1, 10**6), max_size=6),
    posts=st.integers(0, 10**9),
    posts_planned=st.integers(0, 10**9),
    pace=st.none() | st.floats(0, 10_000),
    pace_allowed=st.none() | st.floats(0.001, 10_000),
    allowance=st.none()
    | st.builds(Allowance, st.integers(1, 10**9), st.integers(0, 10**9), st.floats(0, 1e11), st.just(1.0)),
    activity=st.builds(Activity, st.sampled_from(ACTIVITIES), st.floats(0, 1e13), codes),
    seconds_left=st.none() | st.floats(0, 1e13),
)


@given(some_facts, st.integers(20, 200))
def test_whatever_the_facts_no_line_is_wider_than_the_terminal(facts: Facts, columns: int) -> None:
    facts = replace(facts, videos=max(facts.videos, facts.settled))
    lines = view(facts, columns)
    assert all(cells(line) <= columns for line in lines)
    assert all(line.isprintable() for line in [*lines, heartbeat(facts)])


@pytest.mark.parametrize(("text", "width"), [("abc", 3), ("映像", 4), ("e\u0301", 1), ("", 0), ("🎬x", 3), ("ﾊﾝ", 2)])
def test_wide_letters_take_two_columns_and_accents_none(text: str, width: int) -> None:
    assert cells(text) == width


@pytest.mark.parametrize(("columns", "cut"), [(6, "映像分"), (5, "映像…"), (4, "映…"), (1, "…"), (0, "")])
def test_a_text_that_is_cut_says_so(columns: int, cut: str) -> None:
    assert shortened("映像分", columns) == cut


# ----------------------------------------------------------------------------------------------------------- estimates


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"allowance": None}, 1_000.0),  # 100 videos of 10 s each
        ({"posts": 50}, 1_000.0),  # they fit into what is left
        ({"posts": 100}, 8 * HOUR + 1_000 * 0.5),  # half of them wait for the next window
        ({"posts": 250}, 8 * HOUR + 86_400 + 1_000 * 80 / 250),  # 50 now, 120 in the next window, 80 in the one after
        ({"posts": 170}, 8 * HOUR + 1_000 * 120 / 170),  # the next window to its last POST
        ({"allowance": Allowance(0, 0, NOW, 60)}, 1_000.0),  # a quota of nothing says nothing
    ],
)
def test_the_rest_takes_as_many_windows_as_its_posts_need(changes: dict[str, Any], expected: float) -> None:
    facts: dict[str, Any] = {"posts": 10, "allowance": Allowance(120, 70, NOW + 8 * HOUR, 86_400)}
    assert seconds_left(100, 10.0, **(facts | changes), now=NOW) == pytest.approx(expected)


# --------------------------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (45, "45 s"),
        (89, "89 s"),
        (90, "2 min"),
        (150, "2 min"),
        (5_340, "89 min"),
        (5_400, "1 h 30 min"),
        (12_000, "3 h 20 min"),
        (86_400, "24 h"),
    ],
)
def test_a_length_of_time_is_told_as_people_say_it(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("per_second", "said"),
    [(0, "0.00"), (0.0012, "0.0012"), (0.98, "0.98"), (1, "1.00"), (9.994, "9.99"), (25.4, "25"), (1_234, "1,234")],
)
def test_a_rate_has_two_digits_or_more(per_second: float, said: str) -> None:
    assert rate(per_second) == said


@pytest.mark.parametrize(
    ("at", "said"),
    [(NOW, "22:13 UTC"), (NOW + 2 * HOUR, "2023-11-15 00:13 UTC"), (1e15, "9999-12-31 23:59 UTC")],
)
def test_a_moment_of_another_day_has_its_day(at: float, said: str) -> None:
    assert moment(at, NOW) == said
