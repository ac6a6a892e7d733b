"""The documentation as a site: built as ``scripts/docs`` builds it, and looked at as a browser would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.pages import PAGES, ROOT


class Read(HTMLParser):
    """What a page links to, what it loads, and the places in it that can be linked to."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.places: set[str] = set()
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value for name, value in attributes if value is not None}
        self.places |= {found[name] for name in ("id", "name") if name in found}
        (self.links if tag == "a" else self.loaded).update(found[name] for name in ("href", "src") if name in found)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [ROOT / "scripts/docs", folder], env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{folder}/index.html\n"
    return folder


def inside(site: Path) -> Iterator[tuple[Path, Read]]:
    yield from ((page, Read(page)) for page in sorted(site.rglob("*.html")))


def test_each_page_is_part_of_the_site(site: Path) -> None:
    built = {page.relative_to(site).with_suffix("") for page, _ in inside(site)}

    assert {page.relative_to(ROOT).with_suffix("") for page in PAGES} <= built


def test_every_link_within_the_site_leads_to_a_place_that_is_there(site: Path) -> None:
    pages = dict(inside(site))
    for page, read in pages.items():
        for link in read.links | read.loaded:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            assert target.exists(), f"{page.name}: {link}"
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].places, f"{page.name}: {link}"


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    elsewhere = [(page.name, one) for page, read in inside(site) for one in read.loaded if urlsplit(one).netloc]
    styles = [
        path.name for path in site.rglob("*.css") if re.search(r"(url\(|@import)\W*(https?:)?//", path.read_text())
    ]

    assert elsewhere == []
    assert styles == []
