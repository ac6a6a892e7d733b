"""How the pages become a site: read by Sphinx, which ``scripts/docs`` starts on the whole checkout.

The pages are plain Markdown and read as well where a repository is shown, so nothing in them is for Sphinx alone: the
sidebar is made from the lists in docs/README.md. A page that none of them names is a warning, and warnings fail the
build.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from pygments.lexers import JsonLexer, TextLexer
from sphinx.application import Sphinx
from sphinx.highlighting import lexers

from pipeline import __version__

project = "bulk-classify"
version = release = __version__
html_title = f"{project} {release}"

extensions = ["myst_parser"]
include_patterns = ["README.md", "CHANGELOG.md", "benchmarks/README.md", "docs/*.md"]
root_doc = "README"
myst_heading_anchors = 4
smartquotes = False  # they would make a dash of the beginning of an option
nitpicky = True

html_theme = "furo"
html_theme_options: dict[str, object] = {"top_of_page_buttons": []}  # they would lead to a host of sources
html_copy_source = False
html_show_copyright = False
html_use_index = False

# Pygments does not know them.
lexers.update(ndjson=JsonLexer(), csv=TextLexer(), srt=TextLexer(), crontab=TextLexer())

_CONTENTS = "docs/README"


def _add_sidebar(app: Sphinx, page: str, source: list[str]) -> None:
    """Give the first page the contents that docs/README.md lists."""
    if page != root_doc:
        return
    contents = (Path(app.srcdir) / _CONTENTS).with_suffix(".md").read_text(encoding="utf-8")
    source[0] += _tree([_CONTENTS])
    for caption, section in re.findall(r"^## (.+)\n((?:(?!^## ).*\n)*)", contents, re.MULTILINE):
        listed = re.findall(r"^- \[.+?\]\((\S+)\.md\)", section, re.MULTILINE)
        pages = [posixpath.normpath(f"{_CONTENTS}/../{name}") for name in listed]
        source[0] += _tree(pages, f":caption: {caption}")


def _tree(pages: list[str], *options: str) -> str:
    return "\n".join(["\n```{toctree}", ":hidden:", *options, "", *(f"/{page}" for page in pages), "```\n"])


def _copy_first_page(app: Sphinx, failure: Exception | None) -> None:
    """Let a server that is asked for the folder answer with the first page."""
    if failure is None:
        first = Path(app.outdir) / f"{root_doc}.html"
        first.with_name("index.html").write_bytes(first.read_bytes())


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _add_sidebar)
    app.connect("build-finished", _copy_first_page)


# Queries of DuckDB and models of dbt have more than SQL has.
suppress_warnings = ["misc.highlighting_failure"]
