"""The rows, to the byte: the guide's four answers through wire and walk, the order of the keys, and what is null."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline import wire
from pipeline.models import ClassScore, Clip, DetailedScores, Result
from pipeline.rows import FailureRow, Lines, Origin, RowStyle, encode, lines_of
from pipeline.walk import GroupAnswer, merged
from tests.builders import AT, GUIDE, guide_body

BOTH = ("6444c376456b2dab381e702d", "64428d88456b2dab381e7022")
ORDER = {"DanceTok": 0, "CookTok": 1}
TAIL = f'"chunk_id":7,"run_id":"r1","classified_at":"{AT}"'


def rows_of(number: int, **style: bool) -> Lines:
    """The rows of one of the guide's answers, asked for as its request says."""
    request = GUIDE[number - 1]["request"]
    detailed = request.get("show_detailed_score", False)
    group = GroupAnswer(0, BOTH)
    group.take(wire.decode_page(guide_body(number)), 1.0)
    assert group.complete
    results = [merged(one, [group.seen[one]], ORDER, detailed=detailed) for one in BOTH]
    return lines_of(results, Origin(RowStyle("r1", request.get("include_clips", False), detailed, **style), 7, AT))


def score_line(
    video: int,
    name: str,
    numbers: str,
    details: str = '"max_score":null,"avg_score":null,"normalized_score":null',
    clip_count: str = "null",
) -> str:
    return (
        f'{{"video_id":"{BOTH[video]}","class_name":"{name}",{numbers},{details},"clip_count":{clip_count},{TAIL}}}\n'
    )


def video_line(video: int, class_count: int, clip_count: str = "null") -> str:
    counts = f'"class_count":{class_count},"clip_count":{clip_count}'
    return f'{{"video_id":"{BOTH[video]}","status":"scored",{counts},{TAIL}}}\n'


def test_the_guides_first_answer() -> None:
    """A ratio of 1 stays an int; without clips and details both are null."""
    assert rows_of(1) == Lines(
        (
            score_line(0, "DanceTok", '"score":96.77,"duration_ratio":1')
            + score_line(1, "DanceTok", '"score":47.72,"duration_ratio":0.6')
        ).encode(),
        b"",
        (video_line(0, 1) + video_line(1, 1)).encode(),
    )


def clip_line(video: int, times: str, what: str, frame: int, query: str = "") -> str:
    url = f"https://project-one-thumbnail.s3.us-west-2.amazonaws.com/{BOTH[video]}/{frame}.jpeg{query}"
    return (
        f'{{"video_id":"{BOTH[video]}","class_name":"DanceTok",{times},{what},"thumbnail_url":"{url}",'
        '"chunk_id":7,"run_id":"r1"}\n'
    )


CLIPS = [
    (
        0,
        '"start_seconds":153.9375,"end_seconds":169.63541666666669',
        '"score":39.04,"option":"visual","prompt":"Dance group"',
        154,
    ),
    (0, '"start_seconds":45.625,"end_seconds":50.8125', '"score":28.88,"option":"visual","prompt":"Dance group"', 46),
    (1, '"start_seconds":224,"end_seconds":226', '"score":64.59,"option":"text_in_video","prompt":"Dance group"', 225),
    (1, '"start_seconds":185,"end_seconds":189.125', '"score":27.81,"option":"visual","prompt":"Dance tutorial"', 186),
]


def test_the_guides_second_answer() -> None:
    """Clips: ints stay ints, an option that nobody asked for is kept, and a signature never reaches a file."""
    rows = rows_of(2)
    assert rows.scores.decode() == (
        score_line(0, "DanceTok", '"score":35.99,"duration_ratio":0.16', clip_count="2")
        + score_line(1, "DanceTok", '"score":39.47,"duration_ratio":0.33', clip_count="2")
    )
    assert rows.clips.decode() == "".join(clip_line(*one) for one in CLIPS)
    assert rows.videos.decode() == video_line(0, 1, "2") + video_line(1, 1, "2")


def test_signed_urls_are_kept_where_they_are_wanted() -> None:
    query = "?" + GUIDE[1]["response"]["data"][0]["classes"][0]["clips"][0]["thumbnail_url"].partition("?")[2]
    assert "X-Amz-Signature=" in query
    assert rows_of(2, keep_signed_urls=True).clips.decode() == "".join(clip_line(*one, query) for one in CLIPS)


def test_the_guides_third_answer() -> None:
    """Several classes, in the order of the config; the videos in the order in which they were asked for."""
    rows = rows_of(3)
    assert rows.scores.decode() == (
        score_line(0, "DanceTok", '"score":35.99,"duration_ratio":0.16')
        + score_line(0, "CookTok", '"score":31.06,"duration_ratio":0.11')
        + score_line(1, "DanceTok", '"score":37.83,"duration_ratio":0.33')
        + score_line(1, "CookTok", '"score":33.35,"duration_ratio":0.18')
    )
    assert (rows.clips, rows.videos.decode()) == (b"", video_line(0, 2) + video_line(1, 2))


def test_the_guides_fourth_answer() -> None:
    """Detailed scores, with the shares as they were sent."""
    details = '"max_score":{},"avg_score":{},"normalized_score":{}'.format
    assert rows_of(4).scores.decode() == (
        score_line(0, "DanceTok", '"score":35.99,"duration_ratio":0.16', details(39.04, 33.45, 53.676360924683074))
        + score_line(0, "CookTok", '"score":31.06,"duration_ratio":0.11', details(36.51, 32.2, 46.32363907531692))
        + score_line(1, "DanceTok", '"score":37.83,"duration_ratio":0.33', details(40.44, 31.56, 53.14695139084012))
        + score_line(1, "CookTok", '"score":33.35,"duration_ratio":0.18', details(37.63, 30.3, 46.85304860915988))
    )


# ------------------------------------------------------------------------------------------------- keys and nulls

EVERYTHING = ClassScore("x", 5, 0.5, (Clip(1, 2, 3, "visual", "p"),), DetailedScores(6, 7.5, 100.0))
BARE = ClassScore("x", 5, 0.5)


def parsed(one: ClassScore, *, clips: bool, details: bool) -> tuple[list[Any], list[Any], list[Any]]:
    rows = lines_of([Result("v", (one,))], Origin(RowStyle("r1", clips, details), 7, AT))
    scores, of_clips, videos = ([json.loads(line) for line in block.splitlines()] for block in rows)
    return scores, of_clips, videos


def test_the_keys_come_in_the_documented_order() -> None:
    scores, clips, videos = parsed(EVERYTHING, clips=True, details=True)
    origin = "chunk_id run_id classified_at"
    assert " ".join(scores[0]) == (
        f"video_id class_name score duration_ratio max_score avg_score normalized_score clip_count {origin}"
    )
    assert " ".join(clips[0]) == (
        "video_id class_name start_seconds end_seconds score option prompt thumbnail_url chunk_id run_id"
    )
    assert " ".join(videos[0]) == f"video_id status class_count clip_count {origin}"
    failure = encode(FailureRow("v", "video_refused", "no", None, True, 1, 7, "r1", AT))
    assert " ".join(json.loads(failure)) == (
        "video_id code message http_status retryable attempts chunk_id run_id failed_at"
    )


@pytest.mark.parametrize(
    ("one", "clips", "details", "expected"),
    [
        (EVERYTHING, True, True, (6, 7.5, 100.0, 1)),
        (EVERYTHING, False, False, (None, None, None, None)),
        (EVERYTHING, True, False, (None, None, None, 1)),
        (BARE, True, True, (None, None, None, 0)),
        (BARE, False, True, (None, None, None, None)),
        (ClassScore("x", 5, 0.5, (), DetailedScores(0, None, None)), True, True, (0, None, None, 0)),
    ],
)
def test_what_was_not_asked_for_or_not_sent_is_null(
    one: ClassScore, clips: bool, details: bool, expected: tuple[float | None, ...]
) -> None:
    scores, of_clips, videos = parsed(one, clips=clips, details=details)
    keys = ("max_score", "avg_score", "normalized_score", "clip_count")
    assert tuple(scores[0][key] for key in keys) == expected
    assert len(of_clips) == (expected[3] or 0)
    assert videos[0]["clip_count"] == expected[3]
    assert [clip["thumbnail_url"] for clip in of_clips] == [None] * len(of_clips)


def test_a_video_without_a_match_has_one_row_that_says_so() -> None:
    rows = lines_of([Result("v", ())], Origin(RowStyle("r1", True, True), 7, AT))
    assert rows == Lines(
        b"",
        b"",
        f'{{"video_id":"v","status":"no_match","class_count":0,"clip_count":0,{TAIL}}}\n'.encode(),
    )


def test_a_row_is_one_line_whatever_its_text() -> None:
    name = 'line\nfeed\r"quote"\u2028\x00é'
    rows = lines_of([Result("v", (ClassScore(name, 5, 0.5),))], Origin(RowStyle("r1", False, False), 7, AT))
    assert rows.scores.count(b"\n") == 1
    assert b"\r" not in rows.scores
    assert json.loads(rows.scores)["class_name"] == name


def test_no_results_make_no_rows() -> None:
    assert lines_of([], Origin(RowStyle("r1", True, True), 7, AT)) == Lines(b"", b"", b"")
