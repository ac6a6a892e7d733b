"""What is told when a run has ended, or was refused: to whoever reads along, and to ``notify.command``."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pipeline.command_line import environment, print_json, say
from pipeline.config import Config
from pipeline.errors import StopRun
from pipeline.notify import notify
from pipeline.order import Order
from pipeline.run import Outcome
from pipeline.status import finish, in_words, next_command, status_of


def tell_end(order: Order, outcome: Outcome, seconds: float, *, as_json: bool, is_quiet: bool) -> None:
    """Tell how a run has ended after so many seconds; ``is_quiet`` leaves an error, and what to type next."""
    if outcome.stopped is not None:
        say(f"error: {outcome.stopped}")
    try:
        status = status_of(order.folder)
        finished = finish(order.folder, status, seconds)
    except StopRun:  # what failed is told, and may have failed for good
        order.console.say(f"next: {next_command(order.folder)}")
        return
    if as_json:
        print_json(status)
    for line in in_words(status, finished):
        order.console.say(line)
    if is_quiet and outcome.stopped is not None and status.next_command:
        say(f"next: {status.next_command}")
    if problem := notify(order.config, outcome.exit_code, status, environment()):
        say(f"warning: {problem}")


def tell_refusal(config: Config, folder: Path, refusal: StopRun) -> None:
    """Tell ``notify.command`` of a start that was refused, where there is a run directory to tell of."""
    with suppress(StopRun):
        status = replace(status_of(folder), stop_reason=str(refusal), resume_after=None)
        if problem := notify(config, refusal.exit_code, status, environment()):
            say(f"warning: {problem}")
