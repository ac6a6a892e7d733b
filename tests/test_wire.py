"""The contract in bytes: the guide's own requests, every rule of a request, errors and lists."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import wire
from pipeline.models import JobClass, Threshold
from pipeline.wire import ClassifyRequest, RequestInvalid, decode_classify
from tests.builders import GUIDE, any_body

DANCE = JobClass("DanceTok", ("Dance tutorial", "Dance group", "Dance competition"))
COOK = JobClass("CookTok", ("Cooking tutorial", "Cooking ustensils review"))
BOTH = ("6444c376456b2dab381e702d", "64428d88456b2dab381e7022")
INVALID, NOT_PROVIDED, UNKNOWN = "parameter_invalid", "parameter_not_provided", "parameter_unknown"


# ---------------------------------------------------------------------------------------------------------- requests


@pytest.mark.parametrize(
    ("number", "request_"),
    [
        (1, ClassifyRequest((DANCE,), ("visual",), BOTH)),
        (2, ClassifyRequest((DANCE,), ("visual",), BOTH, include_clips=True)),
        (3, ClassifyRequest((DANCE, COOK), ("visual",), BOTH)),
        (4, ClassifyRequest((DANCE,), ("visual",), BOTH[1:], show_detailed_score=True)),
    ],
)
def test_the_guides_requests_are_understood(number: int, request_: ClassifyRequest) -> None:
    assert decode_classify(json.dumps(GUIDE[number - 1]["request"]).encode(), of_index=False) == request_


def valid(**changes: object) -> dict[str, object]:
    """A valid body with some keys set anew; a key that is set to ``...`` is left out."""
    body: dict[str, object] = {
        "video_ids": ["a"],
        "options": ["visual"],
        "classes": [{"name": "DanceTok", "prompts": ["Dance"]}],
    } | changes
    return {key: value for key, value in body.items() if value is not ...}


def one_class(**changes: object) -> list[dict[str, object]]:
    body: dict[str, object] = {"name": "DanceTok", "prompts": ["Dance"]} | changes
    return [{key: value for key, value in body.items() if value is not ...}]


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        (NOT_PROVIDED, {"options": ...}),
        (NOT_PROVIDED, {"classes": ...}),
        (NOT_PROVIDED, {"video_ids": ...}),
        (NOT_PROVIDED, {"video_ids": None}),
        (NOT_PROVIDED, {"classes": one_class(name=...)}),
        (NOT_PROVIDED, {"classes": one_class(prompts=...)}),
        (UNKNOWN, {"colour": "red"}),
        (UNKNOWN, {"index_id": "i"}),
        (UNKNOWN, {"classes": one_class(colour="red")}),
        (UNKNOWN, {"threshold": {"colour": 1}}),
        (INVALID, {"options": []}),
        (INVALID, {"options": ["smell"]}),
        (INVALID, {"options": ["contains unknown field"]}),
        (INVALID, {"options": ["missing required field"]}),
        (INVALID, {"options": "visual"}),
        (INVALID, {"classes": []}),
        (INVALID, {"classes": one_class(name="")}),
        (INVALID, {"classes": one_class(name=5)}),
        (INVALID, {"classes": one_class(prompts=[])}),
        (INVALID, {"classes": one_class(prompts=[""])}),
        (INVALID, {"classes": one_class(prompts=["p"] * 101)}),
        (INVALID, {"classes": one_class(prompts=["p"] * 100) + one_class(name="CookTok")}),
        (INVALID, {"classes": one_class(options=[])}),
        (INVALID, {"classes": one_class(options=["smell"])}),
        (INVALID, {"classes": one_class(conversation_option="loose")}),
        (INVALID, {"conversation_option": "loose"}),
        (INVALID, {"video_ids": []}),
        (INVALID, {"video_ids": [""]}),
        (INVALID, {"video_ids": "a"}),
        (INVALID, {"video_ids": ..., "video_id": ""}),
        (INVALID, {"include_clips": "yes"}),
        (INVALID, {"show_detailed_score": 1}),
        (INVALID, {"page_limit": 0}),
        (INVALID, {"page_limit": 51}),
        (INVALID, {"page_limit": "10"}),
        (INVALID, {"threshold": {"min_video_score": 0.99}}),
        (INVALID, {"threshold": {"min_video_score": 100.01}}),
        (INVALID, {"threshold": {"min_clip_score": 0}}),
        (INVALID, {"threshold": {"min_clip_score": 101}}),
        (INVALID, {"threshold": {"min_duration_ratio": 0.009}}),
        (INVALID, {"threshold": {"min_duration_ratio": 1.01}}),
        (INVALID, {"threshold": 75}),
    ],
)
def test_every_broken_rule_of_a_request_has_its_code(code: str, changes: dict[str, object]) -> None:
    with pytest.raises(RequestInvalid) as refusal:
        decode_classify(json.dumps(valid(**changes)).encode(), of_index=False)
    assert refusal.value.code == code


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        (NOT_PROVIDED, {}),
        (UNKNOWN, {"index_id": "i"}),
        (UNKNOWN, {"index_id": "i", "video_ids": ..., "video_id": "a"}),
        (INVALID, {"index_id": "", "video_ids": ...}),
    ],
)
def test_an_index_takes_no_videos_and_needs_its_id(code: str, changes: dict[str, object]) -> None:
    with pytest.raises(RequestInvalid) as refusal:
        decode_classify(json.dumps(valid(**changes)).encode(), of_index=True)
    assert refusal.value.code == code


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"options":["\\ud800"]}', b"no"])
def test_a_request_that_is_not_json_is_invalid(body: bytes) -> None:
    with pytest.raises(RequestInvalid) as refusal:
        decode_classify(body, of_index=False)
    assert refusal.value.code == INVALID


def test_the_limits_themselves_are_allowed() -> None:
    threshold = {"min_video_score": 1, "min_clip_score": 100, "min_duration_ratio": 0.01}
    body = valid(
        classes=one_class(prompts=["p"] * 60) + one_class(name="CookTok", prompts=["q"] * 40, options=["logo"]),
        page_limit=50,
        threshold=threshold,
        video_id="b",
    )
    understood = decode_classify(json.dumps(body).encode(), of_index=False)
    assert understood == ClassifyRequest(
        (JobClass("DanceTok", ("p",) * 60), JobClass("CookTok", ("q",) * 40, ("logo",))),
        ("visual",),
        ("a", "b"),
        page_limit=50,
        threshold=Threshold(1, 100, 0.01),
    )


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9)
option_lists = st.lists(st.sampled_from(["visual", "conversation", "text_in_video", "logo"]), min_size=1).map(tuple)
conversation_options = st.sampled_from(["semantic", "exact_match"])
job_classes = st.builds(
    JobClass,
    texts,
    st.lists(texts, min_size=1, max_size=9).map(tuple),
    st.none() | option_lists,
    st.none() | conversation_options,
)
scores = st.none() | st.floats(1, 100)
requests = st.builds(
    ClassifyRequest,
    classes=st.lists(job_classes, min_size=1, max_size=9).map(tuple),
    options=option_lists,
    video_ids=st.lists(texts, min_size=1).map(tuple),
    conversation_option=conversation_options,
    include_clips=st.booleans(),
    show_detailed_score=st.booleans(),
    page_limit=st.integers(1, 50),
    threshold=st.builds(Threshold, scores, scores, st.none() | st.floats(0.01, 1)),
)


@given(requests)
def test_what_is_asked_is_what_is_understood(request_: ClassifyRequest) -> None:
    assert decode_classify(wire.encode_classify(request_), of_index=False) == request_


# ------------------------------------------------------------------------------------------------ errors and indexes


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (wire.encode_error("parameter_invalid", "No."), "parameter_invalid", "No."),
        (b'{"code":"too_many_requests"}', "too_many_requests", ""),
        (b"{}", "", ""),
        (b"", "", ""),
        (b"<html>", "", ""),
        (b'{"code":7,"message":"No."}', "", ""),
    ],
)
def test_error_bodies(body: bytes, code: str, message: str) -> None:
    assert wire.decode_error(body) == (code, message)


@given(any_body)
def test_an_error_body_is_always_read(body: bytes) -> None:
    wire.decode_error(body)
