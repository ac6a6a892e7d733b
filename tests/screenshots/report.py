"""Pictures of the report: of the quickstart, and of a night with a bit of everything; by day, by night, on a phone."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser

from pipeline.report.document import document
from pipeline.report.facts import facts_of
from tests.report.browser import browser, reading
from tests.report.nights import Night, make
from tests.runs import ROOT

_LOOKS: tuple[tuple[str, int, Literal["light", "dark"]], ...] = (
    ("light", 1280, "light"),
    ("dark", 1280, "dark"),
    ("narrow", 400, "light"),
)


def pictures(folder: Path) -> Iterator[Path]:
    """Make the pictures; the path of each."""
    runs = {"quickstart": _quickstart(folder), "night": make(folder / "runs/night", Night(videos=3000, open=0.1))}
    with browser() as chromium:
        for name, run in runs.items():
            page = folder / f"report-{name}.html"
            page.write_bytes(document(facts_of(run), now=time.time()))
            for look, width, scheme in _LOOKS:
                yield _whole(chromium, page, folder / f"report-{name}-{look}.png", width, scheme)
        yield _for_the_readme(chromium, folder / "report-quickstart.html", folder / "report.png")


def _quickstart(folder: Path) -> Path:
    run = folder / "runs/quickstart"
    command = [sys.executable, "-m", "pipeline", "run", "configs/quickstart.toml", "--out", str(run), "--quiet"]
    subprocess.run(command, cwd=ROOT, check=True)
    return run


def _whole(chromium: Browser, page: Path, picture: Path, width: int, scheme: Literal["light", "dark"]) -> Path:
    with reading(chromium, page, width=width, scheme=scheme) as reader:
        reader.page.screenshot(path=picture, full_page=True)
    return picture


def _for_the_readme(chromium: Browser, page: Path, picture: Path) -> Path:
    """The classes and the heat map: what a README has room for."""
    with reading(chromium, page, width=1100, height=1130) as reader:
        reader.page.locator("#classes").scroll_into_view_if_needed()
        reader.page.evaluate("document.getElementById('classes').scrollIntoView()")
        reader.page.screenshot(path=picture)
    return picture
