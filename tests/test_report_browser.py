"""The report in a real Chromium: nothing is complained of, nothing is fetched, all of it can be used and heard.

One browser for the module. Playwright's own loop runs in this thread meanwhile, so no test here is asynchronous.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, expect

from pipeline.failure_codes import MEANINGS
from pipeline.models import Failure
from pipeline.report.document import document
from pipeline.report.facts import facts_of
from pipeline.rundir import held
from tests.report.browser import Reader, browser, reading
from tests.report.nights import Night, make
from tests.runs import ROOT

NOW = 1_800_000_000.0
NASTY = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "\u202egnp.exe",
    "👩\u200d👩\u200d👧 dance 🎉",
    "שלום עולם",
    "W" * 300,
    "&amp; \"quoted\" 'name'",
    "__proto__",
)
NIGHTS = {
    "usual": Night(videos=120),
    "empty": Night(videos=0, score_source=None),
    "only failures": Night(videos=12, failed=1.0),
    "no match": Night(videos=12, failed=0.0, no_match=1.0),
    "one video": Night(videos=1, failed=0.0, no_match=0.0),
    "half way": Night(videos=150, open=0.5, stop_reason="the quota is used up <b>today</b>"),
    "no clips": Night(videos=30, include_clips=False),
    "nasty": Night(videos=400, classes=NASTY, open=0.2, score_source="local/other-512/a20-m0.129"),
    "500 classes": Night(videos=60, classes=tuple(f"class {number:03}" for number in range(500)), matches=40),
}
LONG_CODES = (
    Failure("", "internal_embedding_space_dimension_mismatch_error", "a_message_with_" * 12 + "x" * 300, 400),
    Failure("", "parameter_invalid", "HTTP 400 (parameter_invalid: https://example.com/" + "path/" * 30 + ")", 400),
    *(Failure("", code, f"{code}: again", 503) for code in MEANINGS),
)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as one:
        yield one


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """axe-core, a checker of accessibility, as the lock file names it."""
    folder = tmp_path_factory.mktemp("axe")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(ROOT / "tests/report" / name, folder)
    done = subprocess.run(
        ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return (folder / "node_modules/axe-core/axe.min.js").read_text("utf-8")


def page_of(folder: Path, night: Night) -> Path:
    """The page of a night, made in the folder."""
    run = make(folder / "run", night)
    page = folder / "report.html"
    page.write_bytes(document(facts_of(run), now=NOW))
    return page


def columns(reader: Reader, name: str) -> list[float]:
    """The scores that the heat map shows in a column, from top to bottom; -1 for none."""
    heads = [head.strip(" ▲▼") for head in reader.page.locator(".heat thead th").all_inner_texts()]
    cells = reader.page.locator(f".heat tbody tr > :nth-child({heads.index(name) + 1})").all_inner_texts()
    return [float(cell) if cell.strip().isdigit() else -1.0 for cell in cells]


@pytest.mark.parametrize("name", NIGHTS)
def test_nothing_is_complained_of_or_fetched_and_everything_fits(name: str, chromium: Browser, tmp_path: Path) -> None:
    """On a desk by day, on a phone by night."""
    page = page_of(tmp_path, NIGHTS[name])
    for width, scheme in zip((1280, 360), SCHEMES, strict=True):
        with reading(chromium, page, width=width, scheme=scheme) as reader:
            assert reader.page.evaluate("document.documentElement.scrollWidth") <= width
            assert (reader.said, reader.asked_for) == ([], [])


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 400)])
def test_axe_finds_nothing(
    scheme: Literal["light", "dark"], width: int, chromium: Browser, axe: str, tmp_path: Path
) -> None:
    """A page with something in every place, contrast included."""
    with reading(chromium, page_of(tmp_path, NIGHTS["nasty"]), width=width, scheme=scheme) as reader:
        assert faults(reader, axe) == []


def faults(reader: Reader, axe: str) -> list[str]:
    """What axe finds against WCAG 2.2 AA and its own best practices, a line for each kind and place."""
    reader.page.evaluate(axe)
    found: dict[str, Any] = reader.page.evaluate("axe.run({resultTypes: ['violations']})")
    return [f"{one['id']}: {node['html'][:200]}" for one in found["violations"] for node in one["nodes"]]


def test_every_control_and_picture_has_a_name(chromium: Browser, tmp_path: Path) -> None:
    """As a screen reader is told: the browser's own tree of accessibility."""
    with reading(chromium, page_of(tmp_path, NIGHTS["500 classes"])) as reader:
        session = reader.page.context.new_cdp_session(reader.page)
        nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    wanted = {"button", "combobox", "searchbox", "slider", "image", "table", "region", "link", "navigation"}
    told: dict[str, list[str]] = {}
    for node in nodes:
        role = node.get("role", {}).get("value")
        if role in wanted and not node.get("ignored"):
            told.setdefault(role, []).append(node.get("name", {}).get("value", ""))
    assert told.keys() == wanted
    assert [(role, name) for role, names in told.items() for name in names if not name.strip()] == []


def breaks(reader: Reader) -> list[str]:
    """The codes of the failures as they stand in lines, a bar for each break."""
    told: list[str] = reader.page.evaluate(
        """() => [...document.querySelectorAll("table.failures th code")].map((code) => {
            let shown = "", top = null;
            for (const text of code.childNodes) {
                for (let place = 0; place < (text.length ?? 0); place++) {
                    const range = document.createRange();
                    range.setStart(text, place);
                    range.setEnd(text, place + 1);
                    const line = range.getBoundingClientRect().top;
                    shown += (top !== null && line > top ? "|" : "") + text.data[place];
                    top = line;
                }
            }
            return shown;
        })"""
    )
    return told


@pytest.mark.parametrize("width", [360, 400, 800, 1400])
def test_failures_are_all_in_view_and_codes_are_broken_behind_underscores_only(
    width: int, chromium: Browser, tmp_path: Path
) -> None:
    """Nothing is wider than the window, nothing in the table has to be scrolled to."""
    page = page_of(tmp_path, Night(videos=600, failed=1.0, failures=LONG_CODES))
    with reading(chromium, page, width=width) as reader:
        shown = breaks(reader)
        assert {"internal_embedding_space_dimension_mismatch_error", "parameter_invalid", "resource_not_exist"} <= {
            code.replace("|", "") for code in shown
        }
        assert [code for code in shown if code.replace("_|", "").count("|")] == []
        assert reader.page.evaluate("document.documentElement.scrollWidth") <= width
        hidden = "(one) => one.scrollWidth - one.clientWidth"
        assert reader.page.locator(".scroll:has(table.failures)").evaluate(hidden) == 0
        outside = """[...document.querySelectorAll("table.failures :is(th, td) *")]
            .filter((one) => one.getClientRects().length && one.getBoundingClientRect().right > innerWidth)
            .map((one) => one.textContent)"""
        assert reader.page.evaluate(outside) == []


def test_the_two_schemes_differ(chromium: Browser, tmp_path: Path) -> None:
    page = page_of(tmp_path, NIGHTS["one video"])
    grounds = []
    for scheme in SCHEMES:
        with reading(chromium, page, scheme=scheme) as reader:
            grounds.append(reader.page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert grounds == ["rgb(255, 255, 255)", "rgb(16, 21, 28)"]


def test_on_paper_everything_is_light_and_controls_are_gone(chromium: Browser, tmp_path: Path) -> None:
    with reading(chromium, page_of(tmp_path, NIGHTS["usual"]), scheme="dark") as reader:
        reader.page.emulate_media(media="print", color_scheme="dark")
        assert reader.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        expect(reader.page.locator("nav")).to_be_hidden()
        expect(reader.page.locator("#class-controls")).to_be_hidden()


# ------------------------------------------------------------------------------------------------------- hostile names


def test_names_that_are_markup_stay_text(chromium: Browser, tmp_path: Path) -> None:
    with reading(chromium, page_of(tmp_path, NIGHTS["nasty"])) as reader:
        names = reader.page.locator("#class-cards figcaption .name").all_inner_texts()
        assert names == [
            "<script>alert(1)</script>",
            "</script><img src=x onerror=alert(1)>",
            "[U+202E]gnp.exe",
            "👩\u200d👩\u200d👧 dance 🎉",
            "שלום עולם",
            "W" * 120 + "… (300 characters)",
            "&amp; \"quoted\" 'name'",
            "__proto__",
        ]
        assert reader.page.locator("img").count() == 0
        assert reader.page.locator("script").count() == 2
        assert (reader.said, reader.asked_for) == ([], [])


def test_what_gets_into_the_page_all_the_same_may_neither_run_nor_fetch(chromium: Browser, tmp_path: Path) -> None:
    """The content security policy, tried: an address on this machine hears of no request."""
    asked: list[str] = []

    class Heard(BaseHTTPRequestHandler):
        def handle(self) -> None:
            if line := self.rfile.readline():  # a frame that is refused has connected already, and says nothing
                asked.append(line.decode())

    with (
        ThreadingHTTPServer(("127.0.0.1", 0), Heard) as heard,
        reading(chromium, page_of(tmp_path, NIGHTS["one video"])) as reader,
    ):
        threading.Thread(target=heard.serve_forever, daemon=True).start()  # a failure must not hang the tests
        url = f"http://127.0.0.1:{heard.server_port}"
        tried = reader.page.evaluate(
            """async (url) => {
                const refused = [];
                document.addEventListener("securitypolicyviolation", (one) => refused.push(one.effectiveDirective));
                const add = (name, values) => document.body.append(Object.assign(document.createElement(name), values));
                add("img", { src: url + "/picture" });
                add("iframe", { src: url + "/frame" });
                add("link", { rel: "stylesheet", href: url + "/style" });
                add("style", { textContent: "body { color: red }" });
                const script = document.createElement("script");
                try { script.textContent = "window.ran = true"; } catch (error) { refused.push("assigned"); }
                document.body.append(script);
                await fetch(url + "/fetch").catch(() => refused.push("fetched"));
                try { document.body.innerHTML = "<b>x</b>"; } catch (error) { refused.push("parsed"); }
                await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
                return [refused, window.ran === undefined];
            }""",
            url,
        )
        reader.page.context.close()  # and with it every connection
        heard.shutdown()
    refused, has_not_run = tried
    assert asked == []
    assert has_not_run
    assert {"img-src", "style-src-elem", "connect-src", "assigned", "fetched", "parsed"} <= set(refused)


# ------------------------------------------------------------------------------------------------------------- by hand


def test_the_heat_map_is_reached_and_sorted_by_the_keyboard(chromium: Browser, tmp_path: Path) -> None:
    with reading(chromium, page_of(tmp_path, NIGHTS["usual"])) as reader:
        page = reader.page
        page.locator("#heat-map").scroll_into_view_if_needed()
        reached = False
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.dataset.column") == "1":
                reached = True
                break
        assert reached
        head = page.locator('.heat th:has(button[data-column="1"])')
        page.keyboard.press("Enter")
        expect(head).to_have_attribute("aria-sort", "descending")
        shown = columns(reader, "CookTok")
        assert shown == sorted(shown, reverse=True)
        assert len(shown) == 25
        assert shown[0] > 0
        assert page.evaluate("document.activeElement.dataset.column") == "1", "focus stays where it was"
        page.keyboard.press("Space")
        expect(head).to_have_attribute("aria-sort", "ascending")
        page.get_by_role("button", name="More videos").click()
        shown = columns(reader, "CookTok")
        assert (len(shown), shown) == (50, sorted(shown))
        assert (reader.said, reader.asked_for) == ([], [])


def test_the_cut_is_moved_by_the_keyboard_and_counts_are_exact(chromium: Browser, tmp_path: Path) -> None:
    run = make(tmp_path / "run", NIGHTS["usual"])
    page = tmp_path / "report.html"
    facts = facts_of(run)
    page.write_bytes(document(facts, now=NOW))
    with reading(chromium, page) as reader:
        cut = reader.page.get_by_role("slider", name="Cut at score")
        cut.focus()
        for _ in range(5):
            reader.page.keyboard.press("ArrowLeft")
        expect(cut).to_have_value("50")
        tally = facts.tally.classes["DanceTok"]
        kept = sum(tally.bins[10:])
        line = reader.page.locator("#class-cards .line").first
        expect(line).to_have_text(f"{tally.videos} videos; {kept} ({round(100 * kept / tally.videos)} %) at 50+")


def test_any_of_many_classes_is_found_by_its_name(chromium: Browser, tmp_path: Path) -> None:
    with reading(chromium, page_of(tmp_path, NIGHTS["500 classes"])) as reader:
        page = reader.page
        expect(page.locator("#class-cards .card")).to_have_count(12)
        page.locator("#class-controls").get_by_role("searchbox").fill("499")
        expect(page.locator("#class-cards .card")).to_have_count(1)
        page.locator("#class-controls").get_by_role("searchbox").fill("")
        page.get_by_role("button", name="Show all 500 classes").click()
        expect(page.locator("#class-cards .card")).to_have_count(500)
        page.get_by_role("button", name="Next classes").click()
        expect(page.locator("#heat-table [role=status]")).to_contain_text("classes 13 to 24 of 500")
        page.locator("#heat-controls").get_by_role("searchbox").fill("class 123")
        expect(page.locator(".heat thead th")).to_have_text(["video", "best ▼", "class 123"])
        assert (reader.said, reader.asked_for) == ([], [])


def test_a_video_is_looked_up_and_its_clips_are_listed(chromium: Browser, tmp_path: Path) -> None:
    run = make(tmp_path / "run", NIGHTS["usual"])
    facts = facts_of(run)
    page_path = tmp_path / "report.html"
    page_path.write_bytes(document(facts, now=NOW))
    scored = [one for one in facts.videos if len(one.found.clips) > 2]
    silent = next(one for one in facts.videos if one.state.name == "NO_MATCH")
    with reading(chromium, page_path) as reader:
        page = reader.page
        search = page.locator("#timeline-controls").get_by_role("combobox")
        search.fill(scored[-1].video_id)
        search.press("Enter")
        expect(page.locator("#timeline-picture h3 code")).to_have_text(scored[-1].video_id)
        clips = page.get_by_role("region", name=f"Clips of {scored[-1].video_id}").locator("tbody tr")
        expect(clips).to_have_count(len(scored[-1].found.clips))
        expect(clips.first).to_contain_text(scored[-1].found.clips[0].prompt)
        expect(page.locator("#timeline-picture rect")).to_have_count(len(scored[-1].found.clips))
        search.fill(silent.video_id)
        search.press("Enter")
        expect(page.locator("#timeline-picture h3")).to_contain_text("answered, but reaches no class's thresholds")
        search.fill("<b>who</b>")
        search.press("Enter")
        expect(page.locator("#timeline-picture")).to_contain_text("does not hold the clips of <b>who</b>")
        row = page.locator(".heat tbody th button").nth(3)
        chosen = row.inner_text()
        row.click()
        expect(page.locator("#timeline-picture h3 code")).to_have_text(chosen)
        expect(search).to_be_focused()
        assert (reader.said, reader.asked_for) == ([], [])


def test_a_run_at_work_says_so(chromium: Browser, tmp_path: Path) -> None:
    run = make(tmp_path / "run", NIGHTS["half way"])
    page = tmp_path / "report.html"
    with held(run):
        page.write_bytes(document(facts_of(run), now=NOW))
    with reading(chromium, page) as reader:
        expect(reader.page.locator(".badge")).to_have_text("Running")
        expect(reader.page.locator(".steps code").first).to_have_text(re.compile("^bulk-classify status "))
        assert reader.said == []


def test_posts_and_numbers_behind_the_pictures_agree(chromium: Browser, tmp_path: Path) -> None:
    run = make(tmp_path / "run", Night(videos=3000))
    facts = facts_of(run)
    page_path = tmp_path / "report.html"
    page_path.write_bytes(document(facts, now=NOW))
    with reading(chromium, page_path) as reader:
        reader.page.locator("#pace-picture summary").click()
        cells = reader.page.get_by_role("region", name="POSTs over time").locator("td").all_inner_texts()
        assert sum(map(int, cells)) == len(facts.posts.moments)
        expect(reader.page.locator(".level-text").first).to_contain_text(f"planned: {facts.posts_planned}")
