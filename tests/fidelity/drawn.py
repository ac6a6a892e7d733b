"""Random requests: bodies that keep the contract, and such bodies with a part of them spoilt."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from tests.fidelity.library import INDEX_ID, OPTIONS, PHRASES, PlainVideo, spoken_phrases

Body = dict[str, Any]

_options = st.lists(st.sampled_from(["conversation", *OPTIONS]), min_size=1, max_size=5)
_conversation_option = st.sampled_from(["exact_match", "exact_match", "semantic"])
_score = st.sampled_from([1, 1.0, 3, 20, 30, 49.99, 50, 75, 99.5, 100]) | st.floats(1, 100)


def _with_some(
    required: dict[str, st.SearchStrategy[Any]], optional: dict[str, st.SearchStrategy[Any]]
) -> st.SearchStrategy[Body]:
    """Objects with the required keys and any of the others, seldom with null as their value."""
    nullable = {key: value | value | value | st.none() for key, value in optional.items()}
    return st.fixed_dictionaries(required, optional=nullable)


def _classes(phrases: Sequence[str]) -> st.SearchStrategy[Any]:
    phrase = st.sampled_from(phrases)
    # First to last a prompt that is said, one that may be, and one that hardly is.
    prompt = phrase | phrase | st.sampled_from(PHRASES) | st.text(min_size=1, max_size=9)
    one = _with_some(
        {
            "name": st.sampled_from("ABC") | st.text(min_size=1, max_size=5),
            "prompts": st.lists(prompt, min_size=1, max_size=5),
        },
        {"options": _options, "conversation_option": _conversation_option},
    )
    return st.lists(one, min_size=1, max_size=4)


_threshold = _with_some(
    {},
    {
        "min_video_score": _score,
        "min_clip_score": _score,
        "min_duration_ratio": st.sampled_from([0.01, 0.1, 0.25, 0.5, 1]) | st.floats(0.01, 1),
    },
)
# Seldom the vendor's thresholds, which hide most of what there is to compare.
_low_threshold = st.just({"min_video_score": 1, "min_clip_score": 1, "min_duration_ratio": 0.01})
_extras = {
    "include_clips": st.booleans(),
    "show_detailed_score": st.booleans(),
    "page_limit": st.integers(1, 50) | st.sampled_from([1, 2, 3.0]),
}


def sound_bodies(videos: Sequence[PlainVideo], *, of_index: bool) -> st.SearchStrategy[Body]:
    """Bodies that keep the contract, but may name a video that is not there, or too many hours."""
    question = {
        "options": _options,
        "classes": _classes(spoken_phrases(videos)),
        "threshold": _low_threshold | _low_threshold | _threshold,
        "conversation_option": _conversation_option | st.none(),
    }
    if of_index:
        return _with_some(question | {"index_id": st.sampled_from([INDEX_ID] * 9 + ["nope"])}, _extras)
    video_ids = [video.video_id for video in videos]
    known = st.sampled_from([one for one in video_ids if one != "too_long"])
    some = st.lists(
        known | known | known | known | st.sampled_from([*video_ids, "nope", "\0"]), min_size=1, max_size=12
    )
    by_list = _with_some(question | {"video_ids": some}, _extras | {"video_id": known})
    return by_list | _with_some(question | {"video_id": known}, _extras | {"video_ids": some})


_junk: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 200),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", "visual", "exact_match", "1", 10**30, 1e300, 50.0, 50.5, 0.009, 100.001]),
    st.text(max_size=3),
    st.just([]),
    st.just({}),
    st.lists(st.text(max_size=2), max_size=3),
    st.just(["p"] * 101),
    st.just([{"name": "many", "prompts": ["p"] * 60}] * 2),
)


@st.composite
def bodies(draw: st.DrawFn, videos: Sequence[PlainVideo], *, of_index: bool) -> object:
    """Sound bodies, and each third one spoilt in a place or two: a value changed, a key gone, a key too many."""
    body: object = draw(sound_bodies(videos, of_index=of_index))
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 1, 2]))):
        body = _spoilt(draw, copy.deepcopy(body))
    return body


def _spoilt(draw: st.DrawFn, body: object) -> object:
    places = list(_places(body))
    if not places or draw(st.integers(0, 30)) == 0:
        return draw(_junk)
    holder, key = draw(st.sampled_from(places))
    way = draw(st.sampled_from(["changed", "gone", "added"]))
    if way == "changed":
        holder[key] = draw(_junk)
    elif way == "gone":
        del holder[key]
    elif isinstance(holder, dict):
        holder[draw(st.sampled_from(["index_id", "video_id", "video_ids", "surprise", ""]))] = draw(_junk)
    else:
        holder.append(draw(_junk))
    return body


def _places(value: object) -> list[tuple[Any, Any]]:
    """Each holder and key in it, wherever."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    assert not keys or isinstance(value, dict | list)
    inner = [place for key in keys for place in _places(value[key])]  # type: ignore[index]
    return [(value, key) for key in keys] + inner
