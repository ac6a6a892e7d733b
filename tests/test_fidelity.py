"""A few seconds of ``scripts/fidelity``, always the same. And that the checks do check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import ValidationError

from tests.fidelity.__main__ import main
from tests.fidelity.asking import KEY, Tally, ask, asker
from tests.fidelity.conformity import conformity
from tests.fidelity.described import check_answer, response_of
from tests.fidelity.library import INDEX_ID, PlainClip, PlainVideo, eighths_of, library, short_library
from tests.fidelity.rules import refusals
from tests.fidelity.slow_scorer import answers

REQUESTS = 250
EVERYTHING: dict[str, Any] = {
    "options": ["visual", "conversation", "text_in_video", "logo"],
    "classes": [{"name": "any", "prompts": ["goal", "dance group", "film night"]}],
    "threshold": {"min_video_score": 1, "min_clip_score": 1, "min_duration_ratio": 0.01},
    "include_clips": True,
    "show_detailed_score": True,
    "page_limit": 7,
    "index_id": INDEX_ID,
}


def test_random_requests_are_answered_as_the_slow_scorer_does_or_refused_by_the_contract() -> None:
    with asker(library(0)) as one:
        ask(one, REQUESTS, 0)
    assert one.tally.requests == REQUESTS
    assert min(one.tally.answered, one.tally.refused) > REQUESTS // 10, "requests hardly reach both ends"


def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    with asker(short_library(0), thumbnails=True) as one:
        done = conformity(one.url, KEY, cases=3, seed=1, folder=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "9 selected / 9 total" in done.stdout


def _longer(video: PlainVideo) -> PlainVideo:
    return replace(video, seconds=video.seconds * 1.2)


def _without_a_clip(video: PlainVideo) -> PlainVideo:
    return replace(video, tracks={option: clips[1:] for option, clips in video.tracks.items()})


def _named_otherwise(video: PlainVideo) -> PlainVideo:
    return replace(video, video_id="another")


@pytest.mark.parametrize("falsify", [_longer, _without_a_clip, _named_otherwise])
def test_a_platform_that_knows_something_else_is_found(falsify: Callable[[PlainVideo], PlainVideo]) -> None:
    with asker(library(0)) as one:
        one.check(EVERYTHING, of_index=True)
        first, *others = one.videos
        with pytest.raises(AssertionError):
            replace(one, videos=(falsify(first), *others)).check(EVERYTHING, of_index=True)


def test_the_slow_scorer_gives_what_was_worked_out_by_hand() -> None:
    """Under a curve of 6 and 0.12 a cosine of 1 scores 99.49."""
    clips = PlainClip(0, 2, eighths_of("goal"), "goal"), PlainClip(2, 10, (0,) * 8, "?!")
    asked = EVERYTHING | {"classes": [{"name": "A", "prompts": ["goal"]}]}
    told: dict[str, Any] = {
        "name": "A",
        "score": 39.8,
        "duration_ratio": 0.2,
    }  # 2 of the best 5 s; the other says nothing
    told["clips"] = [{"start": 0.0, "end": 2.0, "score": 99.49, "option": "visual", "prompt": "goal"}]
    told["detailed_scores"] = {"max_score": 99.49, "avg_score": 99.49, "normalized_score": 100.0}
    threshold = {"min_video_score": 39.8, "min_clip_score": 32.75, "min_duration_ratio": 0.2}
    video = PlainVideo("v", 10.0, {"visual": clips})
    assert answers([video], asked | {"threshold": threshold}) == {"v": [told]}
    assert answers([video], asked | {"threshold": threshold | {"min_video_score": 39.81}}) == {}


def test_a_request_that_breaks_two_rules_may_be_refused_for_either() -> None:
    body = {"classes": [{"name": "", "prompts": ["p"]}], "video_ids": ["v"], "surprise": 1}
    assert refusals(body, of_index=False, index_id=INDEX_ID, seconds_of={"v": 1.0}) == {
        (400, "parameter_invalid"),
        (400, "parameter_not_provided"),
        (400, "parameter_unknown"),
    }


def test_an_answer_of_another_shape_is_found() -> None:
    described = response_of("GET", "/classify/token", 400)
    headers = {"Content-Type": "application/json; charset=utf-8"}
    check_answer(described, headers, b'{"code": "parameter_invalid", "message": "why"}')
    for body in [b'{"code": "other", "message": "why"}', b'{"code": "parameter_invalid"}', b"[]"]:
        with pytest.raises(ValidationError):
            check_answer(described, headers, body)
    with pytest.raises(AssertionError):
        check_answer(described, {"Content-Type": "text/html"}, b"")


def test_the_long_form_asks_both_and_tells_its_seed() -> None:
    ended = CliRunner().invoke(main, ["--requests", "15", "--cases", "0", "--seed", "7"])
    assert ended.exit_code == 0, ended.output
    assert ended.output.startswith("seed 7\n15 requests: ")


def test_tallies_add_up() -> None:
    total = Tally(1, 2, 3)
    total.add(Tally(4, 5, 6))
    assert (total, total.requests) == (Tally(5, 7, 9), 21)
