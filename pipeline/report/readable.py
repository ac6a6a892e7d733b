"""Names, prompts and messages as a page may show them: whole enough to be known, short enough to be read. Pure.

Escaping for HTML is not done here: that is the template's, and the JSON writer's. Here is what escaping does not see.
A character that turns the direction of what follows, or that nobody sees, would make one name look like another.
"""

from __future__ import annotations

import unicodedata

_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# Not the joiners (U+200C, U+200D): emoji and several scripts are written with them.
_UNSEEN = frozenset("\u00ad\u180e\u200b\u2060\ufeff")
_UNSHOWN_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})


def readable(text: str, most: int) -> str:
    """A text of at most ``most`` characters, and how many there were where some are left out.

    What cannot be seen, or turns the direction of writing, stands as its code: ``[U+202E]``.
    """
    shown = "".join(map(_visible, text[:most]))
    return shown if len(text) <= most else f"{shown}… ({len(text):,} characters)"


def _visible(character: str) -> str:
    if character in _TURNING or character in _UNSEEN or unicodedata.category(character) in _UNSHOWN_CATEGORIES:
        return f"[U+{ord(character):04X}]"
    return character
