"""The configuration: precedence, every mistake with its line, paths, class files, the frozen copy and the API key."""

from __future__ import annotations

import contextlib
import copy
import datetime
import json
import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from pipeline import config_keys
from pipeline.config import (
    ApiSection,
    Config,
    api_key,
    embedder_access,
    freeze,
    job_of,
    load,
    page_limit_of,
    parse_set,
    thaw,
    warnings_of,
)
from pipeline.config_keys import KEYS, TARIFFS, ClassSection, EmbedderSection
from pipeline.errors import ConfigError
from pipeline.models import Job, JobClass, Threshold
from pipeline.platform.access import EmbedderAccess

DOCUMENT = Path(__file__).parent.parent / "docs" / "configuration.md"
TEXT = "a text that is not blank and has no control characters"
OPTIONS = '"conversation", "logo", "text_in_video" or "visual"'
PROMPTS = f"a list of 1 to 100 entries, each {TEXT}"
TABLE = 'a table with "name", "prompts", "options", "conversation_option"'
SOME_OPTIONS = f"a list of at least one entry, each {OPTIONS}"
IN_THE_CLEAR = "api.url: https only, except to localhost, 127.0.0.1, [::1]: the API key would travel in the clear"
NOT_JSON = "not valid JSON: nested too deeply, or a number too long"
NEVER = (
    "an API key never goes into a file, a setting or a command line: take it out, rotate it, "
    "and set TWELVELABS_API_KEY in the environment (or api.key_env, or api.key_file)"
)
URL_EXPECTED = (
    'expected "embedded" or a base URL such as https://api.twelvelabs.io/v1.2, '
    "without user, password, query and fragment"
)
MINIMAL = """
[job]
options = ["visual"]
classes = [{name = "DanceTok", prompts = ["Dance tutorial", "Dance group"]}]
[input]
ids = ["ids.txt"]
"""
CLASSES_FILE = """
[job]
options = ["visual"]
classes_file = "{}"
[input]
ids = ["ids.txt"]
"""


@pytest.fixture(autouse=True)
def _in_its_own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("night.toml").write_text(MINIMAL)


def loaded(flags: Mapping[str, object] | None = None, environment: Mapping[str, str] | None = None) -> Config:
    return load(Path("night.toml"), flags=flags or {}, environment=environment or {}).config


def problems(toml: str = "", flags: Mapping[str, object] | None = None, **environment: str) -> list[str]:
    """The lines that ``night.toml`` is refused with: the minimal file, then ``toml``; or a file of its own."""
    Path("night.toml").write_text(toml if "[job]" in toml else MINIMAL + toml)
    with pytest.raises(ConfigError) as caught:
        loaded(flags, environment)
    return list(caught.value.problems)


def job_file(*lines: str) -> str:
    return "\n".join(['[job]\noptions = ["visual"]', *lines])


def problems_of_classes(name: str, content: str | bytes) -> list[str]:
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    here = f"{Path.cwd()}/"
    return [line.replace(here, "") for line in problems(CLASSES_FILE.format(name))]


# ---------------------------------------------------------------------------------------------- a good configuration


def test_a_minimal_file_gets_every_default(tmp_path: Path) -> None:
    assert loaded() == Config(
        name="night",
        job=config_keys.JobSection(
            options=("visual",), classes=(ClassSection(name="DanceTok", prompts=("Dance tutorial", "Dance group")),)
        ),
        input=config_keys.InputSection(ids=(f"{tmp_path}/ids.txt",)),
        output=config_keys.OutputSection(dir=f"{tmp_path}/runs/night"),
    )


def test_flags_alone_make_a_configuration() -> None:
    flags = {"job.options": ["visual"], "job.classes": [{"name": "a", "prompts": ["b"]}], "input.index_id": "i"}
    config = load(None, flags=flags, environment={}).config
    assert (config.name, config.input.index_id) == ("run", "i")


def test_job_of_is_the_job_and_nothing_else() -> None:
    flags = {
        "job.classes": [
            {"name": "a", "prompts": ["b"], "options": ["conversation"], "conversation_option": "semantic"}
        ],
        "job.conversation_option": "exact_match",
        "job.include_clips": True,
        "job.show_detailed_score": True,
        "job.threshold.min_video_score": 1,
    }
    assert job_of(loaded(flags)) == Job(
        classes=(JobClass("a", ("b",), ("conversation",), "semantic"),),
        options=("visual",),
        conversation_option="exact_match",
        include_clips=True,
        show_detailed_score=True,
        threshold=Threshold(1.0, None, None),
    )


@pytest.mark.parametrize(
    ("flags", "limit"),
    [({}, 50), ({"job.include_clips": True}, 10), ({"job.include_clips": True, "job.page_limit": 33}, 33)],
)
def test_pages_are_small_only_with_clips(flags: dict[str, object], limit: int) -> None:
    assert page_limit_of(loaded(flags)) == limit


def test_thresholds_left_to_the_platform_are_warned_of() -> None:
    flags = {"job.threshold.min_video_score": 1, "job.threshold.min_duration_ratio": 0.01}
    assert warnings_of(loaded(flags)) == [
        "job.threshold.min_clip_score is not set: the platform's default of 30 hides most rows; say what you want"
    ]


# ------------------------------------------------------------------------------------------------------- precedence


def test_flags_win_over_environment_over_file_over_default() -> None:
    Path("night.toml").write_text(MINIMAL + "[limits]\nconcurrency = 2\nmax_posts = 2\nmax_bisect_posts = 2\n")
    environment = {"BULK_CLASSIFY_LIMITS__CONCURRENCY": "3", "BULK_CLASSIFY_LIMITS__MAX_POSTS": "3"}
    result = load(Path("night.toml"), flags={"limits.concurrency": 4, "--api-url": None}, environment=environment)
    limits = result.config.limits
    assert (limits.concurrency, limits.max_posts, limits.max_bisect_posts, limits.max_unknown_posts) == (4, 3, 2, 3)
    assert [result.origins[f"limits.{key}"] for key in ("concurrency", "max_posts", "max_bisect_posts")] == [
        "--set",
        "BULK_CLASSIFY_LIMITS__MAX_POSTS",
        "night.toml",
    ]
    assert result.origins["limits.max_unknown_posts"] == "default"
    assert result.origins.keys() == KEYS.keys()


def test_an_option_of_the_command_line_is_named_as_it_was_typed() -> None:
    flags = {"--ids": ("a.txt",), "--out": "there", "--api-url": "http://localhost:8000"}
    origins = load(Path("night.toml"), flags=flags, environment={}).origins
    assert (origins["input.ids"], origins["output.dir"], origins["api.url"]) == ("--ids", "--out", "--api-url")


def test_an_option_that_was_not_used_changes_nothing() -> None:
    assert loaded({"--ids": (), "--out": None, "--api-url": None}) == loaded()


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("http://localhost:8000", "http://localhost:8000/v1.2"),
        ("https://example.com/proxy/", "https://example.com/proxy/v1.2"),
        ("https://example.com/v1.1", "https://example.com/v1.1"),
    ],
)
def test_the_sdks_variable_gives_the_url_and_its_version(base: str, url: str) -> None:
    assert loaded(environment={"TWELVELABS_BASE_URL": base}).api.url == url


def test_the_sdks_variable_counts_only_where_nobody_sets_the_url() -> None:
    environment = {"TWELVELABS_BASE_URL": "http://localhost:1"}
    assert loaded({"--api-url": "embedded"}, environment).api.url == "embedded"
    Path("night.toml").write_text(MINIMAL + '[api]\nurl = "embedded"')
    assert loaded(environment=environment).api.url == "embedded"


def test_a_variable_may_set_a_whole_section() -> None:
    limits = loaded(environment={"BULK_CLASSIFY_LIMITS": "{concurrency = 5, max_posts = 6}"}).limits
    assert (limits.concurrency, limits.max_posts) == (5, 6)


def test_the_platforms_own_variable_is_no_setting() -> None:
    assert loaded(environment={"BULK_CLASSIFY_PLATFORM_KEY": "secret", "PATH": "/bin"}) == loaded()


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("limits.concurrency=4", ("limits.concurrency", 4)),
        ("job.include_clips = true", ("job.include_clips", True)),
        ('job.options=["visual"]', ("job.options", ["visual"])),
        ("output.dir=a/b=c", ("output.dir", "a/b=c")),
        ("input.index_id=650000000000000000000001", ("input.index_id", "650000000000000000000001")),
        ("input.index_id=65e1", ("input.index_id", "65e1")),
        ("name=1\nx=2", ("name", "1\nx=2")),
        ("limits.concurrency=" + "[" * 10_000, ("limits.concurrency", "[" * 10_000)),
        ("limits.on_quota=", ("limits.on_quota", "")),
        ("nobody.knows=1", ("nobody.knows", 1)),
    ],
)
def test_a_set_is_read_as_toml_where_that_fits_the_key(text: str, pair: tuple[str, object]) -> None:
    assert parse_set(text) == pair


@pytest.mark.parametrize("text", ["limits.concurrency", "=4", "", "a secret"])
def test_a_set_without_key_or_value_is_refused_unseen(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^--set: expected key=value, such as limits.concurrency=4$"):
        parse_set(text)


# ----------------------------------------------------------------------------------------------------------- tariffs


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, ("none", 0.0, False, 0, 86_400)),
        ({"api.url": "https://api.twelvelabs.io"}, ("v1.2-developer", 1.0, False, 1200, 86_400)),
        ({"limits.tariff": "v1.2-developer"}, ("v1.2-developer", 1.0, False, 1200, 86_400)),
        ({"limits.tariff": "v1.2-free"}, ("v1.2-free", 0.0, False, 20, 86_400)),
        ({"limits.tariff": "v1.1"}, ("v1.1", 1.0, True, 0, 86_400)),
        ({"limits.tariff": "v1.1", "limits.requests_per_second": 5}, ("v1.1", 5.0, True, 0, 86_400)),
    ],
)
def test_the_tariff_decides_what_is_not_set(flags: dict[str, object], expected: tuple[object, ...]) -> None:
    limits = loaded(flags).limits
    assert expected == (
        limits.tariff,
        limits.requests_per_second,
        limits.pages_paced,
        limits.posts_per_window,
        limits.window_seconds,
    )


def test_a_figure_of_the_tariff_names_it_as_its_origin() -> None:
    origins = load(Path("night.toml"), flags={"limits.tariff": "v1.1"}, environment={}).origins
    assert (origins["limits.tariff"], origins["limits.pages_paced"]) == ("--set", "tariff v1.1")


def test_the_defaults_of_the_limits_are_those_of_no_tariff() -> None:
    defaults = msgspec.structs.asdict(config_keys.LimitsSection())
    assert {name: defaults[name] for name in TARIFFS["none"]} == TARIFFS["none"]


# ------------------------------------------------------------------------------------------------------------- paths


def test_paths_in_the_file_start_from_its_folder_and_the_others_from_here(tmp_path: Path) -> None:
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "classes.json").write_text('{"a": ["b"]}')
    (folder / "night.toml").write_text(
        '[job]\noptions = ["visual"]\nclasses_file = "classes.json"\n[input]\nids = ["ids/*.csv", "-", "/top/x"]\n'
        '[api]\nkey_file = "key"\nindex = "my.index"\n[output]\ndir = "rows"\n'
    )
    result = load(Path("configs/night.toml"), flags={"api.ca_file": "ca.pem"}, environment={})
    config = result.config
    assert config.input.ids == (f"{folder}/ids/*.csv", "-", "/top/x")
    assert (config.api.key_file, config.api.index) == (f"{folder}/key", f"{folder}/my.index")
    assert (config.api.ca_file, config.output.dir) == (f"{tmp_path}/ca.pem", f"{tmp_path}/rows")
    assert (config.job.classes, config.job.classes_file) == ((ClassSection(name="a", prompts=("b",)),), None)
    assert result.origins["job.classes"] == f"{folder}/classes.json"


def test_a_folder_with_the_letters_of_a_pattern_is_no_pattern(tmp_path: Path) -> None:
    folder = tmp_path / "set [1]"
    folder.mkdir()
    (folder / "night.toml").write_text(MINIMAL)
    assert load(folder / "night.toml", flags={}, environment={}).config.input.ids == (f"{tmp_path}/set [[]1]/ids.txt",)


def test_a_tilde_is_the_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    config = loaded({"--out": "~/rows", "--ids": ["~/a.txt"]})
    assert (config.output.dir, config.input.ids) == ("/home/me/rows", ("/home/me/a.txt",))


def test_the_directory_has_name_and_day_filled_in(tmp_path: Path) -> None:
    flags = {"--out": "{date}/{name}", "name": "weekly"}
    config = load(Path("night.toml"), flags=flags, environment={}, today=datetime.date(2026, 1, 31)).config
    assert config.output.dir == f"{tmp_path}/2026-01-31/weekly"


def test_a_file_name_that_is_no_run_name_is_made_one() -> None:
    Path("my night (2).toml").write_text(MINIMAL)
    assert load(Path("my night (2).toml"), flags={}, environment={}).config.name == "my-night-2"


# ---------------------------------------------------------------------------------------------------------- mistakes


def test_five_mistakes_are_five_lines() -> None:
    toml = job_file(
        'classes = [{name = "a", prompts = []}]',
        '[input]\nids = ["x"]\non_bad_line = "skp"',
        '[api]\nurl = "http://example.com"',
        '[limits]\nconcurency = 4\nconcurrency = "many"',
    )
    assert problems(toml) == [
        "night.toml: limits.concurency: unknown key; did you mean limits.concurrency?",
        f"night.toml: job.classes #1.prompts = []: expected {PROMPTS}",
        'night.toml: input.on_bad_line = "skp": expected "refuse" or "skip"; did you mean "skip"?',
        'night.toml: limits.concurrency = "many": expected an integer from 1 to 1024',
        f"night.toml: {IN_THE_CLEAR}",
    ]


@pytest.mark.parametrize(
    ("toml", "line"),
    [
        ("[limit]\n", "night.toml: limit: unknown key"),
        ("[limits]\nurl = 1", "night.toml: limits.url: unknown key; did you mean api.url?"),
        ("[limits]\nx = 1", "night.toml: limits.x: unknown key"),
        ("[api]\n'a\\u001b[31m' = 1", "night.toml: api.a\\u001b[31m: unknown key"),
        ('[api]\n"\\u001b[31m" = 1', "night.toml: api.\\x1b[31m: unknown key"),
        ("[limits]\nconcurrency = 0", "night.toml: limits.concurrency = 0: expected an integer from 1 to 1024"),
        ("[limits]\nconcurrency = true", "night.toml: limits.concurrency = true: expected an integer from 1 to 1024"),
        ("[limits]\nconcurrency = 2.0", "night.toml: limits.concurrency = 2.0: expected an integer from 1 to 1024"),
        (
            "[limits]\nconcurrency = 2026-01-31",
            "night.toml: limits.concurrency = 2026-01-31: expected an integer from 1 to 1024",
        ),
        ("[limits]\npages_paced = 1", "night.toml: limits.pages_paced = 1: expected true or false"),
        (
            "[limits]\nrequests_per_second = nan",
            "night.toml: limits.requests_per_second = nan: expected a number from 0 to 10000",
        ),
        (
            "[limits]\nrequests_per_second = 1e-9",
            "night.toml: limits.requests_per_second = 1e-09: expected 0 (no pace) or at least 0.001",
        ),
        (
            "[job.threshold]\nmin_video_score = 0",
            "night.toml: job.threshold.min_video_score = 0: expected a number from 1 to 100",
        ),
        ("[output]\ndir = ' '", f'night.toml: output.dir = " ": expected {TEXT}'),
        ("[output]\ndir = '{nmae}'", 'night.toml: output.dir = "{nmae}": only {date} and {name} are filled in'),
        ("[output]\ndir = {a = 1}", f"night.toml: output.dir = {{…}}: expected {TEXT}"),
        ("[output]\ndir = [['x'], {}]", f"night.toml: output.dir = [[…], {{…}}]: expected {TEXT}"),
        (
            "[output]\ndir = '~nobody-of-that-name/x'",
            'night.toml: output.dir = "~nobody-of-that-name/x": there is no such home directory',
        ),
        (
            "[api]\nkey_env = 'my key'",
            "night.toml: api.key_env: expected the name of an environment variable, in capitals (never the key itself)",
        ),
        (
            "[notify]\ncommand = 'curl -H secret'",
            f"night.toml: notify.command: expected a list of at least one entry, each {TEXT}",
        ),
    ],
)
def test_a_mistake_is_one_line(toml: str, line: str) -> None:
    assert problems(toml) == [line]


def test_a_section_that_is_a_value_is_not_repeated() -> None:
    assert problems('api = "hunter2"\n' + MINIMAL) == ["night.toml: api: expected a section, [api]"]


def test_a_whole_index_needs_its_id_and_takes_no_ids() -> None:
    assert problems(flags={"input.mode": "index"}) == [
        '--set: input.mode = "index": input.index_id is missing: which index?',
        (
            "night.toml: input.ids: an index is answered whole, so no ids can be chosen; leave them out, or use "
            'input.mode = "videos"'
        ),
    ]
    flags = {"input.mode": "index", "input.ids": [], "input.index_id": "i"}
    assert loaded(flags).input.mode == "index"


def test_no_videos_are_a_mistake() -> None:
    assert problems(job_file('classes = [{name = "a", prompts = ["b"]}]')) == [
        "night.toml: no videos: set input.ids (or --ids FILE), or input.index_id"
    ]


def test_no_classes_are_a_mistake() -> None:
    assert problems(job_file('[input]\nids = ["x"]')) == [
        "night.toml: no classes: set [[job.classes]] or job.classes_file"
    ]


def test_classes_in_both_places_are_a_mistake() -> None:
    Path("a.json").write_text('{"a": ["b"]}')
    assert problems(flags={"job.classes_file": "a.json"}) == [
        "--set: job.classes_file: job.classes is given too; keep one of them"
    ]


def test_no_options_are_a_mistake() -> None:
    toml = '[job]\nclasses = [{name = "a", prompts = ["b"]}]\n[input]\nids = ["x"]'
    assert problems(toml) == [f"night.toml: job.options: missing; expected {SOME_OPTIONS}"]


@pytest.mark.parametrize(
    ("classes", "lines"),
    [
        ("5", [f"job.classes = 5: expected a list of 0 to 100000 entries, each {TABLE}"]),
        ("[5]", [f"job.classes #1 = 5: expected {TABLE}"]),
        (
            "[{}]",
            [f"job.classes #1.name: missing; expected {TEXT}", f"job.classes #1.prompts: missing; expected {PROMPTS}"],
        ),
        (
            '[{name = "a", prompts = ["b"]}, {name = "", prompts = ["b"]}]',
            [f'job.classes #2.name = "": expected {TEXT}'],
        ),
        ('[{name = "a", prompts = ["b", " "]}]', [f'job.classes #1.prompts = ["b", " "]: expected {PROMPTS}']),
        ('[{name = "a", prompts = "b"}]', [f'job.classes #1.prompts = "b": expected {PROMPTS}']),
        ('[{name = "a", prompts = ["b"], option = 1}]', ["job.classes #1.option: unknown key; did you mean options?"]),
        ('[{name = "a", prompts = ["b"], options = []}]', [f"job.classes #1.options = []: expected {SOME_OPTIONS}"]),
        (
            '[{name = "a", prompts = ["b"], options = ["visul"]}]',
            [f'job.classes #1.options = ["visul"]: expected {SOME_OPTIONS}; did you mean "visual"?'],
        ),
        (
            '[{name = "a", prompts = ["b"]}, {name = "a", prompts = ["c"]}]',
            ['job.classes #2.name = "a": the name is taken by night.toml: job.classes #1'],
        ),
        (
            '[{name = "a", prompts = "b"}, {name = "a", prompts = ["c"]}]',
            [
                f'job.classes #1.prompts = "b": expected {PROMPTS}',
                'job.classes #2.name = "a": the name is taken by night.toml: job.classes #1',
            ],
        ),
    ],
)
def test_a_wrong_class_is_named_by_its_number(classes: str, lines: list[str]) -> None:
    toml = job_file(f"classes = {classes}", '[input]\nids = ["x"]')
    assert problems(toml) == [f"night.toml: {line}" for line in lines]


def test_a_class_takes_a_hundred_prompts_and_no_more() -> None:
    prompts = [f"p{number}" for number in range(101)]
    assert loaded({"job.classes": [{"name": "a", "prompts": prompts[:100]}]}).job.classes[0].prompts[99] == "p99"
    (line,) = problems(flags={"job.classes": [{"name": "a", "prompts": prompts}]})
    assert line.startswith('--set: job.classes #1.prompts = ["p0", ')
    assert line.endswith(f"…: expected {PROMPTS}")


def test_too_many_classes_are_one_line() -> None:
    classes = [{"name": str(number), "prompts": ["b"]} for number in range(100_001)]
    (line,) = problems(flags={"job.classes": classes})
    assert "expected a list of 0 to 100000 entries" in line
    assert problems_of_classes("many.json", json.dumps(classes)) == ["many.json: 100001 classes: expected 1 to 100000"]


def test_an_error_has_at_most_a_hundred_lines_and_says_that_there_are_more() -> None:
    lines = problems("[limits]\n" + "".join(f"x{number} = 1\n" for number in range(5000)) + "concurrency = 0")
    assert (len(lines), lines[-1]) == (101, "… and more")
    many = problems(flags={"job.classes": [{}] * 5000})
    assert (len(many), many[-1]) == (101, "… and more")


def test_a_long_value_is_shortened() -> None:
    (line,) = problems(flags={"limits.on_quota": "x" * 10_000})
    assert line == f'--set: limits.on_quota = "{"x" * 58}…: expected "stop" or "wait"'
    (line,) = problems(flags={"limits.max_posts": 16**5000})
    assert line == f"--set: limits.max_posts = 0x1{'0' * 56}…: expected an integer from 0 to 1000000000"


def test_nothing_that_a_terminal_obeys_is_repeated() -> None:
    (line,) = problems(flags={"limits.on_quota": "\x1b[2J\u202e\udcff"})
    assert line == '--set: limits.on_quota = "\\x1b[2J\\u202e\\udcff": expected "stop" or "wait"'


def test_an_unknown_variable_is_a_mistake() -> None:
    assert problems(BULK_CLASSIFY_LIMITS_CONCURRENCY="4", BULK_CLASSIFY_="x") == [
        "BULK_CLASSIFY_LIMITS_CONCURRENCY: unknown key; did you mean BULK_CLASSIFY_LIMITS__CONCURRENCY?",
        "BULK_CLASSIFY_: unknown key",
    ]


def test_a_wrong_variable_is_named() -> None:
    assert problems(BULK_CLASSIFY_LIMITS__CONCURRENCY="many") == [
        'BULK_CLASSIFY_LIMITS__CONCURRENCY: limits.concurrency = "many": expected an integer from 1 to 1024'
    ]


# -------------------------------------------------------------------------------------------------- files that fail


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"[job]\noptions = [\n", "night.toml: not valid TOML: Invalid value (at end of document)"),
        (b"[job]\n\nx = = 2\n", "night.toml:3: not valid TOML: Invalid value (at line 3, column 5)"),
        (b"[job]\nx = 1\nx = 2\n", "night.toml:3: not valid TOML: Cannot overwrite a value (at line 3, column 6)"),
        (b"[job]\nname = '\xff'\n", "night.toml:2: not UTF-8"),
        (b"x = " + b"[" * 20_000, "night.toml: nested too deeply"),
    ],
)
def test_a_file_that_is_not_toml_names_its_line(content: bytes, line: str) -> None:
    Path("night.toml").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        loaded()
    assert caught.value.problems == (line,)


def test_a_byte_order_mark_is_no_mistake() -> None:
    Path("night.toml").write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    assert loaded().job.options == ("visual",)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("nowhere.toml", "nowhere.toml: cannot be read: No such file or directory"),
        (".", ".: cannot be read: Is a directory"),
        ("a\0b", r"a\x00b: cannot be read: embedded null byte"),
        ("a\x1b[1m\n", r"a\x1b[1m\n: cannot be read: No such file or directory"),
        ("x" * 5_000, f"{'x' * 999}…: cannot be read: File name too long"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(path: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(Path(path), flags={}, environment={})
    assert caught.value.problems == (problem,)


def test_the_names_of_class_files_and_variables_are_repeated_as_a_terminal_can_bear_them() -> None:
    flags = {"job.classes_file": "/\u202ecsv.exe"}
    found = problems(flags=flags, **{"BULK_CLASSIFY_A\x1b[1m": "1"})
    assert [line.partition(":")[0] for line in found] == [r"BULK_CLASSIFY_A\x1b[1m", r"/\u202ecsv.exe", "--set"]


def test_a_key_of_any_length_that_is_there_twice_is_not_repeated_whole() -> None:
    (problem,) = problems("[job]\n" + f"[{'x' * 5_000}]\n" * 2)
    said = f"Cannot declare ('{'x' * 5_000}"
    assert problem == f"night.toml:3: not valid TOML: {said[:299]}…"


def test_a_file_without_end_is_not_read_to_its_end() -> None:
    with pytest.raises(ConfigError, match=r"^/dev/zero: larger than 67108864 bytes$"):
        load(Path("/dev/zero"), flags={}, environment={})


def test_a_working_directory_that_is_gone_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ConfigError, match=r"^the working directory cannot be found: No such file or directory$"):
        load(None, flags={}, environment={})


# --------------------------------------------------------------------------------------------------------------- URL


@pytest.mark.parametrize(
    ("given_url", "url"),
    [
        ("https://api.twelvelabs.io", "https://api.twelvelabs.io/v1.2"),
        ("https://api.twelvelabs.io/", "https://api.twelvelabs.io/v1.2"),
        ("https://api.twelvelabs.io/v1.1/", "https://api.twelvelabs.io/v1.1"),
        ("https://proxy:8443/twelve/v1.2", "https://proxy:8443/twelve/v1.2"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/v1.2"),
        ("http://localhost", "http://localhost/v1.2"),
        ("HTTP://LocalHost", "HTTP://LocalHost/v1.2"),
        ("http://[::1]:1", "http://[::1]:1/v1.2"),
    ],
)
def test_a_bare_url_gets_its_version(given_url: str, url: str) -> None:
    assert loaded({"--api-url": given_url}).api.url == url


@pytest.mark.parametrize(
    "url",
    [
        "https://me:hunter2@example.com",
        "https://hunter2@example.com",
        "http://localhost@example.com",
        "http://localhost\\@example.com",
        "https://example.com/?key=hunter2",
        "https://example.com/#hunter2",
        "https://example.com/../v1.2",
        "https://example.com:0",
        "https://example.com:65536",
        "https://exam ple.com",
        "https://" + "a" * 64,
        "https://[::2]",
        "https://",
        "ftp://example.com",
        "example.com/v1.2",
    ],
)
def test_a_url_that_is_no_base_url_is_refused_unseen(url: str) -> None:
    assert problems(flags={"--api-url": url}) == [f"--api-url: api.url: {URL_EXPECTED}"]


@pytest.mark.parametrize("url", ["http://example.com", "http://127.0.0.1.example.com/v1.2", "http://10.0.0.1"])
def test_a_key_never_travels_in_the_clear(url: str) -> None:
    assert problems(flags={"--api-url": url}) == [f"--api-url: {IN_THE_CLEAR}"]


def test_a_misspelled_embedded_is_recognised() -> None:
    assert problems(flags={"api.url": "embeded"}) == [f'--set: api.url: {URL_EXPECTED}; did you mean "embedded"?']


# ------------------------------------------------------------------------------------------------------- class files


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.csv", "class_name,prompt\na,one\nb,three\n\na, two \n"),
        ("c.CSV", '\ufeffprompt,note,class_name\r\none,x,a\r\n"three",,b\r\ntwo,,a\r\n'),
        ("c.csv", "Class_Name;Prompt\r\na;one\r\nb;three\r\na;two\r\n"),
        ("c.json", '{"a": ["one", "two"], "b": ["three"]}'),
        ("c.json", '\ufeff[{"name": "a", "prompts": ["one", "two"]}, {"name": "b", "prompts": ["three"]}]'),
        ("c.toml", '[[classes]]\nname="a"\nprompts=["one","two"]\n[[classes]]\nname="b"\nprompts=["three"]\n'),
    ],
)
def test_classes_are_read_from_every_format(name: str, content: str) -> None:
    Path(name).write_text(content, newline="")
    Path("night.toml").write_text(CLASSES_FILE.format(name))
    assert loaded().job.classes == (
        ClassSection(name="a", prompts=("one", "two")),
        ClassSection(name="b", prompts=("three",)),
    )


def test_a_class_in_a_file_has_its_own_options() -> None:
    Path("c.json").write_text('[{"name": "a", "prompts": ["b"], "options": ["logo"]}]')
    Path("night.toml").write_text(CLASSES_FILE.format("c.json"))
    assert loaded().job.classes[0].options == ("logo",)


@pytest.mark.parametrize(
    ("name", "content", "lines"),
    [
        ("c.txt", "", ["c.txt: a file of classes is named *.csv, *.json or *.toml"]),
        ("c.csv", "", ["c.csv:1: expected a header with the columns class_name,prompt, and it is empty"]),
        (
            "c.csv",
            "class;prompt\n",
            ['c.csv:1: expected a header with the columns class_name,prompt, and its first line is "class;prompt"'],
        ),
        (
            "c.csv",
            "prompt,prompt\n",
            ['c.csv:1: expected a header with the columns class_name,prompt, and its first line is "prompt,prompt"'],
        ),
        (
            "c.csv",
            "class_name;prompt\nA;a;b\n",
            ["c.csv:2: 3 cells under 2 columns; a semicolon in a prompt needs quotes"],
        ),
        ("c.csv", "class_name,prompt\n", ["c.csv: 0 classes: expected 1 to 100000"]),
        (
            "c.csv",
            "class_name,prompt\na,b,c\n,x\ny, \n",
            [
                "c.csv:2: 3 cells under 2 columns; a comma in a prompt needs quotes",
                *(f"c.csv:{line}: class_name and prompt must not be empty" for line in (3, 4)),
            ],
        ),
        ("c.csv", 'class_name,prompt\na,"b\n', ["c.csv:2: not valid CSV: unexpected end of data"]),
        ("c.csv", "class_name,prompt\na,x\x07\n", [f'c.csv:2: class "a".prompts = ["x\\x07"]: expected {PROMPTS}']),
        ("c.csv", b"class_name,prompt\na,\xe9\n", ["c.csv:2: not UTF-8"]),
        ("c.json", '{"a":\n ["b" 1]}', ["c.json:2: not valid JSON: Expecting ',' delimiter"]),
        ("c.json", "[" * 200_000, [f"c.json: {NOT_JSON}"]),
        ("c.json", "[" + "9" * 5000 + "]", [f"c.json: {NOT_JSON}"]),
        ("c.json", '"a"', ["c.json: expected an object of lists, or a list of classes"]),
        ("c.json", "[]", ["c.json: 0 classes: expected 1 to 100000"]),
        ("c.json", '{"a": ["b"], "a": ["c"]}', ['c.json: class #2.name = "a": the name is taken by c.json: class #1']),
        ("c.json", '{"a": {}}', [f"c.json: class #1.prompts = []: expected {PROMPTS}"]),
        ("c.json", '[{"name": "\\ud800", "prompts": ["b"]}]', [f'c.json: class #1.name = "\\ud800": expected {TEXT}']),
        (
            "c.json",
            '[{"name": "a", "promts": ["b"]}]',
            [
                "c.json: class #1.promts: unknown key; did you mean prompts?",
                f"c.json: class #1.prompts: missing; expected {PROMPTS}",
            ],
        ),
        (
            "c.toml",
            'x = 1\n[[classes]]\nname = "a"',
            ["c.toml: expected [[classes]], each with name and prompts, and nothing else"],
        ),
        ("c.toml", "\nx = \n", ["c.toml:2: not valid TOML: Invalid value (at line 2, column 5)"]),
    ],
)
def test_a_class_file_names_file_and_place(name: str, content: str | bytes, lines: list[str]) -> None:
    assert problems_of_classes(name, content) == lines


def test_a_class_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    assert problems(CLASSES_FILE.format("c.csv")) == [f"{tmp_path}/c.csv: cannot be read: No such file or directory"]


# ------------------------------------------------------------------------------------------------------- frozen copy


def test_a_frozen_configuration_comes_back_exactly() -> None:
    flags = {
        "job.classes": [{"name": "ä", "prompts": ["b"], "options": ["logo"]}],
        "job.threshold.min_duration_ratio": 0.1,
        "limits.requests_per_second": 1 / 3,
        "api.url": "http://localhost:8000",
        "notify.command": ["true"],
    }
    config = loaded(flags)
    assert thaw(json.loads(json.dumps(freeze(config)))) == config


def test_the_limits_of_a_frozen_configuration_may_change() -> None:
    frozen = freeze(loaded({"limits.tariff": "v1.2-free", "limits.concurrency": 2}))
    assert thaw(frozen, flags={"limits.max_posts": 5, "limits.concurrency": None}).limits == msgspec.structs.replace(
        thaw(frozen).limits, max_posts=5
    )


def test_another_tariff_changes_what_the_first_one_decided() -> None:
    frozen = freeze(loaded({"limits.tariff": "v1.2-free", "limits.window_seconds": 3600}))
    limits = thaw(frozen, flags={"limits.tariff": "v1.2-developer"}).limits
    assert (limits.requests_per_second, limits.posts_per_window, limits.window_seconds) == (1.0, 1200, 3600)


def test_the_job_of_a_frozen_configuration_may_not_change() -> None:
    with pytest.raises(ConfigError) as caught:
        thaw(freeze(loaded()), flags={"job.include_clips": True, "--out": "x", "limits.concurrency": 0})
    assert caught.value.problems == (
        "job.include_clips: only limits may change in a run that has begun",
        "--out: only limits may change in a run that has begun",
        "--set: limits.concurrency = 0: expected an integer from 1 to 1024",
    )


def test_a_frozen_configuration_that_was_tampered_with_is_refused() -> None:
    frozen = freeze(loaded())
    with pytest.raises(ConfigError) as caught:
        thaw({**frozen, "limits": {"speed": 1, "tariff": [1]}, "api": {"url": "http://example.com"}})
    assert caught.value.problems == (
        "frozen configuration: limits.speed: unknown key",
        'frozen configuration: limits.tariff = [1]: expected "none", "v1.1", "v1.2-developer" or "v1.2-free"',
        f"frozen configuration: {IN_THE_CLEAR}",
    )


# ----------------------------------------------------------------------------------------------------------- API key


SECRET = "tlk_3ABCDEFGHJKLMNPQRSTUV"


@pytest.mark.parametrize(
    ("toml", "where"),
    [
        (f'[api]\nkey = "{SECRET}"', "night.toml: api.key"),
        ('[api]\nx-api-key = "hunter2"', "night.toml: api.x-api-key"),
        ('[api]\nTWELVELABS_API_KEY = "hunter2"', "night.toml: api.TWELVELABS_API_KEY"),
        ('[x]\n[limits]\napiKey = "hunter2"', "night.toml: limits.apiKey"),
        (f'[api]\nkey_env = "{SECRET}"', "night.toml: api.key_env"),
        (f'[api]\naccount = "{SECRET}"', "night.toml: api.account"),
    ],
)
def test_a_key_in_the_file_is_refused_unseen(toml: str, where: str) -> None:
    assert f"{where}: {NEVER}" in problems(toml)
    assert SECRET not in str(problems(toml))
    assert "hunter2" not in str(problems(toml))


def test_a_key_among_the_settings_is_refused_unseen() -> None:
    assert problems(flags={"api.key": SECRET}, BULK_CLASSIFY_API_KEY="hunter2") == [
        f"BULK_CLASSIFY_API_KEY: api_key: {NEVER}",
        f"--set: api.key: {NEVER}",
    ]


VENDOR = ApiSection(url="https://api.twelvelabs.io/v1.2")


@pytest.mark.parametrize(
    ("key_env", "environment", "key"),
    [
        (None, {"TL_API_KEY": "three", "TWELVE_LABS_API_KEY": "two", "TWELVELABS_API_KEY": "one"}, "one"),
        (None, {"TL_API_KEY": "three", "TWELVE_LABS_API_KEY": "two", "TWELVELABS_API_KEY": " "}, "two"),
        (None, {"TL_API_KEY": " three\n"}, "three"),
        ("MINE", {"TWELVELABS_API_KEY": "one", "MINE": "mine"}, "mine"),
    ],
)
def test_the_key_is_found_in_the_environment(key_env: str | None, environment: dict[str, str], key: str) -> None:
    assert api_key(msgspec.structs.replace(VENDOR, key_env=key_env), environment).reveal() == key


def key_file(content: bytes, mode: int = 0o600) -> ApiSection:
    path = Path.cwd() / "the key"
    path.write_bytes(content)
    path.chmod(mode)
    return msgspec.structs.replace(VENDOR, key_file=str(path))


def test_the_key_is_found_in_a_private_file() -> None:
    assert api_key(key_file(b"secret\n"), {}).reveal() == "secret"
    assert api_key(key_file(b"secret\n", 0o400), {}).reveal() == "secret"
    assert api_key(key_file(b"secret\n"), {"TL_API_KEY": "environment"}).reveal() == "environment"


def test_the_embedded_platform_needs_no_key() -> None:
    assert api_key(ApiSection(), {}).reveal() == "the-embedded-platform-asks-for-none"


def key_problem(api: ApiSection, environment: Mapping[str, str]) -> str:
    with pytest.raises(ConfigError) as caught:
        api_key(api, environment)
    (line,) = caught.value.problems
    return line.replace(f"{Path.cwd()}/", "")


@pytest.mark.parametrize(
    ("section", "environment", "access"),
    [
        (EmbedderSection(), {}, EmbedderAccess()),
        (EmbedderSection(), {"TL_API_KEY": " three "}, EmbedderAccess(vendor_key="three")),
        (EmbedderSection(), {"TWELVELABS_API_KEY": "not a key"}, EmbedderAccess()),
        (EmbedderSection(url="https://e", model="m"), {"MINE": "mine"}, EmbedderAccess("https://e", "m")),
        (
            EmbedderSection(key_env="MINE"),
            {"MINE": "mine", "TL_API_KEY": "three"},
            EmbedderAccess(key="mine", vendor_key="three"),
        ),
    ],
)
def test_an_embedder_gets_a_key_of_its_own_and_the_vendors_only_beside_it(
    section: EmbedderSection, environment: dict[str, str], access: EmbedderAccess
) -> None:
    assert embedder_access(section, environment) == access


def test_an_embedders_key_may_stand_in_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("filed\n")
    path.chmod(0o600)
    assert embedder_access(EmbedderSection(key_file=str(path)), {}).key == "filed"


def test_an_embedders_key_that_is_named_has_to_be_there() -> None:
    with pytest.raises(ConfigError, match=r"^embedder\.key_env: MINE is not set in the environment$"):
        embedder_access(EmbedderSection(key_env="MINE"), {"TL_API_KEY": "three"})


def test_no_key_says_where_one_is_looked_for() -> None:
    assert key_problem(VENDOR, {}) == (
        "no API key: set TWELVELABS_API_KEY or TWELVE_LABS_API_KEY or TL_API_KEY in the environment, or api.key_file"
    )
    assert key_problem(msgspec.structs.replace(VENDOR, key_env="MINE"), {"TL_API_KEY": "x"}) == (
        "no API key: set MINE in the environment, or api.key_file"
    )


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_key_file_that_others_can_read_is_refused(mode: int) -> None:
    line = key_problem(key_file(b"hunter2", mode), {})
    assert line == "the key: others can read the API key: chmod 600 'the key'"


def test_a_key_file_that_is_no_file_is_refused_without_waiting() -> None:
    os.mkfifo("pipe", 0o600)
    for path, reason in [
        ("pipe", "the API key is not in a regular file"),
        (".", "the API key is not in a regular file"),
        ("nowhere", "the API key cannot be read: No such file or directory"),
    ]:
        assert key_problem(msgspec.structs.replace(VENDOR, key_file=path), {}) == f"{path}: {reason}"


@pytest.mark.parametrize(
    "key", ["hunter2 hunter2", "hunter2\nx: y", "hünter2", "hunter2" * 74, "hunter2\x7f", "\udcff"]
)
def test_a_key_that_no_header_can_carry_is_refused_unseen(key: str) -> None:
    expected = "not an API key: expected 1 to 512 printable ASCII characters without blanks"
    assert key_problem(VENDOR, {"TL_API_KEY": key}) == f"TL_API_KEY: {expected}"
    assert key_problem(key_file(key.encode(errors="replace") + b"\xff"), {}) == f"the key: {expected}"


def test_an_empty_key_file_holds_no_key() -> None:
    assert key_problem(key_file(b"\n"), {}).startswith("the key: not an API key")


def test_a_key_does_not_show_itself() -> None:
    key = api_key(VENDOR, {"TL_API_KEY": "hunter2"})
    assert [repr(key), str(key), f"{key}", f"{[key]}"] == ["ApiKey(…)", "ApiKey(…)", "ApiKey(…)", "[ApiKey(…)]"]
    for written in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match=r"^an API key is not written anywhere$"):
            written(key)
    assert not hasattr(key, "__dict__")


# --------------------------------------------------------------------------------------------------------- invariants


_scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates() | st.datetimes() | st.times()
)
_sections = ("job", "input", "api", "limits", "output", "notify", "threshold", "classes")
_names = st.sampled_from([*_sections, *{key.rpartition(".")[2] for key in KEYS}, "name", "prompts"]) | st.text()
_values = st.recursive(
    _scalars | st.sampled_from(["visual", "embedded", "v1.1", "https://example.com", "~", "{name}"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_names, inner, max_size=4),
    max_leaves=15,
)


@given(st.dictionaries(_names | st.sampled_from(sorted(KEYS)), _values, max_size=8))
def test_whatever_is_configured_is_a_configuration_or_a_config_error(tree: dict[str, object]) -> None:
    base: dict[str, object] = {
        "job.options": ["visual"],
        "job.classes": [{"name": "a", "prompts": ["b"]}],
        "input.ids": ["x"],
    }
    for flags in (tree, base | tree):
        with contextlib.suppress(ConfigError):
            thaw(flags)
        try:
            config = load(None, flags=flags, environment={}).config
        except ConfigError:
            continue
        assert thaw(json.loads(json.dumps(freeze(config)))) == config


@given(st.dictionaries(st.sampled_from(sorted(KEYS)), st.text(), max_size=4))
def test_whatever_the_environment_says_is_a_configuration_or_a_config_error(texts: dict[str, str]) -> None:
    environment = {"BULK_CLASSIFY_" + key.upper().replace(".", "__"): text for key, text in texts.items()}
    with contextlib.suppress(ConfigError):
        load(None, flags={}, environment=environment)


@given(st.text(max_size=200) | st.binary(max_size=50).map(lambda body: body.decode(errors="surrogateescape")))
def test_a_message_repeats_at_most_sixty_printable_characters(text: str) -> None:
    for shown in (config_keys.shown(text), config_keys.shown([text, text]), config_keys.shown_key(text)):
        assert len(shown) <= 60
        assert shown.isprintable()


# ------------------------------------------------------------------------------------------------------ the reference


def documented() -> dict[str, list[str]]:
    rows = [line.strip("| ").split(" | ") for line in DOCUMENT.read_text().splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): row[1:] for row in rows if row[0].strip("`") not in TARIFFS}


def declared() -> dict[str, msgspec.structs.FieldInfo]:
    of_class = {f"job.classes[].{field.name}": field for field in msgspec.structs.fields(ClassSection)}
    return {**KEYS, **of_class}


def test_the_reference_has_every_key_and_no_other() -> None:
    assert sorted(documented()) == sorted(declared())


def test_the_reference_names_no_key_in_passing_that_does_not_exist() -> None:
    sections = {key.partition(".")[0] for key in KEYS if "." in key}
    mentioned = set(re.findall(rf"\b((?:{'|'.join(sections)})\.[a-z_.]+[a-z])\b", DOCUMENT.read_text()))
    assert mentioned - KEYS.keys() == {"job.threshold"}


@pytest.mark.parametrize("key", sorted(declared()))
def test_the_reference_tells_the_range_and_the_default(key: str) -> None:
    field = declared()[key]
    allowed, default, meaning = documented()[key]
    words = config_keys._expected(inspect.type_info(field.type))
    if "path" not in allowed and key not in ("job.classes", "api.url", "embedder.url"):
        assert allowed == words
    if not field.required and field.default not in (None, ()):
        assert f"`{config_keys.shown(field.default)}`" in default
    assert meaning


def test_the_example_of_the_reference_is_a_configuration() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    Path("night.toml").write_text(example)
    assert warnings_of(loaded()) == []
