"""Configurations: a TOML file, a file of classes, variables and flags, from values that fit and from such as do not.

Where every value fits, the strongest source must win with exactly its value. Where a configuration loads at all, it
must load again, from its frozen copy and from a file of all its values, as the same one.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from random import Random
from typing import Any

from pipeline.config import effective, freeze, job_of, load, page_limit_of, parse_set, thaw, warnings_of
from pipeline.config_keys import KEYS, MAX_PATH_SHOWN
from pipeline.config_sources import OPTIONS, PREFIX
from pipeline.errors import ConfigError
from tests.fuzz.mutation import WILD_TEXTS, Pairs, Raw, Tree, json_bytes, mutated, spoilt, text_of, value_of
from tests.fuzz.running import Reader, check_message, write

SECRET = "tlk_0123456789ABCDEFGHIJ"
TODAY = date(2026, 1, 2)
MAX_LINES = 101
FILE = "night.toml"
_CLASS = {"name": "DanceTok", "prompts": ["Dance group", "Tanz für alle"]}
_CLASSES = (
    [_CLASS],
    [
        _CLASS,
        {"name": "CookTok", "prompts": ["Cook"], "options": ["conversation"], "conversation_option": "exact_match"},
    ],
    [{"name": f"class {number}", "prompts": ["a"]} for number in range(12)],
)
_FITTING: Mapping[str, tuple[Tree, ...]] = {
    "name": ("night", "a.b-c_1", "20260102"),
    "job.options": (["visual"], ["visual", "conversation"]),
    "job.conversation_option": ("semantic", "exact_match"),
    "job.include_clips": (True, False),
    "job.show_detailed_score": (True, False),
    "job.page_limit": (1, 50),
    "job.threshold.min_video_score": (1, 100, 33.5),
    "job.threshold.min_clip_score": (1.0, 30),
    "job.threshold.min_duration_ratio": (0.01, 1, 0.5),
    "input.ids": (["/ids/*.csv"], ["-", "/a b/ü.txt"]),
    "input.index_id": ("65a1", "12345"),
    "input.on_bad_line": ("skip", "refuse"),
    "api.url": ("embedded", "https://api.example/v1.2", "http://127.0.0.1:8088/v1.2"),
    "api.key_env": ("MY_KEY",),
    "api.account": ("team-a", "7"),
    "api.request_timeout_seconds": (1, 12.5, 86_400),
    "limits.tariff": ("none", "v1.1", "v1.2-free", "v1.2-developer"),
    "limits.requests_per_second": (0, 0.5, 10_000),
    "limits.posts_per_window": (0, 1200),
    "limits.window_seconds": (1, 86_400),
    "limits.concurrency": (1, 1024),
    "limits.max_posts": (0, 7, 1_000_000_000),
    "limits.on_quota": ("wait", "stop"),
    "limits.reserve_bytes": (0, 2**40),
    "output.dir": ("/runs/night", "/runs/a b"),
    "output.keep_signed_urls": (True, False),
    "notify.command": (["/bin/tell", "me"],),
}
_VARIABLES = (
    "LIMITS__CONCURRENCY",
    "NAME",
    "API__KEY",
    "limits__max_posts",
    "X",
    "",
    "JOB__CLASSES",
    "PLATFORM_KEY",
    "JOB",
    "A\x1b[1m\n",
)
_SDK_URLS = (
    "",
    "https://api.example",
    "http://127.0.0.1:1",
    "https://u:p@h",
    "ftp://x",
    "\udcff",
    "https://h/v1.3/",
    "x" * 5_000,
)
_SPLICED = (
    b"\n[job]\noptions = []\n",
    b"\n[[job.classes]]\nname = 'a'\n[[job.classes]]\nname = 'b'\n",
    b"\n[%s]\n" % (b"x" * 5_000) * 2,
    b"\na = {%s = 1, %s = 2}\n" % (b"x" * 5_000, b"x" * 5_000),
    b"\n" + b"a." * 300 + b"b = 1\n",
)


@dataclass(frozen=True, slots=True)
class Sources:
    """Everything that a configuration is read from. ``expected`` is known where every value fits."""

    toml: bytes
    environment: Mapping[str, str]
    settings: tuple[str, ...] = ()
    options: Mapping[str, str | list[str]] | None = None
    class_file: tuple[str, bytes] | None = None
    expected: Mapping[str, Tree] | None = None
    holds_secret: bool = False


# ------------------------------------------------------------------------------------------------------------- making


def make(draw: Random, heavy: bool) -> Sources:
    """All sources of one run; heavy ones have very many classes."""
    values = {key: draw.choice(_FITTING[key]) for key in draw.sample(tuple(_FITTING), draw.randrange(9))}
    values.setdefault("job.options", ["visual"])
    if not values.keys() & {"input.ids", "input.index_id"}:
        values["input.ids"] = ["/ids.txt"]
    classes: Tree = (
        [{"name": f"c{number}", "prompts": ["a"]} for number in range(1_000)] if heavy else draw.choice(_CLASSES)
    )
    sources = Sources(b"", {}, expected=values | {"job.classes": classes})
    tree = _tables({key: value for key, value in values.items() if draw.random() < 0.8})
    if draw.random() < 0.4:
        name = f"classes.{draw.choice(('csv', 'json', 'toml'))}"
        sources = replace(sources, class_file=(name, _class_file(draw, name, classes)))
        tree.setdefault("job", {})["classes_file"] = name
        if name == "classes.csv":
            sources = replace(
                sources,
                expected=values
                | {"job.classes": [{"name": one["name"], "prompts": one["prompts"]} for one in classes]},
            )
    else:
        tree.setdefault("job", {})["classes"] = classes
    sources = replace(sources, toml=toml_text(draw, tree).encode(), **_stronger(draw, values, tree))
    return sources if draw.random() < 0.25 else _spoilt_sources(draw, sources, tree)


def _tables(values: Mapping[str, Tree]) -> dict[str, Tree]:
    tree: dict[str, Tree] = {}
    for key, value in values.items():
        *sections, name = key.split(".")
        table = tree
        for section in sections:
            table = table.setdefault(section, {})
        table[name] = value
    return tree


def _stronger(draw: Random, values: Mapping[str, Tree], tree: Mapping[str, Tree]) -> dict[str, Any]:
    """Environment and flags, which say what the file does not, or say it over the file."""
    environment: dict[str, str] = {"PATH": "/bin"}
    settings: list[str] = []
    options: dict[str, str | list[str]] = {}
    flagged = {key: option for option, key in OPTIONS.items()}
    for key, value in values.items():
        section: Any = tree
        for part in key.split("."):
            section = section.get(part, {}) if isinstance(section, dict) else {}
        if section == value and draw.random() < 0.8:
            continue
        if draw.random() < 0.5:
            environment[PREFIX + key.upper().replace(".", "__")] = _as_text(draw, value)
        elif key in flagged and draw.random() < 0.5:
            options[flagged[key]] = value
        else:
            settings.append(f"{key}={_as_text(draw, value)}")
    for key in draw.sample(tuple(values), draw.choice((0, 0, 1))):
        if any(one.startswith(f"{key}=") for one in settings):
            environment[PREFIX + key.upper().replace(".", "__")] = _as_text(draw, draw.choice(_FITTING[key]))
    return {"environment": environment, "settings": tuple(settings), "options": options}


def _as_text(draw: Random, value: Tree) -> str:
    return value if isinstance(value, str) and draw.random() < 0.5 else _toml(value)


def _class_file(draw: Random, name: str, classes: Sequence[Mapping[str, Tree]]) -> bytes:
    if name.endswith(".csv"):
        written = io.StringIO()
        writer = csv.writer(written, lineterminator=draw.choice(("\n", "\r\n")))
        writer.writerows(
            [("class_name", "prompt"), *((one["name"], prompt) for one in classes for prompt in one["prompts"])]
        )
        return draw.choice((b"", b"\xef\xbb\xbf")) + written.getvalue().encode()
    if name.endswith(".json"):
        return json_bytes(draw, classes)
    return "\n".join(f"[[classes]]\n{_lines(one)}" for one in classes).encode()


def toml_text(draw: Random, tree: Tree) -> str:
    """A tree as TOML: sections as tables or dotted keys, all below as inline tables."""
    pairs = _pairs(tree)
    plain = [(name, value) for name, value in pairs if not isinstance(value, dict)]
    sections = [(name, value) for name, value in pairs if isinstance(value, dict)]
    text = _lines(Pairs(tuple(plain)))
    for name, section in sections:
        if draw.random() < 0.2:
            text = f"{_name(name)} = {_toml(section)}\n{text}"
        else:
            text += f"\n[{_name(name)}]\n{_lines(section)}"
    return text


def _pairs(tree: Tree) -> Sequence[tuple[str, Tree]]:
    match tree:
        case Pairs(pairs):
            return pairs
        case dict():
            return list(tree.items())
    return [("", tree)]


def _lines(table: Tree) -> str:
    return "".join(f"{_name(name)} = {_toml(value)}\n" for name, value in _pairs(table) if value is not None)


def _name(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml(name)


def _toml(value: Tree) -> str:
    match value:
        case Raw(text):
            return text
        case bool():
            return str(value).lower()
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list() | tuple() if not isinstance(value, Pairs):
            return "[" + ", ".join(map(_toml, value)) + "]"
        case dict() | Pairs():
            return (
                "{" + ", ".join(f"{_name(name)} = {_toml(one)}" for name, one in _pairs(value) if one is not None) + "}"
            )
    return repr(value)


def _spoilt_sources(draw: Random, whole: Sources, tree: Tree) -> Sources:
    """The sources with a change in one of them, or in several."""
    spoiled = replace(whole, expected=None)
    for _ in range(draw.choice((1, 1, 2))):
        match draw.randrange(7):
            case 0 | 1 | 2:
                tree = spoilt(draw, tree)
                spoiled = replace(spoiled, toml=toml_text(draw, tree).encode("utf-8", "surrogatepass"))
            case 3:
                other = draw.choice(_SPLICED)
                toml = mutated(draw, spoiled.toml, other) if draw.random() < 0.8 else spoiled.toml + other
                spoiled = replace(spoiled, toml=toml)
            case 4:
                spoiled = _spoilt_class_file(draw, spoiled)
            case 5:
                variable = PREFIX + draw.choice((*_VARIABLES, *(key.upper().replace(".", "__") for key in KEYS)))
                added = {variable: _wild_text(draw), "TWELVELABS_BASE_URL": draw.choice(_SDK_URLS)}
                spoiled = replace(spoiled, environment={**spoiled.environment, **added})
            case 6:
                key = draw.choice((*KEYS, *KEYS, "api.key", "job", "", "limits.", "=", text_of(draw)))
                spoiled = replace(
                    spoiled, settings=(*spoiled.settings, draw.choice((f"{key}={_wild_text(draw)}", _wild_text(draw))))
                )
    if draw.random() < 0.1:
        key = draw.choice(
            ("name", "api.key", "api.url", "api.account", "api.key_env", "input.index_id", "limits.max_posts")
        )
        return replace(spoiled, settings=(*spoiled.settings, f"{key}={SECRET}"), holds_secret=True)
    return spoiled


def _wild_text(draw: Random) -> str:
    if draw.random() < 0.5:
        return draw.choice(
            (
                *WILD_TEXTS,
                "\udcff\udc80",
                "a\nb = 1",
                "[1, 2",
                '"',
                "'''",
                "1_000",
                "0x10",
                "inf",
                "~",
                "~root/x",
                "{date}",
            )
        )
    return _toml(value_of(draw))


def _spoilt_class_file(draw: Random, sources: Sources) -> Sources:
    if sources.class_file is None:
        return replace(
            sources,
            settings=(*sources.settings, f"job.classes_file={draw.choice(('/', 'none.csv', 'x.txt', *WILD_TEXTS))}"),
        )
    name, body = sources.class_file
    if draw.random() < 0.4:
        body = mutated(draw, body, b'\n"a,b"\n"c"d\n[[classes]]\nname = 1\n')
    elif name.endswith(".json"):
        classes: Tree = draw.choice(_CLASSES)
        if draw.random() < 0.5:
            classes = {one["name"]: one["prompts"] for one in classes}
        body = json_bytes(draw, spoilt(draw, classes))
    elif name.endswith(".toml"):
        body = toml_text(draw, spoilt(draw, {"classes": [_CLASS]})).encode("utf-8", "surrogatepass")
    else:
        rows = [["class_name", "prompt"], *([draw.choice(("a", text_of(draw))), text_of(draw)] for _ in range(3))]
        written = io.StringIO()
        csv.writer(written).writerows(rows)
        body = written.getvalue().encode("utf-8", "surrogatepass")
    return replace(sources, class_file=(name, body))


# ----------------------------------------------------------------------------------------------------------- checking


def check(case: Sources, folder: Path) -> bool:
    """Load the sources; what loads must load again as the same, and what does not must say why."""
    path = write(folder, FILE, case.toml)
    if case.class_file is not None:
        write(folder, *case.class_file)
    try:
        flags = dict(parse_set(text) for text in case.settings)
        loaded = load(path, flags=flags | dict(case.options or {}), environment=case.environment, today=TODAY)
    except ConfigError as error:
        _check_error(case, error)
        return False
    config = loaded.config
    assert not case.holds_secret or SECRET not in repr(config), "an API key became a setting"
    values = json.loads(json.dumps(effective(config)))
    for key, value in (case.expected or {}).items():
        _check_value(key, value, values[key])
    assert all(origin.isprintable() and len(origin) <= MAX_PATH_SHOWN for origin in loaded.origins.values())
    assert thaw(freeze(config)) == config
    assert json.loads(json.dumps(freeze(config))) == freeze(config)
    job = job_of(config)
    assert len({one.name for one in job.classes}) == len(job.classes) >= 1
    assert 1 <= page_limit_of(config) <= 50
    for warning in warnings_of(config):
        check_message(warning)
    _check_again(folder, values, config)
    return True


def _check_value(key: str, expected: Tree, value: Tree) -> None:
    if key == "job.classes":
        assert len(value) == len(expected)
        for one, given in zip(value, expected, strict=True):
            assert {name: got for name, got in one.items() if got is not None} == given
    else:
        assert value == expected, key


def _check_again(folder: Path, values: Mapping[str, Tree], config: object) -> None:
    toml = "".join(f"{key} = {_toml(value)}\n" for key, value in values.items() if value not in (None, []))
    again = load(write(folder, "again.toml", toml.encode()), flags={}, environment={}, today=TODAY).config
    assert again == config


def _check_error(case: Sources, error: ConfigError) -> None:
    assert case.expected is None, error
    assert 1 <= len(error.problems) <= MAX_LINES
    for line in error.problems:
        check_message(line, r".+: \S|… and more\Z|no API key", longest=3 * MAX_PATH_SHOWN)
    assert SECRET not in str(error)


CONFIGURATIONS = Reader(make, check, most_bytes=160 * 2**20)  # a file is read into room for the largest one allowed
