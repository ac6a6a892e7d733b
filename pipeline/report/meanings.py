"""What the ledger's short reasons mean, in the report's words. Pure; what codes mean is in ``failure_codes``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

REASONS: Mapping[str, str] = MappingProxyType(
    {
        "first": "The first question about these videos.",
        "resend": "The same question again: the one before was lost, cut off, or refused for the moment.",
        "expiry": "The page token died; the videos not yet seen were asked for again.",
        "incomplete": "The platform showed fewer videos than it announced; the missing ones were asked for again.",
        "repack": "The videos were too long together; fewer were asked for at once.",
        "bisect": "The platform refused a video without saying which; it was searched for.",
        "retry": "Failed videos, taken again.",
    }
)
"""Why a POST is sent."""
