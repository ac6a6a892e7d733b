"""What one classify POST comes to: the index's vectors, those of the prompts and the scoring, put together.

No HTTP here, and nothing that awaits: it runs in a worker thread. An index is scored in slices no longer than what one
POST may name, and of each video that matches only its id and a checksum are kept: asking for all of an index takes
hardly more memory than asking for ten hours of it. Answers come best first, so that the first page is the one worth
reading.

A further page is scored again when it is asked for, with the prompts and the calibration of its walk, and comes out the
same, for a score depends on nothing else. If it does not, because a video of the page was changed or removed since, the
page is refused as expired: pages of one walk never tell of two states of the index. Changes of other videos, and new
ones, do no harm.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from pipeline.models import MAX_SECONDS
from pipeline.platform.scored import Scored
from pipeline.platform.scoring import score
from pipeline.platform.store import Store
from pipeline.platform.videos import Calibration, Vectors
from pipeline.wire import ClassifyRequest, RequestInvalid, encode_answer

_SLICE_VIDEOS = 1000
_NAMED_IDS = 3
# Of a string or an array, and its place in a tuple or a dictionary.
_OVERHEAD_BYTES = 120


class ResourceMissing(PipelineError):
    """The request names an index or videos that are not there: HTTP 404, ``resource_not_exist``."""


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """The videos that match a request, best first, and what it takes to answer for them.

    ``score_source`` says whose scale the scores are on. ``seals`` has the checksum of each video's answer. ``opening``
    is the first answer, encoded; empty where there is none.
    """

    request: ClassifyRequest
    space: str | None
    score_source: str
    prompt_vectors: Mapping[str, Vectors]
    calibration: Mapping[str, Calibration]
    video_ids: tuple[str, ...] = ()
    seals: NDArray[np.uint32] = field(default_factory=lambda: np.empty(0, np.uint32))
    opening: tuple[bytes, ...] = ()

    def __len__(self) -> int:
        return len(self.video_ids)

    @property
    def size_bytes(self) -> int:
        """What it holds in memory, nearly."""
        texts = sum(map(len, self.video_ids)) + sum(map(len, self.opening)) + sum(map(len, self.prompt_vectors))
        vectors = sum(vector.nbytes for vector in self.prompt_vectors.values())
        return texts + vectors + self.seals.nbytes + _OVERHEAD_BYTES * (len(self) + len(self.prompt_vectors))

    def scored(self, store: Store, video_ids: Sequence[str]) -> Scored:
        """These videos as the index has them now; those that it has no more are left out."""
        asked = {option for one in self.request.classes for option in one.options or self.request.options}
        videos = store.load(video_ids, asked & self.calibration.keys())
        return score(videos, self.request, self.prompt_vectors, self.calibration)


class Opened(NamedTuple):
    """What a request found, and the answers of its first page, encoded."""

    answers: Answers
    first_page: tuple[bytes, ...]


def refuse_unanswerable(store: Store, request: ClassifyRequest) -> None:
    """Raise what ``answer`` raises, before anybody is asked for the vectors of prompts."""
    _asked_videos(store, request)


def answer(store: Store, prompts: Mapping[str, Vectors] | None, request: ClassifyRequest) -> Opened:
    """Find what a request asks for, with the vectors of its prompts. Without them (an index has none) nothing matches.

    Raises ``ResourceMissing``, and ``RequestInvalid`` where the videos are longer together than the contract allows.
    """
    durations = _asked_videos(store, request)
    score_source = store.score_source()
    if prompts is None:
        return Opened(Answers(request, None, score_source, {}, {}), ())
    answers = Answers(request, store.space, score_source, prompts, store.calibration())
    ranked: list[_Ranked] = []
    first: list[_Ranked] = []
    entries: dict[str, bytes] = {}
    for asked in _slices(durations):
        scored = answers.scored(store, asked)
        found = _ranked(scored)
        ranked += found
        first = sorted(first + found)[: request.page_limit]
        unwritten = [one.video_id for one in first if one.video_id not in entries]
        entries |= zip(unwritten, _encoded(scored, unwritten), strict=True)
        entries = {one.video_id: entries[one.video_id] for one in first}
    ranked.sort()
    first_page = tuple(entries[one.video_id] for one in first)
    seals = np.array([one.seal for one in ranked], dtype=np.uint32)
    video_ids = tuple(one.video_id for one in ranked)
    return Opened(replace(answers, video_ids=video_ids, seals=seals, opening=first_page[:1]), first_page)


class _Ranked(NamedTuple):
    minus_score: float
    video_id: str
    seal: int


def _ranked(scored: Scored) -> list[_Ranked]:
    best, seals = scored.best_scores, scored.seals
    return [_Ranked(-best[at], scored.videos[at].video_id, seals[at]) for at in scored.matching]


def page_entries(store: Store, answers: Answers, first: int, beyond: int) -> tuple[bytes, ...]:
    """The encoded answers of the videos from place ``first`` to before ``beyond``.

    Raises ``RequestInvalid`` where the index has changed so that they would not be those that were found.
    """
    if first == beyond:
        return ()
    if store.space != answers.space:
        raise _changed()
    video_ids = answers.video_ids[first:beyond]
    scored = answers.scored(store, video_ids)
    seal_of = {video.video_id: seal for video, seal in zip(scored.videos, scored.seals, strict=True)}
    if [seal_of.get(video_id) for video_id in video_ids] != answers.seals[first:beyond].tolist():
        raise _changed()
    return _encoded(scored, video_ids)


def _encoded(scored: Scored, video_ids: Sequence[str]) -> tuple[bytes, ...]:
    place_of = {video.video_id: place for place, video in enumerate(scored.videos)}
    return tuple(map(encode_answer, scored.answers([place_of[video_id] for video_id in video_ids])))


def _changed() -> RequestInvalid:
    why = "videos of this page have changed since the request; post the request again"
    return RequestInvalid("parameter_invalid", f"The page token is expired or invalid: {why}.")


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
