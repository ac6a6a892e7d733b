"""What a report tells, and where it goes. How it looks and is used: ``test_report_browser``."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import errors
from pipeline.chunks import PostState, VideoState
from pipeline.errors import StorageError, UsageError
from pipeline.failure_codes import MEANINGS
from pipeline.platform.embed import DEFAULT_SPACE
from pipeline.platform.store import Store
from pipeline.report.committed import ClipLine, ScoreLine, committed_rows
from pipeline.report.document import SCRIPTS, _breakable, _prose, document
from pipeline.report.embedded import embedded
from pipeline.report.facts import Facts, FailuresOfCode, facts_of
from pipeline.report.meanings import REASONS
from pipeline.report.pace import Fate, fate_of, posts_of, stretches_of
from pipeline.report.readable import readable
from pipeline.report.tally import BINS, ClassTally, add_clips, chosen, scores_of, tally_of
from pipeline.report.telling import FITTED_SPACE, UNFITTED_CURVE, is_uncalibrated, standing_of, steps_of
from pipeline.report.writing import write_page
from pipeline.rows import SCORES, FailureRow, ScoreRow, encode
from tests.builders import opened, small_run
from tests.platform.made_up import SPACE, track, video
from tests.report.nights import FAILURES as KINDS
from tests.report.nights import Night, make, video_id
from tests.runs import ROOT, Desk

MEGABYTE = 1_000_000
NOW = 1_800_000_000.0


def page_of(folder: Path) -> str:
    return document(facts_of(folder), now=NOW).decode()


def drawn(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="facts">(.*)</script>', page)
    assert found is not None
    content: dict[str, Any] = json.loads(found[1])
    return content


# --------------------------------------------------------------------------------------------------------- the command


async def test_the_page_is_its_owners_alone_and_its_path_is_printed(desk: Desk) -> None:
    make(desk.out, Night(videos=20))
    ended = await desk.command("report", "out")
    assert (ended.exit_code, ended.stdout, ended.stderr) == (0, "out/report.html\n", "")
    assert (desk.out / "report.html").stat().st_mode & 0o777 == 0o600
    again = await desk.command("report", "out", "--to", "elsewhere.html")
    assert (again.exit_code, again.stdout) == (0, "elsewhere.html\n")
    assert (desk.folder / "elsewhere.html").read_text().startswith("<!doctype html>")


async def test_a_run_at_work_is_reported_and_not_disturbed(desk: Desk) -> None:
    """Somebody holds the run, and rows that are not committed stand behind those that are."""
    make(desk.out, Night(videos=20))
    with opened(desk.out), (desk.out / SCORES).open("ab") as file:
        file.write(b'{"video_id":"torn')
        file.flush()
        ended = await desk.command("report", "out")
    assert (ended.exit_code, ended.stderr) == (0, "")
    page = (desk.out / "report.html").read_text()
    assert ">Running<" in page
    assert "torn" not in page


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (
            ("report", "nowhere"),
            2,
            "error: nowhere: not a run directory (it has no run.json); give the --out or output.dir of a run\n",
        ),
        (
            ("report", "out", "--video", "strange"),
            2,
            "error: --video strange: no such video in out; give an id of its input\n",
        ),
        (
            ("report", "out", "--to", "no/such.html"),
            2,
            "error: no/such.html: there is no folder no; make it first, or give another --to\n",
        ),
        (
            ("report", "out", "--to", "out"),
            2,
            "error: out: not a regular file; give the report another name with --to\n",
        ),
        (
            ("report", "out", "--to", f"out/{SCORES}"),
            2,
            f"error: out/{SCORES}: is there already, and is no report; give the report another name with --to\n",
        ),
    ],
)
async def test_what_cannot_be_done_is_one_line(desk: Desk, arguments: tuple[str, ...], code: int, told: str) -> None:
    make(desk.out, Night(videos=20))
    before = (desk.out / SCORES).read_bytes()
    ended = await desk.command(*arguments)
    assert (ended.exit_code, ended.stdout) == (code, "")
    assert ended.stderr == told
    assert (desk.out / SCORES).read_bytes() == before


def test_an_older_report_is_replaced_and_a_link_is_not_followed(tmp_path: Path) -> None:
    page = document(facts_of(make(tmp_path / "run", Night(videos=1))), now=NOW)
    place = tmp_path / "report.html"
    write_page(place, page)
    write_page(place, page + b"\n")
    assert place.read_bytes() == page + b"\n"
    link = tmp_path / "link.html"
    link.symlink_to(place)
    with pytest.raises(UsageError, match="not a regular file"):
        write_page(link, page)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "bytes of committed rows are missing"),
        (b'{"video_id": 5}\n' * 1000, "not the rows that were written"),
        (b"x" * 100_000, "the committed rows end within a line"),
    ],
)
def test_rows_that_are_not_those_that_were_written_end_with_one_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    small_run(tmp_path)
    (tmp_path / SCORES).write_bytes(content)
    with pytest.raises(StorageError, match=message):
        facts_of(tmp_path)


def test_other_commands_do_without_what_only_the_report_needs() -> None:
    """``--help`` and a run start no slower for it."""
    modules = {"jinja2", "markupsafe", "pipeline.report"}
    program = "import sys; import pipeline.cli, pipeline.run, pipeline.status; print(*sys.modules, sep='\\n')"
    told = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert modules.isdisjoint(told.splitlines())


def test_the_wheel_has_every_part_of_the_page(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with ZipFile(wheel) as packed:
        names = {Path(name).name for name in packed.namelist() if name.startswith("pipeline/report/")}
    assert {"page.html", "page.css", *SCRIPTS} <= names
    assert {path.name for path in (ROOT / "pipeline/report").glob("*.js")} == set(SCRIPTS)


# ------------------------------------------------------------------------------------------------------------ the facts


def test_the_facts_of_a_small_run(tmp_path: Path) -> None:
    small_run(tmp_path)
    facts = facts_of(tmp_path)
    assert facts.counts.videos == {
        VideoState.OPEN: 0,
        VideoState.SCORED: 4,
        VideoState.NO_MATCH: 1,
        VideoState.FAILED: 1,
    }
    rows = [json.loads(line) for line in (tmp_path / SCORES).read_bytes().splitlines()]
    assert facts.tally.rows == len(rows)
    # The classes of the job have no row: all of them are of others, which are shown too.
    assert {name: one.videos for name, one in facts.tally.classes.items() if one.videos} == {
        name: sum(row["class_name"] == name for row in rows) for name in {row["class_name"] for row in rows}
    }
    assert {one.video_id: one.state for one in facts.videos} == {
        "a": VideoState.SCORED,
        "b": VideoState.SCORED,
        "c": VideoState.SCORED,
        "f": VideoState.SCORED,
        "d": VideoState.NO_MATCH,
        "e": VideoState.FAILED,
    }
    (failure,) = facts.failures
    assert (failure.code, failure.videos, failure.retryable) == ("video_refused", 1, 1)
    assert failure.examples == {"e is refused": ["e"]}


def test_messages_of_a_code_are_told_once_each_with_some_of_their_videos() -> None:
    failures = FailuresOfCode("video_refused")
    for number in range(20):
        failures.add(
            FailureRow(f"v{number}", "video_refused", f"reason {number % 5}", 400, number < 8, 1, 1, "run", "now")
        )
    assert (failures.videos, failures.retryable, failures.http_statuses) == (20, 8, {400})
    assert failures.examples == {
        "reason 0": ["v0", "v5", "v10"],
        "reason 1": ["v1", "v6", "v11"],
        "reason 2": ["v2", "v7", "v12"],
    }


def test_a_wanted_video_is_shown_whatever_else_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.report.facts.MAX_VIDEOS", 3)
    make(tmp_path, Night(videos=60))
    shown = [one.video_id for one in facts_of(tmp_path).videos]
    assert len(shown) == 3
    missing = next(video_id(number) for number in range(60) if video_id(number) not in shown)
    page = document(facts_of(tmp_path, wanted=[missing]), now=NOW).decode()
    assert drawn(page)["videos"][0]["id"] == missing
    assert "Heat map and timeline hold 3 of 60 settled videos" in page


@pytest.mark.parametrize(
    ("night", "kind", "first_command"),
    [
        (Night(videos=0), "empty", "run CONFIG --out"),
        (Night(videos=5, failed=0, no_match=0), "done", "verify"),
        (Night(videos=5, failed=1), "failures", "retry"),
        (Night(videos=200, open=0.5), "stopped", "resume"),
    ],
)
def test_how_it_stands_and_what_to_type(tmp_path: Path, night: Night, kind: str, first_command: str) -> None:
    facts = facts_of(make(tmp_path, night))
    assert standing_of(facts).kind == kind
    assert steps_of(facts)[0].command == f"bulk-classify {first_command} {tmp_path}"


def test_a_run_that_stopped_says_why(tmp_path: Path) -> None:
    facts = facts_of(make(tmp_path, Night(videos=200, open=0.5, stop_reason="the quota is used up")))
    assert standing_of(facts).explanation.endswith("settled. The quota is used up.")
    facts = facts_of(make(tmp_path / "other", Night(videos=200, open=0.5, stop_reason="limits.max_posts is reached.")))
    assert standing_of(facts).explanation.endswith("settled. limits.max_posts is reached.")


def test_a_start_that_was_refused_says_why(tmp_path: Path) -> None:
    facts = facts_of(make(tmp_path, Night(videos=0, score_source=None, stop_reason="ids.csv:1: not a video id")))
    assert standing_of(facts).explanation == "The run has no videos. ids.csv:1: not a video id."


def test_a_run_that_only_failed_or_was_never_asked_claims_nothing_else(tmp_path: Path) -> None:
    failed = document(facts_of(make(tmp_path / "failed", Night(videos=5, failed=1))), now=NOW).decode()
    assert failed.count("No video has a score.") == 2
    assert "each brought" not in failed
    untouched = document(
        facts_of(make(tmp_path / "open", Night(videos=5, open=1, score_source=None))), now=NOW
    ).decode()
    assert untouched.count("No video has a score yet.") == 2
    assert "No video has been answered yet." in untouched
    assert "What this page leaves out" not in untouched


def test_commands_and_options_in_a_sentence_are_code_and_all_else_is_text() -> None:
    assert _prose("Run `a <b>` with --video <id> or pre--fix.") == (
        "Run <code>a &lt;b&gt;</code> with <code>--video</code> &lt;id&gt; or pre--fix."
    )


def test_words_may_be_broken_behind_underscores() -> None:
    assert _breakable("resource_not_<exist>") == "resource_<wbr>not_<wbr>&lt;exist&gt;"


def test_every_code_of_ours_and_every_reason_is_explained() -> None:
    def leaves(one: type[errors.RequestFailed]) -> set[str]:
        return {one.code}.union(*map(leaves, one.__subclasses__()))

    sources = [
        ast.parse(path.read_text("utf-8")) for path in (ROOT / "pipeline").glob("*.py") if path.stem != "vendor_calls"
    ]
    given_codes = {
        keyword.value.value
        for source in sources
        for call in ast.walk(source)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and issubclass_of_ours(call.func.id)
        for keyword in call.keywords
        if keyword.arg == "code" and isinstance(keyword.value, ast.Constant)
    }
    assert leaves(errors.RequestFailed) | given_codes | {kind.code for kind in KINDS} <= MEANINGS.keys()
    told = re.search(r"`posts_by_reason`.*?by why: (.*) \|", (ROOT / "docs/json.md").read_text("utf-8"))
    assert told is not None
    assert re.findall(r"`(\w+)`", told[1]) == list(REASONS)


def issubclass_of_ours(name: str) -> bool:
    found = getattr(errors, name, None)
    return isinstance(found, type) and issubclass(found, errors.RequestFailed)


def test_an_index_that_nobody_calibrated_is_known_by_its_score_source(tmp_path: Path) -> None:
    assert FITTED_SPACE == DEFAULT_SPACE
    with Store.create(tmp_path / "other.index", "id", "name") as store:
        store.add_videos([video("a", 1.0, track("visual", (0.0, 1.0, [50])))], space=SPACE)
        assert store.score_source() == f"local/{SPACE}/{UNFITTED_CURVE}"
        assert is_uncalibrated(store.score_source())
    assert not is_uncalibrated(f"local/{DEFAULT_SPACE}/{UNFITTED_CURVE}")
    assert not is_uncalibrated("local/other-1/a13-m0.2")
    assert not is_uncalibrated("twelvelabs/v1.2")
    assert not is_uncalibrated(None)


# ------------------------------------------------------------------------------------------------ counting and choosing

_scores = st.lists(
    st.builds(
        ScoreLine,
        st.sampled_from("abcdefgh"),
        st.sampled_from(["one", "two", "else"]),
        st.floats(-10, 110, allow_nan=False),
        st.just(0.5),
    ),
    max_size=40,
)


@given(_scores, st.integers(1, 5))
def test_scores_are_counted_in_bins_and_the_best_are_kept(rows: list[ScoreLine], keep: int) -> None:
    tally = tally_of([rows[:7], rows[7:]], ["one", "two"], keep)
    for name, one in tally.classes.items():
        of_class = [row for row in rows if row.class_name == name]
        bins = [0] * BINS
        for row in of_class:
            bins[min(BINS - 1, max(0, int(row.score // 5)))] += 1
        assert (one.videos, one.bins) == (len(of_class), bins)
        best = sorted(of_class, key=lambda row: -row.score)[:keep]  # a stable sort: the first of equals stays first
        assert one.best_first() == [row.video_id for row in best]
    assert tally.rows == len(rows)


def test_classes_of_the_platforms_own_making_are_bounded() -> None:
    rows = [ScoreLine("a", f"strange {number}", 50, 1) for number in range(200)]
    tally = tally_of([rows], ["one"], 3)
    assert (len(tally.classes), tally.rows_of_others) == (51, 150)


def test_videos_are_chosen_a_class_at_a_time() -> None:
    first = ClassTally(best=[(9.0, -1, "a"), (8.0, -2, "b"), (7.0, -3, "c")])
    second = ClassTally(best=[(3.0, -5, "b"), (2.0, -6, "d")])
    assert chosen(["z"], [first, second], 4) == ["z", "a", "b", "d"]
    assert chosen([], [first, second], 10) == ["a", "b", "d", "c"]


def test_of_many_clips_the_best_are_kept_in_the_order_of_time() -> None:
    found = scores_of(["a"], [[ScoreLine("a", "one", 5, 1), ScoreLine("b", "one", 5, 1)]])
    clips = [ClipLine("a", "one", float(n), n + 1.0, float(n * 7 % 10), "visual", "p") for n in range(10)]
    add_clips(found, [clips[:3], clips[3:]], 3)
    kept = [(clip.start_seconds, clip.score) for clip in found["a"].clips]
    assert kept == [(1.0, 7.0), (4.0, 8.0), (7.0, 9.0)]
    assert (list(found), found["a"].clips_left_out) == (["a"], 7)


@given(st.lists(st.text(max_size=5), max_size=20), st.integers(1, 60))
def test_committed_rows_come_whole_whatever_the_size_of_a_block(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], block_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("rows") / SCORES
    rows = [ScoreRow("v", name, 1.5, 0.5, None, None, None, None, 1, "r", "t") for name in names]
    content = b"".join(map(encode, rows))
    path.write_bytes(content + b'{"video_id":"torn')
    read = [
        row.class_name
        for some in committed_rows(path, len(content), ScoreLine, block_bytes=block_bytes)
        for row in some
    ]
    assert read == names


@given(
    st.lists(
        st.tuples(st.floats(0, 4e9), st.sampled_from(PostState), st.sampled_from([None, 200, 429, 503])),
        max_size=60,
    )
)
def test_every_post_that_left_is_in_one_bar_of_one_stretch(made: list[tuple[float, PostState, int | None]]) -> None:
    posts = posts_of(sorted(made, key=lambda one: one[0]))
    left = [fate_of(state, status) for _, state, status in made if state is not PostState.NOT_SENT]
    stretches = stretches_of(posts)
    assert len(posts.fates) == len(left)
    assert [one.before for one in stretches] == [
        len(left) - sum(s.posts for s in stretches[: n + 1]) for n, one in enumerate(stretches)
    ]
    for one in stretches:
        assert sum(sum(bar[1:]) for bar in one.bars) == one.posts
        assert min(bar[0] for bar in one.bars) >= 0
        assert max(bar[0] for bar in one.bars) <= 73
    if len(stretches) < 14:
        totals = [sum(bar[1 + fate] for one in stretches for bar in one.bars) for fate in Fate]
        assert totals == [left.count(fate) for fate in Fate]


# -------------------------------------------------------------------------------------------------------- hostile names


def test_what_nobody_sees_or_turns_the_writing_is_shown_as_its_code() -> None:
    assert readable("a\u202eb\u200bc\x07d", 100) == "a[U+202E]b[U+200B]c[U+0007]d"
    family = "👩\u200d👩\u200d👧 é 日本 שלום"
    assert readable(family, 100) == family
    assert readable("x" * 1000, 5) == "xxxxx… (1,000 characters)"


NASTY = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "<!--",
    "]]>",
    "a\u2028b",
    "&lt;",
    "{{ 7 * 7 }}",
)


@pytest.fixture(scope="module")
def few_videos(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    return facts_of(make(tmp_path_factory.mktemp("few"), Night(videos=2)))


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(str.strip), min_size=1, unique=True
    )
)
def test_no_text_ends_the_element_that_it_stands_in(few_videos: Facts, names: list[str]) -> None:
    classes = list(dict.fromkeys((*names, *NASTY)))
    text = embedded(replace(few_videos, classes=classes, tally=tally_of([], classes, 1), videos=[]))
    assert not set(text) & {"<", ">", "&", "\u2028", "\u2029"}
    assert [one["name"] for one in json.loads(text)["classes"]] == [readable(name, 120) for name in classes]


def test_a_page_of_everything_at_its_most_stays_small(tmp_path: Path) -> None:
    """Five hundred classes of the longest names, and as many matches and clips as there may be."""
    night = Night(videos=180, classes=tuple(f"{n}{'😀' * 200}" for n in range(500)), matches=60, clips=1, failed=0.02)
    page = document(facts_of(make(tmp_path, night)), now=NOW)
    assert len(page) < 5 * MEGABYTE
    assert len(drawn(page.decode())["videos"]) == 160
