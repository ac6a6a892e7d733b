"""From the bytes of version 1.3 to an indexed video: what is kept, what is cut off, and where the spoken lines go."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import AnswerCut, AnswerUnusable
from pipeline.platform.spaces import vendor_space
from pipeline.platform.vendor_videos import Asset, AssetPage, decode_page, decode_video, list_path, video_path
from pipeline.platform.videos import Track, check_video

ASSET = Asset("v1", True, 12.0, "rev")


def segment(start: float, end: float, option: str = "visual", scope: str = "clip", **changes: Any) -> dict[str, Any]:
    whole = {"start_offset_sec": start, "end_offset_sec": end, "embedding_option": option, "embedding_scope": scope}
    return {**whole, "float": [3.0, 4.0], **changes}


def line(start: float, end: float, value: str) -> dict[str, Any]:
    return {"start": start, "end": end, "value": value}


def answer(*segments: dict[str, Any], spoken: Any = None, model: Any = "marengo3.0", seconds: Any = 12.0) -> bytes:
    return json.dumps(
        {
            "_id": "v1",
            "system_metadata": {"filename": "v1.mp4", "duration": seconds, "fps": 30},
            "hls": {"status": "COMPLETE"},
            "embedding": {"model_name": model, "video_embedding": {"segments": list(segments)}},
            "transcription": spoken,
        }
    ).encode()


def tracks_of(body: bytes, *, audio: bool = False) -> dict[str, Track]:
    found = decode_video(body, ASSET, audio=audio).video
    check_video(found)
    return {track.option: track for track in found.tracks}


def test_the_calls_are_those_of_the_reference() -> None:
    assert list_path("a/b", 3) == "/indexes/a%2Fb/indexed-assets?page=3&page_limit=50"
    base = "/indexes/i/indexed-assets/v?embedding_option=visual&embedding_option=transcription"
    assert video_path("i", "v", audio=False) == f"{base}&transcription=true"
    assert video_path("i", "v", audio=True) == f"{base}&embedding_option=audio&transcription=true"


def test_a_space_is_named_after_model_and_dimensions() -> None:
    found = decode_video(answer(segment(0, 6)), ASSET, audio=False)
    assert (found.model, found.space, found.dimensions) == ("marengo3.0", "marengo3.0-2", 2)
    assert vendor_space("Marengo-retrieval-2.7", 1024) == "marengo-retrieval-2.7-1024"


def test_clips_are_kept_and_the_whole_video_and_other_options_are_not() -> None:
    body = answer(segment(0, 12, scope="video"), segment(6, 12), segment(0, 6), segment(0, 6, "audio"))
    tracks = tracks_of(body)
    assert list(tracks) == ["visual"]
    assert tracks["visual"].starts.tolist() == [0.0, 6.0]
    assert np.array_equal(tracks["visual"].vectors, np.array([[0.6, 0.8]] * 2, dtype=np.float32))


def test_what_goes_beyond_the_video_is_cut_off() -> None:
    body = answer(
        segment(0, 6),
        segment(6, 12.03),
        segment(12.0, 12.5),
        segment(3, 3),
        spoken=[line(11, 13, "end"), line(12, 13, "")],
    )
    tracks = tracks_of(body)
    assert tracks["visual"].ends.tolist() == [6.0, 12.0]
    assert tracks["conversation"].ends.tolist() == [12.0]


def test_a_line_goes_with_the_clip_of_speech_in_which_its_middle_lies_or_the_nearest() -> None:
    body = answer(
        segment(0, 4, "transcription"),
        segment(8, 12, "transcription"),
        segment(0, 12, "audio"),
        segment(0, 6),
        spoken=[
            line(3, 6, "nearer to the first"),
            line(9, 10, "in the second"),
            line(1, 2, "in the first"),
            line(6, 7.5, "?"),
        ],
    )
    track = tracks_of(body, audio=True)["conversation"]
    texts = dict(zip(zip(track.starts.tolist(), track.ends.tolist(), strict=True), track.texts, strict=True))
    assert texts == {
        (0.0, 4.0): "in the first nearer to the first",
        (0.0, 12.0): "",
        (8.0, 12.0): "? in the second",
    }


def test_lines_without_vectors_of_speech_are_a_track_that_only_exact_match_finds() -> None:
    tracks = tracks_of(answer(segment(0, 6), spoken=[line(2, 3, " two "), line(1, 2, "one"), line(5, 5, "never")]))
    spoken = tracks["conversation"]
    assert (spoken.texts, spoken.starts.tolist()) == (("one", "two"), [1.0, 2.0])
    assert not spoken.vectors.any()


def test_a_duration_that_only_the_list_tells_counts() -> None:
    assert decode_video(answer(segment(0, 6), seconds=None), ASSET, audio=False).video.duration_seconds == 12.0


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(0.1, 10), st.text("ab", min_size=1)), max_size=12),
    st.lists(st.floats(0, 90), min_size=1, max_size=6, unique=True),
)
def test_every_line_goes_with_exactly_one_clip(spoken: list[tuple[float, float, str]], starts: list[float]) -> None:
    lines = [line(start, start + length, f"{text}{number}") for number, (start, length, text) in enumerate(spoken)]
    clips = [segment(start, start + 5, "transcription") for start in starts]
    track = tracks_of(answer(*clips, spoken=lines, seconds=200.0))["conversation"]
    assert sorted(" ".join(track.texts).split()) == sorted(one["value"] for one in lines)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", AnswerCut),
        (b'{"embedding": {', AnswerCut),
        (b"<html>", AnswerCut),
        (b"[]", AnswerUnusable),
        (b"{}", AnswerUnusable),
        (answer(), AnswerUnusable),
        (answer(segment(0, 6, "visual-text")), AnswerUnusable),
        (answer(segment(0, 6), model=None), AnswerUnusable),
        (answer(segment(0, 6), segment(6, 9, float=[1.0])), AnswerUnusable),
        (answer(segment(0, 6, float=[])), AnswerUnusable),
        (answer(segment(0, 6, float=["x"])), AnswerUnusable),
        (answer(segment(0, 6)).replace(b"4.0", b"4e999"), AnswerUnusable),
        (answer(segment(0, 6)).replace(b"[3.0", b"[" * 3_000 + b"3.0"), AnswerCut),
        (answer(segment(0, 6), seconds="long"), AnswerUnusable),
        (b"\xff" + answer(segment(0, 6)), AnswerCut),
    ],
)
def test_an_answer_of_another_shape_is_one_of_our_errors(body: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        decode_video(body, ASSET, audio=False)


def test_what_is_null_or_left_out_costs_only_itself() -> None:
    nulls = [line(0, 2, "kept"), {"start": 2, "end": None, "value": "no end"}, {"start": 4, "end": 5, "value": None}]
    odd = [segment(6, 12, embedding_option=None), {"start_offset_sec": 6.0, "end_offset_sec": 12.0}]
    tracks = tracks_of(answer(segment(0, 6), *odd, spoken=nulls))
    assert (tracks["visual"].starts.tolist(), tracks["conversation"].texts) == ([0.0], ("kept",))


def test_a_video_whose_duration_nobody_tells_ends_with_its_last_clip() -> None:
    body = answer(segment(0, 6), segment(6, 11.5), seconds=None)
    found = decode_video(body, Asset("v1", True, 0.0, "rev"), audio=False).video
    assert (found.duration_seconds, found.tracks[0].ends.tolist()) == (11.5, [6.0, 11.5])


@given(st.binary(max_size=200))
def test_any_bytes_are_a_page_or_one_of_our_errors(body: bytes) -> None:
    with pytest.raises((AnswerCut, AnswerUnusable)):
        decode_page(body, audio=False)


def test_a_page_tells_each_video_and_its_state() -> None:
    listed = {"_id": "v1", "status": "ready", "updated_at": "b", "system_metadata": {"duration": 7}, "new": 1}
    page = {"data": [listed, {"_id": "v2", "status": "indexing"}], "page_info": {"total_page": 3, "total_results": 102}}
    found = decode_page(json.dumps(page).encode(), audio=False)
    assert found == AssetPage(found.videos, 3, 102)
    assert [(one.video_id, one.is_ready, one.duration_seconds) for one in found.videos] == [
        ("v1", True, 7.0),
        ("v2", False, 0.0),
    ]
    again = decode_page(json.dumps(page).encode(), audio=True)
    assert again.videos[0].revision != found.videos[0].revision


@pytest.mark.parametrize(
    "entry",
    [{"_id": "../keys"}, {"_id": "v1", "system_metadata": {"duration": "60"}}, {"_id": "\x1b[2J" + "x" * 200}, 7],
    ids=str,
)
def test_an_entry_that_cannot_be_read_is_a_problem_of_its_own(entry: Any) -> None:
    """An id that could climb a path is no id; and no terminal obeys what is shown."""
    page = {"data": [entry, {"_id": "v2"}], "page_info": {"total_page": 1, "total_results": 2}}
    bad, good = decode_page(json.dumps(page).encode(), audio=False).videos
    assert (bad.is_ready, good.video_id, good.problem) == (False, "v2", "")
    assert bad.video_id == ("v1" if "v1" in str(entry) else ascii(json.dumps(entry)[:80])[1:-1])
    assert bad.problem.startswith("its entry in the list cannot be read: ")
