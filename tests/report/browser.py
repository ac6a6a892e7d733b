"""The system's Chromium, driven by Playwright, as an attentive reader: what a page says, asks for, and complains of."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, expect, sync_playwright

_NAMES = (
    "/usr/lib/chromium/chromium",  # Debian's: the script of this name in /usr/bin prints what is not ours to hear
    "chromium",
    "chromium-browser",
    "google-chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
# For a machine that is busy with other things; nobody waits so long for one that is not.
_PATIENCE_MILLISECONDS = 120_000


def chromium_path() -> str:
    """Where the browser is. The tests need it, so it is an error where there is none."""
    for name in _NAMES:
        if found := shutil.which(name):
            return found
    raise FileNotFoundError("there is no Chromium: `scripts/environment dev` installs it as root on Debian and Ubuntu")


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser without a window."""
    expect.set_options(timeout=_PATIENCE_MILLISECONDS)  # its own is 5 seconds, whatever a page's is
    with sync_playwright() as playwright:
        # Without its sandbox, which root and most containers cannot have: the pages are our own. And without /dev/shm,
        # of which containers have little.
        chromium = playwright.chromium.launch(
            executable_path=chromium_path(),
            args=["--no-sandbox", "--disable-dev-shm-usage"],
            timeout=_PATIENCE_MILLISECONDS,
        )
        yield chromium
        chromium.close()


@dataclass
class Reader:
    """A page of a browser, and what it was heard to say."""

    page: Page
    said: list[str] = field(default_factory=list)
    """Console messages of any level, and exceptions."""
    asked_for: list[str] = field(default_factory=list)
    """URLs that the page asked for, without itself."""


@contextmanager
def reading(
    chromium: Browser,
    path: Path,
    *,
    width: int = 1280,
    height: int = 900,
    scheme: Literal["light", "dark"] = "light",
) -> Iterator[Reader]:
    """A file open in a window of this size, and drawn."""
    context = chromium.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, timezone_id="UTC")
    context.set_default_timeout(_PATIENCE_MILLISECONDS)
    try:
        reader = Reader(context.new_page())
        url = path.absolute().as_uri()
        reader.page.on("console", lambda message: reader.said.append(f"{message.type}: {message.text}"))
        reader.page.on("pageerror", lambda error: reader.said.append(f"exception: {error}"))
        reader.page.on("request", lambda one: reader.asked_for.append(one.url) if one.url != url else None)
        reader.page.goto(url, wait_until="load")
        yield reader
    finally:
        context.close()
