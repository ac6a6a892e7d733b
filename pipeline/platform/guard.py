"""Who may ask: the key, and where a request says it comes from.

A web page in the user's browser can reach a server on loopback, by its own origin or by a name that it lets resolve to
127.0.0.1. Such a request carries the page's name in ``Origin`` or ``Host``, so only names of this server pass. Bound to
every address the server has names that it cannot know; then the key alone guards it, and there must be one.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Whether a host name or address (without port or brackets) can only be reached from this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_foreign(hosts: Iterable[str], origins: Iterable[str], bound_host: str) -> bool:
    """Whether a ``Host`` or ``Origin`` header names anything but this server."""
    if _is_every_address(bound_host):
        return False
    named = [*(_hostname(f"//{host}") for host in hosts), *(_hostname(origin) for origin in origins)]
    return not all(name and (is_loopback(name) or name == bound_host.lower()) for name in named)


def key_passes(presented: str, expected: str | None) -> bool:
    """Whether the key is the expected one, compared in constant time; where none is expected, any but the empty one."""
    if expected is None:
        return bool(presented)
    return hmac.compare_digest(presented.encode("utf-8", "surrogateescape"), expected.encode())


def _is_every_address(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
