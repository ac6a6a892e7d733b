"""What is done with an index as a whole: made, told about, filled from files, thinned out. Each opens and closes it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pipeline.errors import UsageError
from pipeline.platform import embeddings, texts
from pipeline.platform.calibration import uncalibrated_options
from pipeline.platform.embed import DEFAULT_DIMENSIONS, DEFAULT_SPACE, WordEmbedder
from pipeline.platform.importing import enter, files_in
from pipeline.platform.store import Store

_NAMED_IDS = 5


@dataclass(frozen=True, slots=True)
class Files:
    """Files (or folders of them) to import from, and what the user says about them.

    ``option`` counts where they tell none; ``durations`` are seconds by video id.
    """

    paths: Sequence[Path]
    option: str | None = None
    durations: Mapping[str, float] = field(default_factory=dict)


def create_index(file: Path, name: str, source: Path | None, *, index_id: str | None = None) -> dict[str, object]:
    """Make an index, empty or with the videos of a text file; its facts.

    Raises ``UsageError`` where the file exists, and ``InputError`` for texts that cannot be used; then none is made.
    """
    with Store.create(file, index_id or secrets.token_hex(12), name):
        pass
    if source is not None:
        try:
            import_texts(file, Files([source]))
        except BaseException:
            for suffix in ("", "-wal", "-shm"):
                Path(f"{file}{suffix}").unlink(missing_ok=True)
            raise
    return index_info(file)


def index_info(file: Path) -> dict[str, object]:
    """What is in an index, as plain values. ``bytes`` is its size on disk."""
    with Store.open(file) as store:
        facts, calibration = store.facts(), store.calibration()
        return {
            "file": str(file),
            "index_id": facts.index_id,
            "name": facts.name,
            "videos": facts.video_count,
            "seconds": facts.total_seconds,
            "hours": round(facts.total_seconds / 3600, 3),
            "options": list(facts.options),
            "tracks": {option: asdict(counts) for option, counts in store.tracks().items()},
            "space": store.space,
            "dimensions": store.dimensions,
            "calibration": {option: asdict(curve) for option, curve in calibration.items()},
            "score_source": store.score_source(),
            "uncalibrated": uncalibrated_options(store.space, store.calibration(with_vectors=True)),
            "bytes": store.bytes_on_disk(),
        }


def import_texts(file: Path, given: Files) -> dict[str, object]:
    """Enter videos from captions and transcripts, embedded by the default embedder. Raises as ``enter`` does."""
    embedder = WordEmbedder()
    one_option = texts.OneOption(given.option, given.durations)
    with Store.open(file) as store:
        source = texts.text_source(files_in(given.paths, texts.SUFFIXES), embedder, one_option)
        return {"imported": enter(store, source, embedder.space), "videos": store.facts().video_count}


def import_vectors(file: Path, given: Files, space: str | None) -> dict[str, object]:
    """Enter videos from vectors of a space, by default that of the index. Raises as ``enter`` does."""
    with Store.open(file) as store:
        named = space or store.space
        if named is None:
            raise UsageError("say which model made these vectors: --space, such as --space marengo2.7-1024")
        dimensions = store.dimensions or (DEFAULT_DIMENSIONS if named == DEFAULT_SPACE else 0)
        vouched = embeddings.Vouched(dimensions, given.option, given.durations)
        source = embeddings.vector_source(files_in(given.paths, embeddings.SUFFIXES), vouched)
        return {"imported": enter(store, source, named), "videos": store.facts().video_count}


def remove_videos(file: Path, video_ids: Sequence[str]) -> dict[str, object]:
    """Take videos out of an index. Ids that it does not have are counted, and the first of them named."""
    with Store.open(file) as store:
        removed = set(store.remove(video_ids))
        missing = [one for one in dict.fromkeys(video_ids) if one not in removed]
        return {
            "removed": len(removed),
            "not_there": len(missing),
            "first_not_there": missing[:_NAMED_IDS],
            "videos": store.facts().video_count,
        }
