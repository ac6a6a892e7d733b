"""The contract in bytes: the guide's own requests and answers, every rule of a request, and answers of any shape."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline import wire
from pipeline.errors import AnswerCut, AnswerUnusable
from pipeline.models import (
    ClassScore,
    Clip,
    DetailedScores,
    JobClass,
    Page,
    Threshold,
    Unreadable,
    Video,
    VideoAnswer,
)
from pipeline.wire import ClassifyRequest, PageInfo, RequestInvalid, decode_classify, decode_page
from tests.builders import GUIDE, guide_body

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


# ------------------------------------------------------------------------------------------------------------- pages


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_the_guides_answers_are_read_and_written_without_loss(number: int) -> None:
    published = GUIDE[number - 1]["response"]
    page = decode_page(guide_body(number))
    assert (page.unreadable, page.total_results, page.next_token) == ((), 2, None)
    assert page.expires_at is not None
    info = PageInfo(published["page_info"]["limit_per_page"], page.total_results, page.expires_at)
    written = wire.encode_page([wire.encode_answer(one) for one in page.videos], info)
    assert json.loads(written) == published
    assert repr(json.loads(written)) == repr(published), "the order of the keys, and ints that stay ints"


READABLE = '{"video_id":"a","classes":[{"name":"x","score":1,"duration_ratio":0.5}]}'


def page_of(*entries: str, info: str = '{"total_results":2}') -> bytes:
    return f'{{"data":[{",".join(entries)}],"page_info":{info}}}'.encode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    ("entry", "unreadable"),
    [
        ("null", Unreadable(None, "Expected `object`, got `null`")),
        ("7", Unreadable(None, "Expected `object`, got `int`")),
        ('"b"', Unreadable(None, "Expected `object`, got `str`")),
        ("{}", Unreadable(None, "Object missing required field `video_id`")),
        ('{"video_id":7,"classes":[]}', Unreadable(None, "Expected `str`, got `int` - at `$.video_id`")),
        ('{"video_id":"b"}', Unreadable("b", "Object missing required field `classes`")),
        ('{"video_id":"b","classes":{}}', Unreadable("b", "Expected `array`, got `object` - at `$.classes`")),
        (
            '{"classes":[{"name":"x","score":"1","duration_ratio":1}],"video_id":"b"}',
            Unreadable("b", "Expected `int | float`, got `str` - at `$.classes[0].score`"),
        ),
        (
            '{"video_id":"b","classes":[{"name":"x","score":true,"duration_ratio":1}]}',
            Unreadable("b", "Expected `int | float`, got `bool` - at `$.classes[0].score`"),
        ),
        (
            '{"video_id":"b","classes":[{"name":"x","score":9007199254740993,"duration_ratio":1}]}',
            Unreadable("b", "Expected `int` <= 9007199254740992 - at `$.classes[0].score`"),
        ),
        (
            f'{{"video_id":"b","classes":[{{"name":"x","score":{"9" * 5000},"duration_ratio":1}}]}}',
            Unreadable("b", "Integer value out of range - at `$.classes[0].score`"),
        ),
        (
            '{"video_id":"b","classes":[{"name":"x","score":1e400,"duration_ratio":1}]}',
            Unreadable("b", "Number out of range - at `$.classes[0].score`"),
        ),
        (
            '{"video_id":"b","classes":[{"name":"x","score":1,"duration_ratio":1,"clips":[{"start":1}]}]}',
            Unreadable("b", "Object missing required field `end` - at `$.classes[0].clips[0]`"),
        ),
        (
            '{"video_id":"b","classes":[{"name":"x","score":1,"duration_ratio":1,"detailed_scores":[]}]}',
            Unreadable("b", "Expected `object | null`, got `array` - at `$.classes[0].detailed_scores`"),
        ),
    ],
)
@pytest.mark.parametrize("place", [0, 1])
def test_an_entry_of_a_wrong_shape_costs_one_video(entry: str, unreadable: Unreadable, place: int) -> None:
    entries = [READABLE]
    entries.insert(place, entry)
    page = decode_page(page_of(*entries))
    assert page == Page((VideoAnswer("a", (ClassScore("x", 1, 0.5),)),), (unreadable,), total_results=2)


@pytest.mark.parametrize("bad_text", ["\udcff", "\\ud800", "\\udc00", "\udced\udca0\udc80"])
def test_text_that_is_not_unicode_never_escapes_as_a_foreign_error(bad_text: str) -> None:
    entry = f'{{"video_id":"b","classes":[{{"name":"{bad_text}","score":1,"duration_ratio":1}}]}}'
    for entries in ([entry], ["{}", entry], [entry, "{}"], [READABLE, entry]):
        try:
            page = decode_page(page_of(*entries))
        except AnswerCut:
            continue
        assert {one.video_id for one in page.unreadable} <= {None, "b"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b'{"data":',
        page_of(READABLE)[:-1],
        page_of(READABLE)[:60],
        page_of(READABLE) + b"x",
        b"<html>502 Bad Gateway</html>",
        b"404 page not found",
        b"\xef\xbb\xbf" + page_of(READABLE),
        b'{"data":5',
        b"[" * 100_000,
        page_of(READABLE).replace(b"0.5", b"NaN"),
        page_of(READABLE).replace(b"0.5", b"Infinity"),
        page_of(READABLE).replace(b'"a"', b"'a'"),
        page_of('{"extra":' + "[" * 100_000 + "]" * 100_000 + "}"),
    ],
    ids=lambda body: repr(body[:24]),
)
def test_a_body_that_is_not_whole_json_is_cut(body: bytes) -> None:
    with pytest.raises(AnswerCut):
        decode_page(body)


@pytest.mark.parametrize("body", [b"[]", b"null", b"7", b'"page"', b"{}", b'{"data":null}', b'{"data":{}}'])
def test_whole_json_that_is_no_page_is_unusable(body: bytes) -> None:
    with pytest.raises(AnswerUnusable):
        decode_page(body)


@pytest.mark.parametrize(
    "info",
    ["null", "7", '{"total_results":"2"}', '{"total_results":2.5}', '{"next_page_token":7}', '{"total_results":true}'],
)
def test_what_is_valid_counts_even_where_the_page_info_is_not(info: str) -> None:
    """The answer is paid for; only the end of the walk cannot be trusted."""
    page = decode_page(page_of(READABLE, info=info))
    assert page.videos == (VideoAnswer("a", (ClassScore("x", 1, 0.5),)),)
    assert [one.video_id for one in page.unreadable] == [None]
    assert (page.total_results, page.next_token) == (None, None)


@pytest.mark.parametrize(
    "info",
    [
        '{"total_results":2,"limit_per_page":"10"}',
        '{"total_results":2,"prev_page_token":7}',
        '{"total_results":2,"page_expired_at":1684732749}',
        '{"total_results":2,"page_expired_at":"soon"}',
        '{"total_results":2,"page_expired_at":null}',
        '{"total_results":2,"anything":{"else":[]}}',
    ],
)
def test_what_nobody_needs_of_the_page_info_may_be_anything(info: str) -> None:
    page = decode_page(page_of(READABLE, info=info))
    assert page == Page((VideoAnswer("a", (ClassScore("x", 1, 0.5),)),), total_results=2)


@pytest.mark.parametrize("last", ['{"total_results":2}', '{"total_results":2,"next_page_token":""}'])
@pytest.mark.parametrize("nothing", ["", ',"next_page_token":null'])
def test_an_absent_empty_or_null_token_is_none(last: str, nothing: str) -> None:
    assert decode_page(page_of(READABLE, info=last[:-1] + nothing + "}")).next_token is None


def test_a_page_without_page_info_announces_nothing() -> None:
    assert decode_page(b'{"data":[]}') == Page(())


@pytest.mark.parametrize(
    ("moment", "seconds"),
    [
        ("1970-01-01T00:01:00Z", 60.0),
        ("1970-01-01T00:01:00.500Z", 60.5),
        ("1970-01-01T01:01:00+01:00", 60.0),
        ("1970-01-01T00:01:00", 60.0),
        ("0001-01-01T00:00:00+23:59", -62135683140.0),
    ],
)
def test_a_tokens_end_is_read_in_any_rfc_3339(moment: str, seconds: float) -> None:
    assert decode_page(page_of(info=f'{{"page_expired_at":"{moment}"}}')).expires_at == seconds


def test_unknown_fields_are_ignored_at_every_level() -> None:
    extra = '"new":{"deep":[1,null]}'
    clip = f'{{{extra},"start":1,"end":2.5,"score":3,"option":"smell","prompt":"p"}}'
    one = f'{{{extra},"name":"x","score":4,"duration_ratio":1,"clips":[{clip}],"detailed_scores":{{{extra}}}}}'
    body = f'{{{extra},"data":[{{{extra},"video_id":"a","classes":[{one}]}}],"page_info":{{{extra}}}}}'
    clips = (Clip(1, 2.5, 3, "smell", "p"),)
    assert decode_page(body.encode()).videos == (VideoAnswer("a", (ClassScore("x", 4, 1, clips, DetailedScores()),)),)


leaves: Callable[[], st.SearchStrategy[Any]] = lambda: (  # noqa: E731
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
)
keys = st.sampled_from(
    ["data", "page_info", "video_id", "classes", "name", "score", "duration_ratio", "clips", "next_page_token", "x"]
)
json_values = st.recursive(
    leaves(), lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=6)
)


@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
@example(page_of("{}", '{"video_id":"b","classes":[{"name":"\udcff","score":1,"duration_ratio":1}]}'))
def test_any_bytes_are_a_page_or_an_error_of_ours(body: bytes) -> None:
    try:
        assert isinstance(decode_page(body), Page)
    except (AnswerCut, AnswerUnusable):
        pass


@given(number=st.integers(0, 3), place=st.integers(min_value=0), piece=st.binary(max_size=3), gap=st.integers(0, 40))
def test_a_damaged_answer_of_the_guide_is_a_page_or_an_error_of_ours(
    number: int, place: int, piece: bytes, gap: int
) -> None:
    body = guide_body(number + 1)
    place %= len(body)
    try:
        assert isinstance(decode_page(body[:place] + piece + body[place + gap :]), Page)
    except (AnswerCut, AnswerUnusable):
        pass


numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
clips = st.builds(Clip, numbers, numbers, numbers, any_text, any_text, st.none() | any_text)
details = st.builds(DetailedScores, st.none() | numbers, st.none() | numbers, st.none() | numbers)
class_scores = st.builds(
    ClassScore, any_text, numbers, numbers, st.none() | st.lists(clips, max_size=3).map(tuple), st.none() | details
)
answers = st.builds(VideoAnswer, any_text, st.lists(class_scores, max_size=3).map(tuple))


@given(
    videos=st.lists(answers, max_size=5).map(tuple),
    info=st.builds(PageInfo, st.integers(1, 50), st.integers(0, 10**6), st.integers(0, 2**33), any_text, any_text),
)
def test_a_page_survives_the_wire(videos: tuple[VideoAnswer, ...], info: PageInfo) -> None:
    body = wire.encode_page([wire.encode_answer(one) for one in videos], info)
    page = Page(videos, (), info.total_results, info.next_page_token or None, info.page_expired_at)
    assert decode_page(body) == page
    held = wire.encode_held([wire.encode_answer(one) for one in videos])
    assert repr(decode_page(held)) == repr(Page(videos)), "repr tells 1 from 1.0 and 0.0 from -0.0"


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


@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_an_error_body_is_always_read(body: bytes) -> None:
    wire.decode_error(body)


def test_an_index_is_listed_with_the_durations_that_make_sense() -> None:
    entries: list[dict[str, object]] = [
        {"_id": "a", "metadata": {"duration": 12.5, "fps": 30}},
        {"_id": "b", "metadata": {"duration": 0}},
        {"_id": "c", "metadata": {"duration": -3}},
        {"_id": "d", "metadata": {"filename": "d.mp4"}},
        {"_id": "e"},
    ]
    listed = wire.decode_video_list(wire.encode_list(entries, page=2, page_limit=5, total_results=11))
    unknown = tuple(Video(video_id) for video_id in "bcde")
    assert listed == wire.VideoListPage((Video("a", 12.5), *unknown), 3)


def test_a_list_that_is_cut_or_of_a_wrong_shape_is_an_error_of_ours() -> None:
    body = wire.encode_list([{"_id": "a"}], page=1, page_limit=5, total_results=1)
    with pytest.raises(AnswerCut):
        wire.decode_video_list(body[:-1])
    with pytest.raises(AnswerUnusable):
        wire.decode_video_list(body.replace(b'"_id":"a"', b'"_id":7'))
