"""Names of spaces: what a vector was made by, as letters that fit into a header and into a file."""

from __future__ import annotations

import re


def vendor_space(model: str, dimensions: int) -> str:
    """The space of the vendor's vectors: the model's name in lower case and the dimensions, as ``marengo3.0-512``.

    Whatever is neither a letter, a digit, ``.``, ``_`` nor ``-`` becomes a ``-``.
    """
    return f"{re.sub(r'[^a-z0-9._-]+', '-', model.strip().lower())}-{dimensions}"
