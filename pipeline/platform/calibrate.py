"""``index calibrate``: the curve of each option, from the index alone or from labels, into the index.

All curves are worked out before they are stored, and they are stored together, so that whatever fails, or a kill,
leaves the index as it was. An index is read a few videos at a time, and of many clips only some count: every second,
every fourth. Cosines are summed in float64. So the same index gives the same curve wherever that is done.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import anyio
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StorageError, UsageError
from pipeline.lines import Problems
from pipeline.platform.access import EmbedderAccess
from pipeline.platform.calibration import CannotCalibrate, Cosines, label_free, platt
from pipeline.platform.embedders import embedder_for
from pipeline.platform.labels import Label, read_labels
from pipeline.platform.prompts import AnyEmbedder, Prompts
from pipeline.platform.remote_embed import EmbedderFailed
from pipeline.platform.store import Store
from pipeline.platform.videos import Calibration, IndexedVideo, Track, Vectors
from pipeline.wording import counted

_PROMPTS = "generic_prompts.txt"
_VIDEOS_AT_ONCE = 100
_MOST_CLIPS = 20_000
_FEW_CLIPS, _FEW_LABELS = 50, 10
_BARREN_TRIES = 5


def generic_prompts() -> tuple[str, ...]:
    """Prompts of all sorts, which hardly any clip matches. Raises ``StorageError`` where the package is damaged."""
    try:
        text = files("pipeline.platform").joinpath(_PROMPTS).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"the generic prompts cannot be read: {error}; install this package again") from None
    return tuple(text.split("\n"))[:-1]


@dataclass(frozen=True, slots=True, eq=False)
class _Evidence:
    """What an option's curve comes of: cosines, and for each whether it is of a match, where that is known."""

    cosines: Cosines
    labels: tuple[bool, ...] | None
    source: str
    is_thin: bool

    def curve(self) -> Calibration:
        return label_free(self.cosines) if self.labels is None else platt(self.cosines, self.labels)


async def calibrate_index(
    file: Path,
    labels: Path | None,
    access: EmbedderAccess = EmbedderAccess(),
    *,
    say: Callable[[str], object] = lambda _: None,
    sleep: Callable[[float], Awaitable[object]] = anyio.sleep,
) -> dict[str, object]:
    """Calibrate each option of an index, or with a file of ``labels`` those that are labelled; what came of it.

    An embedder that is busy is waited for, by ``sleep``, and that is said. Raises ``UsageError`` where there is nothing
    to calibrate with, ``InputError`` for labels that cannot be used, and ``EmbedderFailed``.
    """
    read = read_labels(labels) if labels else None
    with Store.open(file) as store:
        space = store.space
        if space is None:
            raise UsageError(f"{file}: the index holds no vectors yet")
        wanted = generic_prompts() if read is None else [one.prompt for one in read]
        prompts = await _embedded(store, embedder_for(space, store.dimensions, access), wanted, say, sleep)
        found = _of_index(store, prompts) if read is None else _of_labels(store, read, prompts)
        curves = _curves(file, found)
        store.calibrate(curves)
        for option in curves:
            if found[option].is_thin:
                say(f"warning: {option}: {found[option].source} are little to go by: look at some scores")
        told = {option: asdict(curve) | {"source": found[option].source} for option, curve in curves.items()}
        return {"file": str(file), "space": space, "options": told, "score_source": store.score_source()}


async def _embedded(
    store: Store,
    embedder: AnyEmbedder,
    wanted: Sequence[str],
    say: Callable[[str], object],
    sleep: Callable[[float], Awaitable[object]],
) -> dict[str, Vectors]:
    """The vectors of the prompts, as long as an embedder that is busy brings some more in a few tries."""
    barren = cached = 0
    while True:
        try:
            vectors = await Prompts(store).vectors(embedder, wanted)
        except EmbedderFailed as error:
            before, cached = cached, len(store.cached_prompts(embedder.cache_name, wanted))
            barren = barren + 1 if cached == before else 1
            if error.http_status not in {429, 503} or barren > _BARREN_TRIES:
                raise
            seconds = 2**barren if error.retry_after_seconds is None else error.retry_after_seconds
            say(f"{error}; once more in {seconds} s, {cached} of {len(set(wanted))} prompts are embedded")
            await sleep(seconds)
            continue
        # Models that do not look at case give 'Dance' and 'dance' the same vector, and are right.
        if len({text.casefold() for text in vectors}) > 1 and _are_fewer_than(2, vectors.values()):
            raise UsageError("the embedder gives every text the same vector: is its model the right one?")
        return vectors


def _curves(file: Path, found: Mapping[str, _Evidence]) -> dict[str, Calibration]:
    curves = {}
    for option, evidence in sorted(found.items()):
        try:
            curves[option] = evidence.curve()
        except CannotCalibrate as error:
            raise UsageError(f"{file}: {option} cannot be calibrated: {error}; nothing is changed") from None
    return curves


def in_words(facts: Mapping[str, Any]) -> list[str]:
    """What came of it for people, a line each."""
    told = [
        f"{option}: a = {curve['steepness']:g}, m = {curve['midpoint']:g}, from {curve['source']}"
        for option, curve in facts["options"].items()
    ]
    return [*told, f"score_source: {facts['score_source']}"]


# ------------------------------------------------------------------------------------------------- from the index alone


class _Sample:
    """Every so many-th of the vectors that it is shown, evenly over all of them, and at most 20,000."""

    def __init__(self) -> None:
        self._kept: list[Vectors] = []
        self._count = 0
        self._seen = 0
        self._stride = 1

    def add(self, vectors: Vectors) -> None:
        # A copy, for what is kept must not keep all that it is a part of.
        chosen = vectors[-self._seen % self._stride :: self._stride].copy()
        self._seen += len(vectors)
        if len(chosen):  # of most videos of a large index none is
            self._kept.append(chosen)
            self._count += len(chosen)
        while self._count > _MOST_CLIPS:
            self._kept = [np.concatenate(self._kept)[::2].copy()]
            self._count = len(self._kept[0])
            self._stride *= 2

    def vectors(self) -> Vectors:
        return np.concatenate(self._kept)


def _of_index(store: Store, prompts: Mapping[str, Vectors]) -> dict[str, _Evidence]:
    samples: defaultdict[str, _Sample] = defaultdict(_Sample)
    for video in _videos(store, list(store.durations()), store.calibration(with_vectors=True)):
        for track in video.tracks:
            if len(vectors := track.vectors[_speaking(track)]):
                samples[track.option].add(vectors)
    if not samples:
        raise UsageError(f"{store.path}: the index holds no clips to calibrate with")
    sought = np.stack(list(prompts.values())).astype(np.float64)
    found = {}
    for option, sample in samples.items():
        vectors = sample.vectors()
        cosines = np.ravel(vectors.astype(np.float64) @ sought.T)
        source = f"{counted(len(vectors), 'clip')} and {counted(len(prompts), 'generic prompt')}"
        found[option] = _Evidence(cosines, None, source, _are_fewer_than(_FEW_CLIPS, vectors))
    return found


def _are_fewer_than(count: int, vectors: Iterable[Vectors]) -> bool:
    """Whether so many different vectors are not there."""
    met: set[bytes] = set()
    for vector in vectors:
        met.add(vector.tobytes())
        if len(met) >= count:
            return False
    return True


def _speaking(track: Track) -> NDArray[np.bool_]:
    """Which clips have a vector that is not all zeros: the others are like nothing, whatever the curve."""
    return np.asarray(track.vectors.any(axis=1))


def _videos(store: Store, video_ids: Sequence[str], options: Iterable[str]) -> Iterator[IndexedVideo]:
    options = list(options)
    for at in range(0, len(video_ids), _VIDEOS_AT_ONCE):
        yield from store.load(video_ids[at : at + _VIDEOS_AT_ONCE], options)


# ---------------------------------------------------------------------------------------------------------- from labels


def _of_labels(store: Store, labels: Sequence[Label], prompts: Mapping[str, Vectors]) -> dict[str, _Evidence]:
    clips = _best_clips(store, labels, prompts)
    found = {}
    for option in {one.option for one in labels}:
        of_option = [(cosine, one.matches) for cosine, one in zip(clips, labels, strict=True) if one.option == option]
        cosines = np.array([cosine for cosine, _ in of_option], dtype=np.float64)
        matches = tuple(matches for _, matches in of_option)
        found[option] = _Evidence(cosines, matches, counted(len(of_option), "label"), len(of_option) < _FEW_LABELS)
    return found


def _best_clips(store: Store, labels: Sequence[Label], prompts: Mapping[str, Vectors]) -> list[float]:
    """The highest cosine of any clip in each labelled stretch, as a clip of an answer has it.

    Raises ``InputError`` with the labels for which there is none.
    """
    cosines = [math.nan] * len(labels)
    missing = {at: f"{one.place}: the index has no video {one.video_id!r}" for at, one in enumerate(labels)}
    of_video: defaultdict[str, list[int]] = defaultdict(list)
    for at, one in enumerate(labels):
        of_video[one.video_id].append(at)
    for video in _videos(store, list(of_video), {one.option for one in labels}):
        tracks = {track.option: track for track in video.tracks}
        for at in of_video[video.video_id]:
            one = labels[at]
            track = tracks.get(one.option)
            inside = None if track is None else _speaking(track) & (track.starts < one.end) & (track.ends > one.start)
            if track is None or inside is None or not inside.any():
                missing[at] = f"{one.place}: the index has no {one.option} clip there of video {one.video_id!r}"
            else:
                cosines[at] = float((track.vectors[inside].astype(np.float64) @ prompts[one.prompt]).max())
                del missing[at]
    problems = Problems()
    for at in sorted(missing):
        problems.add(missing[at])
    problems.raise_if_any()
    return cosines
