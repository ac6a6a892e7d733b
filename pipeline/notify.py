"""Telling somebody that a run has stopped, by a command of theirs: mail, chat, whatever they have."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

import orjson

from pipeline.api_key import KEY_VARIABLES
from pipeline.config import Config
from pipeline.config_sources import PLATFORM_KEY
from pipeline.status import Status, in_words

_LONGEST_SECONDS = 60.0


def notify(
    config: Config,
    exit_code: int,
    status: Status,
    environment: Mapping[str, str],
    timeout_seconds: float = _LONGEST_SECONDS,
) -> str | None:
    """Run ``notify.command``, if there is one; what went wrong with it, if anything did.

    It gets ``NOTIFY_EXIT_CODE``, ``NOTIFY_DIRECTORY``, ``NOTIFY_STOP_REASON`` and ``NOTIFY_RESUME_AFTER`` (empty where
    there is none), ``NOTIFY_SUMMARY`` (lines for people) and ``NOTIFY_STATUS`` (the status as JSON), and no API key. It
    is killed if it has not ended after ``timeout_seconds``.
    """
    command = config.notify.command
    if not command:
        return None
    told = {
        "NOTIFY_EXIT_CODE": str(exit_code),
        "NOTIFY_DIRECTORY": status.directory,
        "NOTIFY_STOP_REASON": status.stop_reason or "",
        "NOTIFY_RESUME_AFTER": status.resume_after or "",
        "NOTIFY_SUMMARY": "\n".join(in_words(status)),
        "NOTIFY_STATUS": orjson.dumps(status).decode(),
    }
    secret = {*KEY_VARIABLES, config.api.key_env, PLATFORM_KEY}
    inherited = {name: value for name, value in environment.items() if name not in secret}
    try:
        ended = subprocess.run(  # noqa: S603 - the user's own command, as a list, without a shell
            list(command),
            env=inherited | told,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,  # ours is for what was asked for
            timeout=timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"notify.command was killed: it had not ended after {timeout_seconds:g} s"
    except OSError as error:
        return f"notify.command failed: {error}"
    return f"notify.command ended with {ended.returncode}" if ended.returncode else None
