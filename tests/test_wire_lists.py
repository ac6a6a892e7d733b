"""Lists of an index's videos, in bytes."""

from __future__ import annotations

import pytest

from pipeline.errors import AnswerCut, AnswerUnusable
from pipeline.wire_lists import ListedVideo, VideoListPage, decode_video_list, encode_list


def test_an_index_is_listed_with_names_and_the_durations_that_make_sense() -> None:
    entries: list[dict[str, object]] = [
        {"_id": "a", "metadata": {"duration": 12.5, "fps": 30}},
        {"_id": "b", "metadata": {"duration": 0}},
        {"_id": "c", "metadata": {"duration": -3}},
        {"_id": "d", "metadata": {"filename": "d.mp4"}},
        {"_id": "e"},
    ]
    listed = decode_video_list(encode_list(entries, page=2, page_limit=5, total_results=11))
    unknown = (
        ListedVideo("b"),
        ListedVideo("c"),
        ListedVideo("d", None, "d.mp4"),
        ListedVideo("e"),
    )
    assert listed == VideoListPage((ListedVideo("a", 12.5), *unknown), 3, 11)


def test_a_list_that_is_cut_or_of_a_wrong_shape_is_an_error_of_ours() -> None:
    body = encode_list([{"_id": "a"}], page=1, page_limit=5, total_results=1)
    with pytest.raises(AnswerCut):
        decode_video_list(body[:-1])
    with pytest.raises(AnswerUnusable):
        decode_video_list(body.replace(b'"_id":"a"', b'"_id":7'))
