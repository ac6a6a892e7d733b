"""Pages of results in bytes: the guide's own, entries of any shape, and bodies of any kind."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline import wire
from pipeline.errors import AnswerCut, AnswerUnusable
from pipeline.models import ClassScore, Clip, DetailedScores, Page, Unreadable, VideoAnswer
from pipeline.wire import PageInfo, decode_page
from tests.builders import GUIDE, any_body, guide_body


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_the_guides_answers_are_read_and_written_without_loss(number: int) -> None:
    published = GUIDE[number - 1]["response"]
    page = decode_page(guide_body(number))
    assert (page.unreadable, page.total_results, page.next_token) == ((), 2, None)
    assert page.expires_at is not None
    info = PageInfo(published["page_info"]["limit_per_page"], 2, page.expires_at)
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


@given(any_body)
@example(page_of("{}", '{"video_id":"b","classes":[{"name":"\udcff","score":1,"duration_ratio":1}]}'))
def test_any_bytes_are_a_page_or_an_error_of_ours(body: bytes) -> None:
    with contextlib.suppress(AnswerCut, AnswerUnusable):
        assert isinstance(decode_page(body), Page)


@given(number=st.integers(0, 3), place=st.integers(min_value=0), piece=st.binary(max_size=3), gap=st.integers(0, 40))
def test_a_damaged_answer_of_the_guide_is_a_page_or_an_error_of_ours(
    number: int, place: int, piece: bytes, gap: int
) -> None:
    body = guide_body(number + 1)
    place %= len(body)
    with contextlib.suppress(AnswerCut, AnswerUnusable):
        assert isinstance(decode_page(body[:place] + piece + body[place + gap :]), Page)


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
