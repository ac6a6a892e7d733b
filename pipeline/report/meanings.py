"""What the ledger's short reasons mean, in the report's words. Pure; what codes mean is in ``failure_codes``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

REASONS: Mapping[str, str] = MappingProxyType(
    {
        "first": "Videos asked about for the first time.",
        "resend": "The same request again, after one that was lost, cut off or refused for the moment.",
        "expiry": "A page token expired, so the videos not yet seen were posted again.",
        "incomplete": "The platform returned fewer videos than it announced, so the missing ones were posted again.",
        "repack": "The videos of one POST were too long together, so they were posted in smaller chunks.",
        "bisect": "The platform refused a video without saying which, so it was searched for.",
        "retry": "Failed videos, tried again.",
    }
)
"""Why a POST is sent."""
