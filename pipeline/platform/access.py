"""How a server that embeds prompts is reached: values alone, so that a run against another platform loads no numpy."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class EmbedderAccess:
    """What the user says about the server that embeds prompts. All of it may be left out.

    ``model`` is the name by which an OpenAI-compatible server at ``url`` knows the model of the index. Without it the
    space of the index decides, and ``url`` is in the place of the vendor's. ``key`` is for that server, whichever it
    is; ``vendor_key`` for the vendor's alone, and only where there is no ``key``.
    """

    url: str | None = None
    model: str | None = None
    key: str | None = field(default=None, repr=False)
    vendor_key: str | None = field(default=None, repr=False)
