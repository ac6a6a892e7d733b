"""``normalized_score`` is the platform's own, to the last bit; numbers stay of the type that was sent."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.models import Clip, normalized_scores
from tests.builders import GUIDE


@pytest.mark.parametrize("entry", GUIDE[3]["response"]["data"], ids=lambda entry: entry["video_id"])
def test_the_guides_shares_are_met_to_the_last_bit(entry: dict[str, list[dict[str, object]]]) -> None:
    published = [one["detailed_scores"]["normalized_score"] for one in entry["classes"]]  # type: ignore[index]
    assert normalized_scores([one["score"] for one in entry["classes"]]) == published  # type: ignore[misc]


@pytest.mark.parametrize(
    ("scores", "shares"),
    [
        ([], []),
        ([0, 0.0], [0.0, 0.0]),
        ([42], [100.0]),
        ([0, 50], [0.0, 100.0]),
        ([25, 25, 50], [25.0, 25.0, 50.0]),
        ([37.83, 33.35], [53.14695139084012, 46.85304860915988]),
    ],
)
def test_shares_of_simple_scores(scores: list[float], shares: list[float]) -> None:
    assert normalized_scores(scores) == shares


@given(st.lists(st.integers(0, 100) | st.floats(0.01, 100), min_size=1, max_size=100))
def test_shares_add_up_to_a_hundred_and_keep_the_order_of_the_scores(scores: list[float]) -> None:
    shares = normalized_scores(scores)

    assert len(shares) == len(scores)
    assert math.isclose(math.fsum(shares), 100 if any(scores) else 0, rel_tol=1e-12)
    in_order_of_score = [share for _, share in sorted(zip(scores, shares, strict=True))]
    assert in_order_of_score == sorted(shares)


@pytest.mark.parametrize(
    ("text", "number"), [("224", 224), ("224.0", 224.0), ("169.63541666666669", 169.63541666666669)]
)
def test_a_number_keeps_the_type_that_was_sent(text: str, number: float) -> None:
    body = f'{{"start":{text},"end":1,"score":1,"option":"visual","prompt":"p"}}'.encode()
    clip = msgspec.json.decode(body, type=Clip)
    assert clip.start == number
    assert type(clip.start) is type(number)
    assert msgspec.json.encode(clip) == body
