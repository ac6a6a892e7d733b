"""``exact_match``: which spoken lines hold the words of a prompt, contiguous and in order.

Case, width, ligatures, punctuation and spacing do not count (NFKC, casefold, words alone). People do not speak in
lines, so a match may run over several, as long as no pause between them is longer than a second; each line from its
first word to its last matches. Scripts that do not part their words are compared by the unbroken run of letters.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.platform.videos import Track

PAUSE_SECONDS = 1.0
"""The longest pause between two lines that a match may span."""

# Times are decimals: 3.3 - 2.3 is not 1.0 in binary.
_ROUNDING_SECONDS = 1e-6
_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """The words of a text in the form in which they are compared."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def matching_lines(track: Track, prompts: Sequence[str]) -> NDArray[np.bool_]:
    """For each prompt (row) and each line of the track (column): does the line hold a part of a match?

    Nothing matches a prompt without words, nor a track without texts.
    """
    hits = np.zeros((len(prompts), len(track.starts)), dtype=np.bool_)
    if not track.texts:
        return hits
    order = np.argsort(track.starts, kind="stable")
    speech, begins = _speech(track, order.tolist())
    for row, prompt in enumerate(prompts):
        sought = words(prompt)
        if not sought:
            continue
        phrase = f" {' '.join(sought)} "
        at = speech.find(phrase)
        while at >= 0:
            first = bisect_right(begins, at + 1) - 1
            last = bisect_right(begins, at + len(phrase) - 2) - 1
            hits[row, order[first : last + 1]] = True
            at = speech.find(phrase, at + 1)
    return hits


def _speech(track: Track, order: Sequence[int]) -> tuple[str, list[int]]:
    """All words with one space before and after each, a line break at each pause; and where each line begins in it."""
    pieces = [" "]
    begins: list[int] = []
    length = 1
    spoken_until = float("inf")
    for line in order:
        start, end = float(track.starts[line]), float(track.ends[line])
        paused = start - spoken_until > PAUSE_SECONDS + _ROUNDING_SECONDS
        spoken_until = end if paused or not begins else max(spoken_until, end)
        begins.append(length + (2 if paused else 0))
        piece = ("\n " if paused else "") + "".join(f"{word} " for word in words(track.texts[line]))
        pieces.append(piece)
        length += len(piece)
    return "".join(pieces), begins
