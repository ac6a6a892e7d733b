"""What codes and reasons mean, and what to do about them: the report's own words for the ledger's short ones. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Meaning(NamedTuple):
    """What happened, and what helps."""

    means: str
    remedy: str


_AGAIN = "Asking again often helps."
_LATER = "Ask again when the platform has recovered."

FAILURES: Mapping[str, Meaning] = MappingProxyType(
    {
        # Ours: the leaves of errors.RequestFailed, and what the walk and the transport add.
        "request_failed": Meaning("The request brought no usable answer.", _AGAIN),
        "cannot_connect": Meaning("No connection to the platform: nothing was sent, nothing billed.", _LATER),
        "platform_overloaded": Meaning("The platform was too busy, again and again.", _LATER),
        "too_many_requests": Meaning(
            "The platform refused the pace.", "Retry, with a lower limits.requests_per_second."
        ),
        "connection_lost": Meaning("The connection broke after the request had left; it may have been billed.", _LATER),
        "timed_out": Meaning(
            "No whole answer came in time; it may have been billed.",
            "Retry, with a longer api.request_timeout_seconds if it happens often.",
        ),
        "gateway_failed": Meaning(
            "A proxy in front of the platform lost it (502, 504); it may have been billed.", _LATER
        ),
        "unreadable_answer": Meaning("The answer was cut short or is not JSON, also when asked for again.", _AGAIN),
        "page_token_expired": Meaning("The page token died before all pages were fetched, several times.", _AGAIN),
        "duration_limit": Meaning(
            "The video alone is over the ten hours of video that one request may have.",
            "Cut the video, and index its parts.",
        ),
        "video_refused": Meaning(
            "The platform refuses this video.", "Read the message; often the id is not in this account."
        ),
        "request_refused": Meaning(
            "The platform refuses the request for this video, and does not say why.", "Read the message."
        ),
        "unusable_answer": Meaning(
            "The answer came and was billed, but has not the shape of the contract.",
            "Nothing is gained by asking again, unless the platform has changed.",
        ),
        "unusable_token": Meaning("The platform sent a page token that cannot be used.", "Report it to the platform."),
        "answer_too_large": Meaning(
            "An answer was larger than is allowed.",
            "Raise limits.max_response_bytes, or lower job.page_limit; then retry.",
        ),
        "incomplete_answer": Meaning(
            "The platform announced more videos than it then showed, several times: no answer, so not 'no match'.",
            _AGAIN,
        ),
        # The platform's.
        "resource_not_exist": Meaning(
            "The platform does not know this video: deleted, of another account, or a wrong id.",
            "Correct the id list.",
        ),
        "parameter_invalid": Meaning("The platform finds something about this video invalid.", "Read the message."),
        "parameter_unknown": Meaning("The platform does not know something in the request.", "Read the message."),
        "parameter_not_provided": Meaning("The platform misses something in the request.", "Read the message."),
        "request_canceled_or_timed_out": Meaning("The platform gave up on the request.", _LATER),
    }
)
"""By code, those of ours and those that the platform documents."""

ELSE = Meaning("A code of the platform's own.", "Read the message.")

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
