"""The API key: where it is looked for, and a holder that does not show it.

A key comes from the environment or from a file that nobody else can read, never from a setting or a command line. No
message here repeats any part of one, also not of what turned out to be none.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from pipeline.config_keys import ApiSection, EmbedderSection
from pipeline.errors import ConfigError
from pipeline.platform.access import EmbedderAccess

KEY_VARIABLES = ("TWELVELABS_API_KEY", "TWELVE_LABS_API_KEY", "TL_API_KEY")
"""Where an API key is looked for when ``api.key_env`` does not say; the first that is set counts."""

_SENDABLE_KEY = re.compile(r"[\x21-\x7e]{1,512}")


class ApiKey:
    """An API key that shows itself only when it is asked to: not in a message, a traceback, a log or a pickle."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The key itself, for the header of a request."""
        return self._value

    def __repr__(self) -> str:
        return "ApiKey(…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an API key is not written anywhere")


def api_key(api: ApiSection, environment: Mapping[str, str]) -> ApiKey:
    """The key to send: from ``api.key_env``, else the first of ``KEY_VARIABLES`` that is set, else ``api.key_file``.

    The embedded platform needs none. Raises ``ConfigError``, which never repeats a key, where there is none, where it
    could not be sent in a header, and where others may read its file.
    """
    if api.url == "embedded":
        return ApiKey("the-embedded-platform-asks-for-none")
    variables = (api.key_env,) if api.key_env else KEY_VARIABLES
    found = _found(variables, api.key_file, environment)
    if found is None:
        raise ConfigError([f"no API key: set {' or '.join(variables)} in the environment, or api.key_file"])
    return ApiKey(found)


def embedder_access(embedder: EmbedderSection, environment: Mapping[str, str]) -> EmbedderAccess:
    """How the server that embeds prompts is reached, with its key from ``embedder.key_env`` or ``embedder.key_file``.

    The vendor's own key, from ``KEY_VARIABLES``, stands beside it: no other server is ever sent that one unasked.
    Raises ``ConfigError`` as ``api_key`` does, but needs no key where none is named.
    """
    variables = (embedder.key_env,) if embedder.key_env else ()
    key = _found(variables, embedder.key_file, environment)
    if key is None and variables:
        raise ConfigError([f"embedder.key_env: {variables[0]} is not set in the environment"])
    candidates = (environment.get(name, "").strip() for name in KEY_VARIABLES)
    vendor_key = next(filter(None, candidates), "")
    usable = _SENDABLE_KEY.fullmatch(vendor_key)
    return EmbedderAccess(embedder.url, embedder.model, key, vendor_key if usable else None)


def _found(variables: Sequence[str], key_file: str | None, environment: Mapping[str, str]) -> str | None:
    """The key of the first variable that is set, else that of the file; None where neither is there."""
    origin = next((name for name in variables if environment.get(name, "").strip()), None)
    if origin is not None:
        key = environment[origin]
    elif key_file is not None:
        origin, key = key_file, _read_key(Path(key_file))
    else:
        return None
    key = key.strip()
    if not _SENDABLE_KEY.fullmatch(key):
        raise ConfigError([f"{origin}: not an API key: expected 1 to 512 printable ASCII characters without blanks"])
    return key


def _read_key(path: Path) -> str:
    try:
        # Opened before it is looked at, so that both are the same file; a pipe must not keep us waiting.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            mode = os.fstat(descriptor).st_mode
            content = os.read(descriptor, 4096) if stat.S_ISREG(mode) else b""
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError([f"{path}: the API key cannot be read: {reason}"]) from None
    if not stat.S_ISREG(mode):
        raise ConfigError([f"{path}: the API key is not in a regular file"])
    if mode & 0o077:
        raise ConfigError([f"{path}: others can read the API key: chmod 600 {shlex.quote(str(path))}"])
    # Whatever is not ASCII becomes a character that no key may have.
    return content.decode("ascii", errors="replace")
