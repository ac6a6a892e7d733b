"""The part of the page that scripts draw from: one JSON object, as small as it can be said. Pure.

Names are said once and then meant by their place. It stands in the page between tags, so nothing in it may end one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from pipeline.models import PLATFORM_THRESHOLD
from pipeline.report.facts import Facts, ShownVideo
from pipeline.report.pace import Stretch
from pipeline.report.readable import readable
from pipeline.report.tally import ClassTally

NAME_CHARACTERS = 120
_PROMPT_CHARACTERS = 200
_MAX_TEXTS = 2_000
"""Different prompts, and different options, that the clips of a page name: a platform may send any text there."""

# "<" could begin a tag. The two separators end a line in older readers of scripts.
_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


class _Places:
    """Texts by the place that each has in a list; the first so many."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def of(self, text: str) -> int:
        """The place of a text; -1 where there is no more room."""
        place = self._places.get(text)
        if place is None:
            if len(self._places) == _MAX_TEXTS:
                return -1
            place = self._places[text] = len(self._places)
        return place

    def texts(self) -> list[str]:
        return [readable(text, _PROMPT_CHARACTERS) for text in self._places]


def embedded(facts: Facts) -> str:
    """The JSON text, safe to stand in a script element that is not executed."""
    text = orjson.dumps(_drawn(facts)).decode()
    for character, escape in _ESCAPES.items():
        text = text.replace(character, escape)
    return text


def _drawn(facts: Facts) -> dict[str, Any]:
    job = facts.manifest.config.job
    asked = {one.name for one in job.classes}
    places = {name: place for place, name in enumerate(facts.classes)}
    prompts, options = _Places(), _Places()
    minimum = job.threshold.min_video_score
    return {
        "classes": [_class(name, facts.tally.classes[name], is_asked=name in asked) for name in facts.classes],
        "minVideoScore": PLATFORM_THRESHOLD.min_video_score if minimum is None else minimum,
        "minVideoScoreIsDefault": minimum is None,
        "hasClips": job.include_clips,
        "videos": [_video(one, places, prompts, options) for one in facts.videos],
        "prompts": prompts.texts(),
        "options": options.texts(),
        "stretches": [_stretch(one) for one in facts.stretches],
        "pace": _pace(facts),
    }


def _class(name: str, tally: ClassTally, *, is_asked: bool) -> dict[str, Any]:
    shown = readable(name, NAME_CHARACTERS)
    return {"name": shown, "asked": is_asked, "videos": tally.videos, "bins": tally.bins}


def _video(video: ShownVideo, places: Mapping[str, int], prompts: _Places, options: _Places) -> dict[str, Any]:
    found = video.found
    scores = [[places[name], round(score, 2), round(ratio, 3)] for name, score, ratio in found.scores if name in places]
    clips = [
        [
            places[clip.class_name],
            round(clip.start_seconds, 2),
            round(clip.end_seconds, 2),
            round(clip.score, 2),
            options.of(clip.option),
            prompts.of(clip.prompt),
        ]
        for clip in found.clips
        if clip.class_name in places
    ]
    return {
        "id": video.video_id,
        "state": video.state.name.lower(),
        "seconds": video.seconds,
        "scores": scores,
        "clips": clips,
        "clipsLeftOut": found.clips_left_out,
    }


def _stretch(one: Stretch) -> dict[str, Any]:
    return {
        "begins": one.begins_at,
        "first": one.first_at,
        "last": one.last_at,
        "width": one.bar_seconds,
        "before": one.before,
        "posts": one.posts,
        "bars": one.bars,
    }


def _pace(facts: Facts) -> dict[str, Any]:
    limits, window = facts.manifest.config.limits, facts.window
    known = [one for one in (limits.posts_per_window or None, window.limit if window else None) if one is not None]
    return {
        "perSecond": limits.requests_per_second or None,
        "planned": facts.posts_planned,
        "budget": limits.max_posts or None,
        "perWindow": min(known, default=None),
        "windowSeconds": limits.window_seconds,
        "windowUsed": window.used if window else None,
        "windowEnds": window.resets_at if window else None,
    }
