"""Every error of the pipeline. The base class is the reaction that it asks for, the leaf is the cause.

    PipelineError
    ├── StopRun                     end the run with ``exit_code``; the state is kept
    │   ├── UsageError         2    the command line cannot be carried out as it is written
    │   │   ├── ConfigError         one or more settings are wrong: all of them, a line each
    │   │   └── InputError          an id list cannot be used: all its bad lines, a line each
    │   ├── JobRefused         2    the platform will not take this job, whatever the videos
    │   │   └── EndpointGone        the platform no longer has a classify endpoint
    │   ├── KeyRefused         4
    │   ├── PlatformDown      69
    │   ├── RunHeld           73
    │   ├── StorageError      74
    │   ├── QuotaReached      75
    │   └── Interrupted      130
    ├── Drained                     the run is stopping: nothing new is sent, what is open stays open
    ├── Overbooked                  the quota has no place for this POST after all: give it back, reserve again
    ├── Outgrown                    the videos of this POST are too long together, as others have taught meanwhile
    └── RequestFailed               one HTTP request brought no usable page
        ├── ResendFree              it was never executed: wait, send it again
        │   ├── CannotConnect
        │   ├── Overloaded          408, 425, 500, 503
        │   └── RateLimited         429
        ├── ResendCounted           it may have been executed and billed: send it again a few times at the most
        │   ├── ConnectionLost
        │   ├── TimedOut
        │   ├── GatewayFailed       502, 504
        │   └── AnswerCut           2xx that is cut short or not JSON
        ├── RestartWalk             the page token is dead: post again what this walk has not shown yet
        ├── Repack                  the videos are too long together: post fewer at once
        ├── Bisect                  one of the videos is refused, and the platform does not say which
        │   └── RequestRefused      a 400 that says nothing known: the videos or the job
        └── AnswerUnusable          executed and billed, but not an answer of the contract: never send it again

A worker catches the reactions. Anything that is not a ``PipelineError`` is a bug and ends the run with a traceback.
Messages are for the user: what happened, where, what to do. None of them may hold an API key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class PipelineError(Exception):
    """Whatever the pipeline itself has to say."""


class StopRun(PipelineError):
    """The run cannot go on. What is committed stays; ``exit_code`` is the process's, ``code`` names why it stops."""

    code: ClassVar[str] = "stopped"
    exit_code: ClassVar[int] = 1


class UsageError(StopRun):
    """The command cannot be carried out as it was given."""

    code = "usage_error"
    exit_code = 2


class ConfigError(UsageError):
    """Settings that are wrong. ``problems`` has one line for each, all found at once."""

    code = "config_error"

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class InputError(UsageError):
    """An id list that cannot be used. ``problems`` has one line for each bad line, at most the first twenty."""

    code = "input_error"

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class JobRefused(StopRun):
    """The platform refuses the job itself, whatever the videos."""

    code = "job_refused"
    exit_code = 2


class EndpointGone(JobRefused):
    """The platform no longer has the classify endpoint."""

    code = "endpoint_gone"


class KeyRefused(StopRun):
    """401 or 403: nothing more is sent with this key."""

    code = "key_refused"
    exit_code = 4


class PlatformDown(StopRun):
    """The platform does not answer, or answers nothing that can be trusted."""

    code = "platform_down"
    exit_code = 69


class RunHeld(StopRun):
    """Another process holds this run directory."""

    code = "run_held"
    exit_code = 73


class StorageError(StopRun):
    """A file or the disk failed, or is not what the ledger says it is."""

    code = "storage_error"
    exit_code = 74


class QuotaReached(StopRun):
    """The quota of this window or the budget of this directory is used up.

    ``resume_after`` is when the quota starts anew, in seconds since the epoch; None for a budget.
    """

    code = "quota_reached"
    exit_code = 75

    def __init__(self, message: str, *, resume_after: float | None = None) -> None:
        super().__init__(message)
        self.resume_after = resume_after


class Interrupted(StopRun):
    """Ctrl-C, SIGTERM or SIGHUP, after draining."""

    code = "interrupted"
    exit_code = 130


class Drained(PipelineError):
    """The run is stopping, and this request was not sent."""


class Overbooked(PipelineError):
    """The platform counts more POSTs than we did, and this one has no place in the window."""


class Outgrown(PipelineError):
    """Others have been refused for their length meanwhile, and these videos are too long together by what that taught.

    The POST was not sent: give it back, and take videos out.
    """


class RequestFailed(PipelineError):
    """One HTTP request brought no usable page.

    ``code`` is the platform's, or one of ours where it sent none; ``http_status`` is None where no answer came;
    ``retry_after_seconds`` is what the platform ordered, already bounded.
    """

    code: str = "request_failed"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        http_status: int | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        if code:
            self.code = code
        self.http_status = http_status
        self.retry_after_seconds = retry_after_seconds


class ResendFree(RequestFailed):
    """The platform did not execute the request: nothing is billed."""


class CannotConnect(ResendFree):
    """No connection: DNS, TCP or TLS failed before anything was sent."""

    code = "cannot_connect"


class Overloaded(ResendFree):
    """408, 425, 500 or 503."""

    code = "platform_overloaded"


class RateLimited(ResendFree):
    """429: sent too early. No fault of the chunk's.

    Where the platform says that nothing of its quota remains, ``quota_limit`` is that quota in POSTs, and
    ``quota_resets_at`` when its window ends, in seconds since the epoch; else they are None.
    """

    code = "too_many_requests"
    quota_limit: int | None = None
    quota_resets_at: float | None = None


class ResendCounted(RequestFailed):
    """The platform may have executed and billed the request."""


class ConnectionLost(ResendCounted):
    """The connection ended after the request was sent."""

    code = "connection_lost"


class TimedOut(ResendCounted):
    """The whole exchange took longer than it may."""

    code = "timed_out"


class GatewayFailed(ResendCounted):
    """502 or 504: a proxy lost the platform."""

    code = "gateway_failed"


class AnswerCut(ResendCounted):
    """A 2xx whose body is cut short or not JSON."""

    code = "unreadable_answer"


class RestartWalk(RequestFailed):
    """The page token is expired or unknown."""

    code = "page_token_expired"


class Repack(RequestFailed):
    """The total duration of the posted videos, or the request itself, is over the platform's limit.

    ``total_seconds`` is what the platform counts, None where it does not say so.
    """

    code = "duration_limit"
    total_seconds: float | None = None


class Bisect(RequestFailed):
    """At least one of the posted videos is refused."""

    code = "video_refused"


class RequestRefused(Bisect):
    """A 400 with a message that says nothing known."""

    code = "request_refused"


class AnswerUnusable(RequestFailed):
    """A whole 2xx of a shape that is not the contract's, or an answer that contradicts itself."""

    code = "unusable_answer"
