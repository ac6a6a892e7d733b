"""Texts to vectors: one small interface, and an embedder that needs no network.

The default embedder is a static model, one vector a token, that comes inside the package ``wordllama``. Only its two
model files are read. The package itself is never imported: that sets up logging for the whole process, and its loader
looks for the weights in the wrong folder and then on the internet. Text is lower-cased, because the model knows most
words in no other form.
"""

from __future__ import annotations

import importlib.util
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StorageError, UsageError
from pipeline.platform.videos import Track, Vectors

if TYPE_CHECKING:
    from tokenizers import Tokenizer

DEFAULT_SPACE = "wordllama-0.4-l2-supercat-256"
"""The space of ``WordEmbedder``. Whatever changes its vectors must change this name."""
DEFAULT_DIMENSIONS = 256
"""How many numbers its vectors have."""

_WEIGHTS = "weights/l2_supercat_256.safetensors"
_TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"
_LONGEST_HEADER = 65_536


class Embedder(Protocol):
    """Makes vectors of texts. Vectors may be compared where ``space`` is the same."""

    @property
    def space(self) -> str:
        """The model and version, in letters, digits, ``.``, ``_`` and ``-``."""

    @property
    def cache_name(self) -> str:
        """What vectors of prompts are cached under; two that may differ have different names."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """One L2-normalised float32 row a text; zeros for a text that says nothing. Called from any thread."""


def embed_track(embedder: Embedder, option: str, clips: Sequence[tuple[float, float, str]]) -> Track:
    """A track of (start, end, text) clips, in seconds, with the vectors of their texts."""
    return Track.of(option, clips, embedder.embed([text for _, _, text in clips]))


class WordEmbedder:
    """The default embedder. Loads its model at first use, so that making one costs nothing.

    Raises ``UsageError`` where the model is not installed, and at first use ``StorageError`` where it cannot be read.
    """

    def __init__(self) -> None:
        self._folder = _model_folder()
        self._lock = threading.Lock()
        self._model: tuple[Tokenizer, NDArray[np.float16]] | None = None

    @property
    def space(self) -> str:
        """``DEFAULT_SPACE``."""
        return DEFAULT_SPACE

    @property
    def cache_name(self) -> str:
        """``DEFAULT_SPACE``."""
        return DEFAULT_SPACE

    def embed(self, texts: Sequence[str]) -> Vectors:
        """The normalised mean of the vectors of each text's tokens."""
        tokenizer, table = self._loaded()
        vectors = np.zeros((len(texts), table.shape[1]), dtype=np.float32)
        for row, text in enumerate(texts):
            # One by one: a batch would start the tokenizer's own threads, which warn when the process forks later.
            tokens = tokenizer.encode(text.lower(), add_special_tokens=False).ids
            if tokens:
                vectors[row] = table[tokens].mean(axis=0, dtype=np.float32)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        np.divide(vectors, lengths, out=vectors, where=lengths > 0)
        return vectors

    def _loaded(self) -> tuple[Tokenizer, NDArray[np.float16]]:
        with self._lock:
            if self._model is None:
                self._model = _tokenizer(self._folder / _TOKENIZER), _table(self._folder / _WEIGHTS)
            return self._model


def _model_folder() -> Path:
    found = importlib.util.find_spec("wordllama")
    if found is None or not found.submodule_search_locations:
        raise UsageError(
            "the default embedder needs the package 'wordllama' 0.4, which has no wheel for Python 3.14 nor for Linux "
            "on Arm: use Python 3.11 to 3.13 on another machine, and there 'pip install \"wordllama==0.4.*\"'"
        )
    return Path(found.submodule_search_locations[0])


def _tokenizer(path: Path) -> Tokenizer:
    # Imported here because it takes as long as numpy, and only the first text that is embedded needs it.
    from tokenizers import Tokenizer  # noqa: PLC0415

    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 - the library raises nothing narrower
        raise _unreadable(path, error) from None


def _table(path: Path) -> NDArray[np.float16]:
    """The one tensor of a safetensors file, mapped: eight bytes of header length, a JSON header, then the numbers."""
    try:
        with path.open("rb") as file:
            header_length = int.from_bytes(file.read(8), "little")
            tensor = json.loads(file.read(min(header_length, _LONGEST_HEADER)))["embedding.weight"]
        if tensor["dtype"] != "F16":
            raise _unreadable(path, f"its numbers are {tensor['dtype']}, not F16")
        offset = 8 + header_length + tensor["data_offsets"][0]
        return np.memmap(path, dtype="<f2", mode="r", offset=offset, shape=tuple(tensor["shape"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, why: object) -> StorageError:
    return StorageError(f"cannot read the embedder's model file {path} ({why}): install 'wordllama==0.4.*' again")
