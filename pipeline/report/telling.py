"""What the numbers of a run amount to: how it stands, what to type next, what to be careful with. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pipeline.chunks import VideoState
from pipeline.config import warnings_of
from pipeline.report.facts import Facts
from pipeline.report.pace import Fate
from pipeline.status import JOB_NOT_TAKEN, next_command, resume_command
from pipeline.wording import counted

# What the local platform calls a curve that nobody has fitted, and the one space that it fits as it is.
UNFITTED_CURVE = "a20-m0.129"
FITTED_SPACE = "wordllama-0.4-l2-supercat-256"


class Standing(NamedTuple):
    """How a run stands: one of ``done``, ``failures``, ``running``, ``stopped`` and ``empty``, and a sentence."""

    kind: str
    headline: str
    explanation: str


class Step(NamedTuple):
    """A command to type, and what for."""

    command: str
    why: str


def standing_of(facts: Facts) -> Standing:
    """How the run stands."""
    videos = facts.counts.videos
    still_open, failed = videos[VideoState.OPEN], videos[VideoState.FAILED]
    settled = sum(videos.values()) - still_open
    so_far = f"{settled:,} of {counted(settled + still_open, 'video')} settled."
    if facts.running:
        return Standing("running", "Running", f"{so_far} This page shows what was committed when it was made.")
    if not settled + still_open:
        reason = facts.stop_reason or "It ended before it had read its input, as after a kill or a power cut"
        return Standing("empty", "Nothing taken in", f"The run has no videos. {_sentence(reason)}")
    if still_open:
        reason = facts.stop_reason or "It left no reason, as after a kill or a power cut; nothing is lost"
        return Standing("stopped", "Stopped before its end", f"{so_far} {_sentence(reason)}")
    if failed:
        return Standing("failures", "Done, with failures", f"{failed:,} of {counted(settled, 'video')} failed.")
    return Standing("done", "Done", "Every video of the input is answered.")


def steps_of(facts: Facts) -> list[Step]:
    """What to type next, the most useful first."""
    videos = facts.counts.videos
    after = f" The quota resets at {facts.resume_after}." if facts.resume_after else ""
    if facts.running:
        return [
            Step(next_command(facts.folder, "status"), "shows how the run stands at any moment."),
            Step(next_command(facts.folder, "report"), "makes this page again."),
        ]
    if not sum(videos.values()):
        return [Step(next_command(facts.folder, "run CONFIG --out"), "reads the input again and starts the run.")]
    steps = []
    if videos[VideoState.OPEN]:
        resume = resume_command(facts.folder, facts.manifest.config, facts.counts, facts.posts_spent, facts.stop_code)
        goes_on = f"goes on where the run stopped; nothing is paid for twice.{after}"
        steps.append(Step(resume, "asks with a corrected config." if facts.stop_code in JOB_NOT_TAKEN else goes_on))
    elif facts.counts.retryable:
        retryable = counted(facts.counts.retryable, "failed video")
        steps.append(Step(next_command(facts.folder, "retry"), f"tries {retryable} again that may yet succeed."))
    return [*steps, Step(next_command(facts.folder, "verify"), "proves that input, ledger and rows agree.")]


def source_of(score_source: str | None) -> str:
    """Whose scale the scores are on."""
    if score_source is None:
        return "none yet, for want of an answer"
    if score_source.startswith("local/"):
        return "the local platform's scale, named after its vectors and its calibration"
    return "the platform's own scale"


def warnings(facts: Facts) -> Iterator[str]:
    """What somebody who reads the scores should know first."""
    if is_uncalibrated(facts.score_source):
        yield (
            "The scores are not calibrated: higher is better, but a score by itself means little. "
            "Run `bulk-classify index calibrate` on the index, then classify into a new directory."
        )
    yield from map(_sentence, warnings_of(facts.manifest.config))
    if unknown := facts.posts.count(Fate.UNKNOWN):
        yield f"{counted(unknown, 'POST')} may have been billed without bringing an answer."
    if facts.counts.unknown_durations:
        yield (
            f"The duration of {counted(facts.counts.unknown_durations, 'video')} is unknown: "
            "hours on this page are those of the others."
        )


def is_uncalibrated(score_source: str | None) -> bool:
    """Whether a score source is the local platform with a curve that was never fitted to these vectors."""
    origin, _, rest = (score_source or "").partition("/")
    space, _, curve = rest.rpartition("/")
    return origin == "local" and space != FITTED_SPACE and curve == UNFITTED_CURVE


def _sentence(clause: str) -> str:
    """A message as a sentence of its own; a key that it begins with stays as it is."""
    first, _, _ = clause.partition(" ")
    beginning = clause[:1].upper() if first.isalpha() else clause[:1]
    return f"{beginning}{clause[1:].rstrip('.')}."
