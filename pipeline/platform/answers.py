"""What one classify POST comes to: the index's vectors, those of the prompts and the scoring, put together.

No HTTP here, and nothing that awaits: it runs in a worker thread. An index is answered in slices no longer than what
one POST may name, so asking for all of it takes no more memory than asking for ten hours of it, but for the encoded
answers. Answers come best first, so that the first page is the one worth reading.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipeline.errors import PipelineError
from pipeline.models import MAX_SECONDS
from pipeline.platform.scoring import classify
from pipeline.platform.store import Store
from pipeline.platform.videos import Vectors
from pipeline.wire import ClassifyRequest, RequestInvalid, encode_answer

_SLICE_VIDEOS = 1000
_NAMED_IDS = 3


class ResourceMissing(PipelineError):
    """The request names an index or videos that are not there: HTTP 404, ``resource_not_exist``."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Every matching video, encoded, best first; and whose scale the scores are on."""

    entries: tuple[bytes, ...]
    score_source: str


def refuse_unanswerable(store: Store, request: ClassifyRequest) -> None:
    """Raise what ``answer`` raises, before anybody is asked for the vectors of prompts."""
    _asked_videos(store, request)


def answer(store: Store, prompts: Mapping[str, Vectors] | None, request: ClassifyRequest) -> Answers:
    """Answer a request whole, with the vectors of its prompts. Without them (an index has none itself) nothing matches.

    Raises ``ResourceMissing``, and ``RequestInvalid`` where the videos are longer together than the contract allows.
    """
    durations = _asked_videos(store, request)
    score_source = store.score_source()
    if prompts is None:
        return Answers((), score_source)
    calibration = store.calibration()
    options = {option for one in request.classes for option in one.options or request.options}
    ranked: list[tuple[float, str, bytes]] = []
    for video_ids in _slices(durations):
        found = classify(store.load(video_ids, options), request, prompts, calibration)
        ranked += [(-max(a_class.score for a_class in one.classes), one.video_id, encode_answer(one)) for one in found]
    ranked.sort()
    return Answers(tuple(entry for _, _, entry in ranked), score_source)


def _asked_videos(store: Store, request: ClassifyRequest) -> dict[str, float]:
    if request.index_id is not None:
        if request.index_id != store.facts().index_id:
            raise ResourceMissing(f"The index {request.index_id[:128]} does not exist.")
        return store.durations()
    durations = store.durations(request.video_ids)
    missing = [video_id for video_id in dict.fromkeys(request.video_ids) if video_id not in durations]
    if missing:
        named = ", ".join(video_id[:128] for video_id in missing[:_NAMED_IDS])
        more = f" and {len(missing) - _NAMED_IDS} more" if len(missing) > _NAMED_IDS else ""
        raise ResourceMissing(f"These videos do not exist: {named}{more}.")
    total = math.fsum(durations.values())
    if total > MAX_SECONDS:
        raise RequestInvalid(
            "parameter_invalid", f"The total duration(seconds) {math.ceil(total)} of videos exceeds the limit."
        )
    return durations


def _slices(durations: Mapping[str, float]) -> Iterator[list[str]]:
    video_ids: list[str] = []
    seconds = 0.0
    for video_id, duration in durations.items():
        if video_ids and (seconds + duration > MAX_SECONDS or len(video_ids) == _SLICE_VIDEOS):
            yield video_ids
            video_ids, seconds = [], 0.0
        video_ids.append(video_id)
        seconds += duration
    if video_ids:
        yield video_ids
