"""Cues of SRT and WebVTT, and what is told of lines that are none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.platform.subtitles import Cue, cues

SRT = """\
1
00:00:01,500 --> 00:00:04,000
<i>Hello</i> there,
{\\an8}my friend.

2
01:02:03,4 --> 01:02:05,000 X1:40 X2:600
Bye &amp; thanks.

"""
VTT = """\
WEBVTT - some title
Kind: captions

STYLE
::cue { color: red }

NOTE
00:00.000 --> 00:01.000
this is a note

intro
00:01.500 --> 00:04.000 align:start position:0%
<v Ada>Hello <00:00:02.000><c>there</c>

99:00:00.000 --> 99:00:01.250
late
"""


def read(text: str) -> tuple[list[Cue], list[str]]:
    problems: list[str] = []
    lines = enumerate(text.splitlines(), 1)
    return list(cues(lines, lambda number, problem: problems.append(f"{number}: {problem}"))), problems


def test_subrip_is_read_without_its_markup() -> None:
    assert read(SRT) == ([Cue(1.5, 4.0, "Hello there, my friend."), Cue(3723.4, 3725.0, "Bye & thanks.")], [])


def test_webvtt_is_read_without_notes_styles_and_settings() -> None:
    assert read(VTT) == ([Cue(1.5, 4.0, "Hello there"), Cue(356400.0, 356401.25, "late")], [])


def test_a_cue_without_words_is_left_out() -> None:
    assert read("1\n00:00:01,000 --> 00:00:02,000\n<i></i>\n") == ([], [])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1\n00:00:01,000 -> 00:00:02,000\nHi\n", "1: expected a cue with times such as"),
        ("Hello\nyou\n", "1: expected a cue with times such as 00:01:02,500 --> 00:01:04,000, not 'Hello'"),
        ("1\n00:00:01 --> 00:00:02\nHi\n", "2: times are written as 00:01:02,500 --> 00:01:04,000, not '00:00:01 -->"),
        ("\n\n1\n00:00:02,000 --> 00:00:02,000\nHi\n", "4: the cue ends when or before it begins"),
        ("1\n00:00:61,000 --> 00:00:62,000\nHi\n", "2: times are written as"),
    ],
)
def test_a_bad_cue_is_told_with_its_line_and_the_others_are_read(text: str, problem: str) -> None:
    found, problems = read(f"{text}\n{SRT}")
    assert len(found) == 2
    assert len(problems) == 1
    assert problems[0].startswith(problem)


def test_a_file_without_a_blank_line_is_not_held() -> None:
    found, problems = read("word\n" * 2_500)
    assert (found, [problem.split(":")[0] for problem in problems]) == ([], ["1", "1001", "2001"])


@given(st.lists(st.tuples(st.integers(0, 10**7), st.integers(1, 10**6), st.text("abc é", min_size=1)), max_size=5))
def test_what_is_written_as_subrip_or_webvtt_is_read_back(spoken: list[tuple[int, int, str]]) -> None:
    def time(millis: int, mark: str) -> str:
        minutes, rest = divmod(millis, 60_000)
        return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{mark}{rest % 1000:03}"

    expected = [
        Cue(start / 1000, (start + length) / 1000, " ".join(text.split()))
        for start, length, text in spoken
        if text.split()
    ]
    for header, mark in (("", ","), ("WEBVTT\n\n", ".")):
        blocks = [f"{time(at, mark)} --> {time(at + length, mark)}\n{text.strip()}\n\n" for at, length, text in spoken]
        found, problems = read(header + "".join(blocks))
        assert problems == []
        assert found == [
            Cue(pytest.approx(one.start), pytest.approx(one.end), one.text)  # type: ignore[arg-type]
            for one in expected
        ]


def test_cues_that_no_blank_line_parts_are_told_and_are_not_taken_for_words() -> None:
    lines = ["1", "00:00:02,000 --> 00:00:06,500", "We bake.", "2", "00:00:07,000 --> 00:00:11,000", "Knead it."]
    told: list[tuple[int, str]] = []
    assert list(cues(enumerate(lines, 1), lambda number, problem: told.append((number, problem)))) == []
    assert told == [(5, "a blank line must stand before the next cue")]


def test_a_cue_may_stand_right_below_the_header_of_webvtt() -> None:
    text = "WEBVTT\nKind: captions\n00:01.000 --> 00:03.000\nknead\n\n00:04.000 --> 00:05.000\nbake\n"
    assert read(text) == ([Cue(1, 3, "knead"), Cue(4, 5, "bake")], [])


def test_times_begin_a_cue_of_webvtt_without_a_blank_line_too() -> None:
    text = "WEBVTT a --> b\n\n1\n00:01.000 --> 00:02.000 align:start\nknead\n00:02.000 --> 00:03.000\nbake\n"
    assert read(text) == ([Cue(1, 2, "knead"), Cue(2, 3, "bake")], [])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('<font color="#fff">a</font> if a<b and c>d', "a if a<b and c>d"),
        ("I <3 you <love> x<y>z", "I <3 you <love> x<y>z"),
        ("<v.loud Fred O'Neil>hey <c.yellow.bg_blue>you</c> <lang en>there</lang></v>", "hey you there"),
        ("<I>big</I> <b.x>and</b> <ruby>bold<rt>er</rt></ruby>", "big and bolder"),
    ],
)
def test_only_known_markup_is_taken_out(line: str, words: str) -> None:
    assert read(f"00:00:01,000 --> 00:00:02,000\n{line}\n")[0] == [Cue(1, 2, words)]


def test_only_what_looks_like_markup_is_taken_out() -> None:
    text = "00:00:01,000 --> 00:00:02,000\nif a < b and <b>c</b> > d <00:00:01.500>then<br/> 3 <4> 5\n"
    assert read(text)[0] == [Cue(1, 2, "if a < b and c > d then 3 5")]
