from __future__ import annotations

import pytest

from pipeline.platform.exact_match import matching_lines, words
from tests.platform.made_up import track


def lines_of(prompt: str, *lines: tuple[float, float, str]) -> list[int]:
    spoken = track("conversation", *[(start, end, []) for start, end, _ in lines], texts=[text for _, _, text in lines])
    return [line for line, hit in enumerate(matching_lines(spoken, [prompt])[0]) if hit]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don\u2019t STOP!", ["don", "t", "stop"]),
        ("Straße", ["strasse"]),
        ("\ufb01ne \uff21\uff22\uff23 \u2460", ["fine", "abc", "1"]),
        ("¡…!", []),
    ],
)
def test_words_are_compared_without_case_width_ligatures_or_punctuation(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_the_words_must_be_whole_contiguous_and_in_order() -> None:
    line = (0.0, 5.0, "Now we start dancing together")
    assert lines_of("start DANCING", line) == [0]
    assert lines_of("dancing start", line) == []
    assert lines_of("we dancing", line) == []
    assert lines_of("dance", line) == []
    assert lines_of("dancing togethe", line) == []


def test_a_match_may_run_over_lines_with_a_pause_of_a_second_at_most() -> None:
    first, second = (0.0, 2.3, "and then one two"), (3.3, 5.0, "three four")
    assert lines_of("two three", first, second) == [0, 1]
    assert lines_of("two three", first, (3.4, 5.0, "three four")) == []
    assert lines_of("two three four five", first, second, (5.0, 6.0, "five six"), (6.0, 7.0, "seven")) == [0, 1, 2]


def test_lines_are_read_in_order_of_time_and_lines_without_words_do_not_part_them() -> None:
    assert lines_of("one two", (4.0, 5.0, "two"), (0.0, 2.0, "one"), (2.0, 4.0, "♪ ♪")) == [0, 1, 2]


def test_overlapping_matches_are_all_found() -> None:
    assert lines_of("la la", (0.0, 1.0, "la"), (1.0, 2.0, "la"), (2.0, 3.0, "la"), (3.0, 4.0, "di")) == [0, 1, 2]


def test_a_word_is_found_after_a_pause_at_the_very_start_of_a_line() -> None:
    assert lines_of("dance", (0.0, 1.0, "hello"), (9.0, 10.0, "dance"), (20.0, 21.0, "hello")) == [1]


def test_nothing_matches_a_prompt_without_words_or_a_track_without_texts() -> None:
    assert lines_of("?!", (0.0, 1.0, "what?!")) == []
    assert not matching_lines(track("conversation", (0, 1, [])), ["word"]).any()
