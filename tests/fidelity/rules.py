"""Which errors a request may be refused with, by the contract: each of its rules, one after the other, in plain Python.

A body that breaks several rules may be refused for any of them. Where it breaks none, ids and durations decide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Refusal = tuple[int, str]

_OPTIONS = {"visual", "conversation", "text_in_video", "logo"}
_CONVERSATION_OPTIONS = {"semantic", "exact_match"}
_INVALID = "parameter_invalid"
_MISSING = "parameter_not_provided"
_UNKNOWN = "parameter_unknown"


def refusals(body: object, *, of_index: bool, index_id: str, seconds_of: Mapping[str, float]) -> set[Refusal]:
    """Status and code of each error that fits; empty where the request must be answered."""
    codes = set(_broken(body, of_index=of_index))
    if codes:
        return {(400, code) for code in codes}
    assert isinstance(body, dict)
    if of_index:
        return set() if body["index_id"] == index_id else {(404, "resource_not_exist")}
    named = {*(body.get("video_ids") or []), *([body["video_id"]] if body.get("video_id") else [])}
    if not named <= set(seconds_of):
        return {(404, "resource_not_exist")}
    return {(400, _INVALID)} if math.fsum(seconds_of[one] for one in named) > 36_000 else set()


def _broken(body: object, *, of_index: bool) -> Iterator[str]:
    if not isinstance(body, dict):
        yield _INVALID
        return
    checks: dict[str, Callable[[Any], Iterator[str]]] = {
        "options": _options,
        "classes": _classes,
        "video_ids": _nullable(lambda ids: _list_of(ids, _text)),
        "video_id": _nullable(_text),
        "index_id": _nullable(_text),
        "conversation_option": _nullable(lambda value: _one_of(value, _CONVERSATION_OPTIONS)),
        "include_clips": _nullable(_flag),
        "show_detailed_score": _nullable(_flag),
        "page_limit": _nullable(_page_limit),
        "threshold": _nullable(_threshold),
    }
    yield from _object(body, checks, required={"options", "classes"})
    names_videos = body.get("video_ids") is not None or body.get("video_id") is not None
    if of_index and body.get("index_id") is None:
        yield _MISSING
    if not of_index and not names_videos:
        yield _MISSING
    if names_videos if of_index else body.get("index_id") is not None:
        yield _UNKNOWN


def _object(value: object, checks: Mapping[str, Callable[[Any], Iterator[str]]], required: set[str]) -> Iterator[str]:
    if not isinstance(value, dict):
        yield _INVALID
        return
    for key in required - set(value):
        assert key in checks
        yield _MISSING
    for key, inner in value.items():
        yield from checks[key](inner) if key in checks else iter([_UNKNOWN])


def _classes(value: object) -> Iterator[str]:
    yield from _list_of(value, _class)
    some = [one.get("prompts") for one in value if isinstance(one, dict)] if isinstance(value, list) else []
    if sum(len(prompts) for prompts in some if isinstance(prompts, list)) > 100:
        yield _INVALID


def _class(value: object) -> Iterator[str]:
    checks: dict[str, Callable[[Any], Iterator[str]]] = {
        "name": _text,
        "prompts": lambda prompts: _list_of(prompts, _text),
        "options": _nullable(_options),
        "conversation_option": _nullable(lambda one: _one_of(one, _CONVERSATION_OPTIONS)),
    }
    return _object(value, checks, required={"name", "prompts"})


def _threshold(value: object) -> Iterator[str]:
    checks: dict[str, Callable[[Any], Iterator[str]]] = {
        "min_video_score": _nullable(lambda score: _between(score, 1, 100)),
        "min_clip_score": _nullable(lambda score: _between(score, 1, 100)),
        "min_duration_ratio": _nullable(lambda ratio: _between(ratio, 0.01, 1)),
    }
    return _object(value, checks, required=set())


def _options(value: object) -> Iterator[str]:
    return _list_of(value, lambda option: _one_of(option, _OPTIONS))


def _nullable(check: Callable[[Any], Iterator[str]]) -> Callable[[Any], Iterator[str]]:
    return lambda value: iter(()) if value is None else check(value)


def _list_of(value: object, check: Callable[[Any], Iterator[str]]) -> Iterator[str]:
    if not isinstance(value, list) or not value:
        yield _INVALID
        return
    for one in value:
        yield from check(one)


def _text(value: object) -> Iterator[str]:
    return _valid(isinstance(value, str) and value != "")


def _one_of(value: object, allowed: set[str]) -> Iterator[str]:
    return _valid(isinstance(value, str) and value in allowed)


def _flag(value: object) -> Iterator[str]:
    return _valid(isinstance(value, bool))


def _page_limit(value: object) -> Iterator[str]:
    yield from _between(value, 1, 50)
    yield from _valid(isinstance(value, int | float) and math.isfinite(value) and value == int(value))


def _between(value: object, least: float, most: float) -> Iterator[str]:
    return _valid(isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most)


def _valid(keeps: bool) -> Iterator[str]:
    if not keeps:
        yield _INVALID
