"""What the codes of failed videos mean, and what to do about each.

The codes are the platform's where it sent one, so there may be others; ours are for what no platform says.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Meaning(NamedTuple):
    """What has happened to a video, and what to do about it."""

    what: str
    advice: str


_LATER = "retry asks again"
_LOOK = "look at the message in failures.ndjson"

MEANINGS: Mapping[str, Meaning] = MappingProxyType(
    {
        # What the platform says of a video or of a request.
        "resource_not_exist": Meaning(
            "the platform does not have this video", "check the id; index it, then retry --code resource_not_exist"
        ),
        "parameter_invalid": Meaning("the platform refuses this video, or what is asked of it", _LOOK),
        "parameter_not_provided": Meaning("the platform misses something in the request", _LOOK),
        "parameter_unknown": Meaning("the platform does not know something in the request", _LOOK),
        "unauthorized": Meaning("the key may not use this video", "check who owns it"),
        "request_canceled_or_timed_out": Meaning("the platform gave up on the request", _LATER),
        # What we say where it says nothing.
        "video_refused": Meaning("the platform refuses this video without a code", _LOOK),
        "request_refused": Meaning("the platform refuses the request for a reason that says nothing known", _LOOK),
        "duration_limit": Meaning("this video alone is longer than a POST may be", "leave it out, or cut it"),
        "platform_overloaded": Meaning("the platform was too busy, each time", _LATER),
        "too_many_requests": Meaning("the platform turned it away for the pace, each time", _LATER),
        "cannot_connect": Meaning("no connection to the platform", _LATER),
        "connection_lost": Meaning("the connection broke off before the answer", _LATER),
        "timed_out": Meaning("no whole answer within api.request_timeout_seconds", "raise it, then retry"),
        "gateway_failed": Meaning("a gateway lost the platform (502, 504)", _LATER),
        "unreadable_answer": Meaning("the answer was cut short or is no JSON", _LATER),
        "unusable_answer": Meaning(
            "the answer is not what the contract says", f"{_LOOK}; retry --all pays for it again"
        ),
        "unusable_token": Meaning(
            "the platform sent a page token that cannot be used", "retry --all pays for it again"
        ),
        "answer_too_large": Meaning(
            "the answer is larger than limits.max_response_bytes", "raise it, then retry --all"
        ),
        "page_token_expired": Meaning("page tokens died before their pages came, each time", _LATER),
        "incomplete_answer": Meaning("the platform announced this video and never showed it", _LATER),
        "request_failed": Meaning("a request brought no usable answer", _LATER),
    }
)


def in_words(code: str) -> str:
    """What a code means and what to do, in one clause; for one that nobody has listed, where to read on."""
    meaning = MEANINGS.get(code)
    return f"the platform's own code; {_LOOK}" if meaning is None else f"{meaning.what}; {meaning.advice}"
