from __future__ import annotations

import importlib.util
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import StorageError, UsageError
from pipeline.platform import embed
from pipeline.platform.embed import WordEmbedder, embed_track

needs_model = pytest.mark.skipif(importlib.util.find_spec("wordllama") is None, reason="wordllama is not installed")


@pytest.fixture(scope="module")
def embedder() -> WordEmbedder:
    return WordEmbedder()


@needs_model
def test_vectors_are_float32_of_length_one(embedder: WordEmbedder) -> None:
    vectors = embedder.embed(["Dance tutorial", "a"])
    assert vectors.dtype == np.float32
    assert vectors.shape == (2, 256)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


@needs_model
def test_case_does_not_count_and_company_neither(embedder: WordEmbedder) -> None:
    alone = embedder.embed(["dance tutorial"])[0]
    assert np.array_equal(embedder.embed(["x", "DANCE Tutorial"])[1], alone)


@needs_model
def test_what_means_the_same_is_closer_than_what_does_not(embedder: WordEmbedder) -> None:
    cooking, recipe, engine = embedder.embed(["cooking pasta", "a recipe for spaghetti", "repair a car engine"])
    assert cooking @ recipe > 0.3 > cooking @ engine


@needs_model
def test_an_empty_text_has_no_direction_and_any_text_can_be_embedded(embedder: WordEmbedder) -> None:
    assert not embedder.embed([""]).any()
    assert embedder.embed([]).shape == (0, 256)
    assert np.isfinite(embedder.embed([" ", "\0", "舞蹈 🕺", "a" * 10_000])).all()


@needs_model
def test_a_track_of_texts_keeps_their_times_and_words(embedder: WordEmbedder) -> None:
    track = embed_track(embedder, "visual", [(0, 2.5, "a dog"), (2.5, 4, "a cat")])
    assert (track.starts.tolist(), track.ends.tolist(), track.texts) == ([0.0, 2.5], [2.5, 4.0], ("a dog", "a cat"))
    assert np.array_equal(track.vectors, embedder.embed(["a dog", "a cat"]))


@needs_model
def test_embedding_leaves_logging_alone_and_stays_quiet_when_the_process_forks() -> None:
    program = (
        "import logging, os\n"
        "from pipeline.platform.embed import WordEmbedder\n"
        "WordEmbedder().embed(['one', 'two'])\n"
        "assert not logging.getLogger().handlers\n"
        "child = os.fork()\n"
        "WordEmbedder().embed(['one', 'two'])\n"
        "child and os.waitpid(child, 0)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert (ended.stdout, ended.stderr) == ("", "")
    assert logging.getLogger().level == logging.WARNING


def test_a_missing_package_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    monkeypatch.setattr(sys, "meta_path", [finder for finder in sys.meta_path if "PathFinder" in repr(finder)])
    importlib.invalidate_caches()
    with pytest.raises(UsageError, match=r"needs the package 'wordllama' 0\.4.*Python 3\.14.*pip install"):
        WordEmbedder()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 16,
        (2).to_bytes(8, "little") + b"{}",
        (8).to_bytes(8, "little") + b"[1, 2]  ",
        len(b'{"embedding.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}}').to_bytes(8, "little")
        + b'{"embedding.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}}0000',
        len(b'{"embedding.weight":{"dtype":"F16","shape":[9,9],"data_offsets":[0,4]}}').to_bytes(8, "little")
        + b'{"embedding.weight":{"dtype":"F16","shape":[9,9],"data_offsets":[0,4]}}00',
    ],
)
def test_a_damaged_model_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"model\.safetensors"):
        embed._table(path)


def test_a_damaged_tokenizer_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(StorageError, match=r"tokenizer\.json"):
        embed._tokenizer(path)
