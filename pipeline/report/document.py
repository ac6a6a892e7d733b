"""Facts into one HTML page that needs nothing else: text by a template that escapes it, pictures by its own scripts.

Its content security policy allows this style and these scripts, known by their hashes, and nothing else: no request, no
frame, no form, no other script, whatever a name or a message tries. Scripts make text nodes only, never HTML.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

import pipeline
from pipeline.chunks import VideoState
from pipeline.config import job_of
from pipeline.failure_codes import in_words
from pipeline.log import utc
from pipeline.models import PLATFORM_THRESHOLD, Job, JobClass
from pipeline.progress import duration
from pipeline.report.embedded import NAME_CHARACTERS, embedded
from pipeline.report.facts import MAX_CLIPS, Facts, FailuresOfCode
from pipeline.report.meanings import REASONS
from pipeline.report.pace import Fate
from pipeline.report.readable import readable
from pipeline.report.telling import source_of, standing_of, steps_of, warnings
from pipeline.wording import counted

FIRST_BYTES = b'<!doctype html>\n<html lang="en" data-by="bulk-classify report">'
"""How every page begins, and nothing else does."""
SCRIPTS = ("drawing.js", "classes.js", "heat_map.js", "timeline.js", "pace.js", "start.js")
_MAX_CODES = 30
_MESSAGE_CHARACTERS = 200
_MAX_PROMPTS = 8
_FATES = {
    Fate.ANSWERED: "answered",
    Fate.TOO_EARLY: "refused as too early (429)",
    Fate.REFUSED: "refused or failed otherwise",
    Fate.UNKNOWN: "of unknown fate, perhaps billed",
    Fate.UNDER_WAY: "under way, or cut off by a kill",
}
_THRESHOLDS = {
    "min_video_score": "how well the whole video must match a class",
    "min_clip_score": "how well a stretch must match to be a clip",
    "min_duration_ratio": "the share of the video that its clips must fill",
}


def document(facts: Facts, *, now: float) -> bytes:
    """The page, made ``now`` (seconds since the epoch)."""
    style, script = _file("page.css"), "".join(map(_file, SCRIPTS))
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "number": "{:,}".format,
        "counted": counted,
        "duration": duration,
        "readable": lambda text: readable(text, _MESSAGE_CHARACTERS),
        "breakable": _breakable,
        "prose": _prose,
    }
    template = environment.from_string(_file("page.html"))
    return template.render(
        policy=_policy(style, script),
        style=Markup(style),  # noqa: S704 - a file of this package, as are the scripts
        script=Markup(script),  # noqa: S704
        embedded=Markup(embedded(facts)),  # noqa: S704 - escaped there
        made_at=_shown(utc(now)),
        version=pipeline.__version__,
        **_told(facts),
    ).encode("utf-8", "replace")


def _file(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")


def _breakable(text: str) -> Markup:
    """A text whose long words may be broken, but only where a reader expects it: behind an underscore."""
    return Markup("_<wbr>").join(escape(part) for part in text.split("_"))


def _prose(text: str) -> Markup:
    """A sentence in which what stands in backticks, and each option of a command, is code."""
    pieces = re.split(r"`([^`]+)`|(?<!\S)(--[a-z]+)", text)
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if place % 3 else escape(piece)
        for place, piece in enumerate(pieces)
        if piece
    )


def _policy(style: str, script: str) -> str:
    return (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


# ----------------------------------------------------------------------------------------------------------- its text


def _told(facts: Facts) -> dict[str, Any]:
    """What the template tells, besides the pictures."""
    manifest, counts = facts.manifest, facts.counts
    videos = counts.videos
    return {
        "name": manifest.config.name,
        "run_id": manifest.run_id,
        "directory": str(facts.folder),
        "created_at": _shown(manifest.created_at),
        "standing": standing_of(facts),
        "steps": steps_of(facts),
        "warnings": list(warnings(facts)),
        "videos": sum(videos.values()),
        "states": _states(facts),
        "posts": _posts(facts),
        "score_source": facts.score_source,
        "source_note": source_of(facts.score_source),
        "rows": facts.tally.rows,
        "job": _job(facts),
        "failures": [_failure(one) for one in facts.failures[:_MAX_CODES]],
        "codes_left_out": max(len(facts.failures) - _MAX_CODES, 0),
        "failed": videos[VideoState.FAILED],
        "has_scores": facts.tally.rows > 0,
        "has_shown": bool(facts.videos),
        "yet": " yet" if videos[VideoState.OPEN] else "",
        "left_out": list(_left_out(facts)),
    }


def _shown(moment: str) -> str:
    """A moment of our files as people read it: ``2026-11-22 22:10:05``."""
    return moment[:19].replace("T", " ")


def _states(facts: Facts) -> list[dict[str, Any]]:
    videos = facts.counts.videos
    told = (
        ("scored", VideoState.SCORED, "match at least one class"),
        ("no match", VideoState.NO_MATCH, "answered, but reach no class's thresholds"),
        ("failed", VideoState.FAILED, "got no usable answer"),
        ("open", VideoState.OPEN, "not answered yet"),
    )
    total = sum(videos.values())
    return [
        {
            "name": name,
            "key": name.replace(" ", "-"),
            "means": means,
            "number": videos[state],
            "percent": _percent(videos[state], total),
        }
        for name, state, means in told
    ]


def _percent(part: int, whole: int) -> str:
    if not part or not whole:
        return "0 %"
    share = 100 * part / whole
    return "under 0.1 %" if share < 0.1 else f"{min(share, 99.9) if part < whole else 100:.3g} %"


def _posts(facts: Facts) -> dict[str, Any]:
    sent = len(facts.posts.moments)
    answered = facts.counts.videos[VideoState.SCORED] + facts.counts.videos[VideoState.NO_MATCH]
    return {
        "sent": sent,
        "planned": facts.posts_planned,
        "videos_each": f"{answered / sent:,.3g} video{'' if answered == sent else 's'}" if answered and sent else None,
        "time_each": duration(facts.seconds_answered / sent) if sent and facts.seconds_answered else None,
        "first": _shown(utc(facts.posts.moments[0])) if sent else None,
        "last": _shown(utc(facts.posts.moments[-1])) if sent else None,
        "took": duration(facts.posts.moments[-1] - facts.posts.moments[0]) if sent else None,
        "reasons": [
            (name, posts, means) for name, means in REASONS.items() if (posts := facts.posts_by_reason.get(name))
        ],
        "fates": [(name, facts.posts.count(fate)) for fate, name in _FATES.items()],
        "stretches": len(facts.stretches),
    }


def _failure(one: FailuresOfCode) -> dict[str, Any]:
    meaning = in_words(one.code)
    return {
        "code": readable(one.code, NAME_CHARACTERS),
        "videos": one.videos,
        "retryable": one.retryable,
        "statuses": ", ".join(map(str, sorted(one.http_statuses)[:5])),
        "meaning": f"{meaning[:1].upper()}{meaning[1:]}.",
        "examples": list(one.examples.items()),
        "more": one.videos - sum(map(len, one.examples.values())),
    }


def _job(facts: Facts) -> dict[str, Any]:
    job = job_of(facts.manifest.config)
    shown = set(facts.classes)
    return {
        "options": ", ".join(job.options),
        "conversation": job.conversation_option,
        "clips": job.include_clips,
        "thresholds": [
            (name, getattr(job.threshold, name), getattr(PLATFORM_THRESHOLD, name), means)
            for name, means in _THRESHOLDS.items()
        ],
        "classes": [_class(one, job) for one in job.classes if one.name in shown],
        "number": len(job.classes),
        "prompts": sum(len(one.prompts) for one in job.classes),
        "input": facts.manifest.config.input.index_id,
        "limits": facts.manifest.config.limits,
    }


def _class(one: JobClass, job: Job) -> dict[str, Any]:
    return {
        "name": readable(one.name, NAME_CHARACTERS),
        "prompts": [readable(prompt, NAME_CHARACTERS) for prompt in one.prompts[:_MAX_PROMPTS]],
        "more": max(len(one.prompts) - _MAX_PROMPTS, 0),
        "options": ", ".join(one.options or job.options),
    }


def _left_out(facts: Facts) -> Iterator[str]:
    """What the page does not hold."""
    settled = sum(facts.counts.videos.values()) - facts.counts.videos[VideoState.OPEN]
    shown = sum(one.state is not VideoState.OPEN for one in facts.videos)
    if shown < settled:
        yield (
            f"Heat map and timeline hold {shown:,} of {counted(settled, 'settled video')}: each class's best video, "
            "then each class's second-best, and so on. Add others with `--video ID`. All else counts every video."
        )
    if facts.classes_left_out:
        yield f"{counted(facts.classes_left_out, 'class', 'classes')} with the fewest matching videos."
    if others := facts.tally.rows_of_others:
        yield f"{counted(others, 'row')} about classes that the job does not have, not counted here."
    if cut := sum(1 for one in facts.videos if one.found.clips_left_out):
        yield f"The weaker clips of {counted(cut, 'video')}: at most {MAX_CLIPS} are shown, and `clips.ndjson` has all."
