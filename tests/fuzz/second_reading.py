"""An answer of the platform read a second time: by ``json``, and judged by hand, without a line of the first reading.

It cannot say what is right where JSON itself leaves it open (a name twice, half of a surrogate pair, bytes that are not
UTF-8 in what nobody asked for) or where ``json`` gives up (nesting).
"""

from __future__ import annotations

import json
import re
from math import inf, isfinite
from typing import Any, Literal, NamedTuple

from pipeline.models import ClassScore, Clip, DetailedScores, Unreadable, VideoAnswer

_MOST_DIGITS = 4_300  # Python reads no longer integer, and msgspec neither


class Reading(NamedTuple):
    verdict: Literal["json", "cut", "open"]
    value: Any = None


class PageFacts(NamedTuple):
    entries: list[VideoAnswer | Unreadable]
    total_results: int | None
    next_token: str | None
    readable_info: bool


def second_reading(body: bytes) -> Reading:
    is_open = False

    def object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal is_open
        read = dict(pairs)
        is_open |= len(read) != len(pairs)
        return read

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    def integer(digits: str) -> float:
        return int(digits) if len(digits) < _MOST_DIGITS else inf

    try:
        text = body.decode()
    except UnicodeDecodeError:
        return Reading("open")
    try:
        value = json.loads(text, object_pairs_hook=object_of, parse_constant=refuse, parse_int=integer)
    except RecursionError:
        return Reading("open")
    except ValueError:
        return Reading("cut")
    if is_open or re.search(rb"\\u[dD][89a-fA-F]", body):
        return Reading("open")
    return Reading("json", value)


def page_of(value: Any) -> PageFacts | None:
    if not isinstance(value, dict) or not isinstance(value.get("data"), list):
        return None
    entries = [_answer_of(entry) for entry in value["data"]]
    info = value.get("page_info", {})
    if isinstance(info, dict):
        total, token = info.get("total_results"), info.get("next_page_token")
        counts = total is None or type(total) is int
        if counts and (token is None or isinstance(token, str)) and _is_decodable(info.get("page_expired_at")):
            return PageFacts(entries, total, token or None, readable_info=True)
    return PageFacts(entries, None, None, readable_info=False)


def _is_decodable(value: Any) -> bool:
    """Whether every number in it can be read at all: ``json`` takes what is too large for infinity."""
    match value:
        case dict():
            return all(map(_is_decodable, value.values()))
        case list():
            return all(map(_is_decodable, value))
        case float():
            return isfinite(value)
    return True


def is_number(value: Any) -> bool:
    return (type(value) is int and abs(value) <= 2**53) or (type(value) is float and isfinite(value))


class _NotOne(Exception):
    """An entry that is none."""


def _answer_of(entry: Any) -> VideoAnswer | Unreadable:
    try:
        return VideoAnswer(_get(entry, "video_id", str), tuple(map(_class_of, _get(entry, "classes", list))))
    except _NotOne:
        video_id = entry.get("video_id") if isinstance(entry, dict) else None
        return Unreadable(video_id if isinstance(video_id, str) else None, "")


def _get(table: Any, name: str, kind: type, default: Any = ...) -> Any:
    if not isinstance(table, dict):
        raise _NotOne
    value = table.get(name, default)
    if value is None and default is None:
        return None
    if not (is_number(value) if kind is float else isinstance(value, kind)):
        raise _NotOne
    return value


def _class_of(one: Any) -> ClassScore:
    clips = _get(one, "clips", list, None)
    detailed = _get(one, "detailed_scores", dict, None)
    return ClassScore(
        _get(one, "name", str),
        _get(one, "score", float),
        _get(one, "duration_ratio", float),
        None if clips is None else tuple(map(_clip_of, clips)),
        None
        if detailed is None
        else DetailedScores(
            *(_get(detailed, name, float, None) for name in ("max_score", "avg_score", "normalized_score"))
        ),
    )


def _clip_of(clip: Any) -> Clip:
    start, end, score = (_get(clip, name, float) for name in ("start", "end", "score"))
    option, prompt = (_get(clip, name, str) for name in ("option", "prompt"))
    return Clip(start, end, score, option, prompt, _get(clip, "thumbnail_url", str, None))
