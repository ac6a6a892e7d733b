"""Configuration: file, environment and flags become one frozen value, validated once, or one error with every problem.

Each source is spread into dotted keys, and each key remembers who set it; the first of flags, environment, file and
default that names a key decides it whole. What a key may hold is declared in ``config_keys``; here are only the rules
that join several keys. A loaded configuration depends on nothing around it any more: paths are absolute, classes are
inline, the tariff's figures are filled in, so that a frozen copy means the same in any working directory.

An API key is no setting: ``api_key`` finds it when it is needed, and a key that was put among the settings is refused
without being repeated.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

import msgspec

from pipeline.api_key import ApiKey, api_key, embedder_access
from pipeline.class_files import Labelled, read_class_file
from pipeline.config_keys import (
    KEYS,
    MAX_CLASSES,
    TARIFFS,
    ApiSection,
    ClassSection,
    Config,
    EmbedderSection,
    did_you_mean,
    missing,
    problems_of,
    shown,
    shown_key,
    shown_path,
    table_problems,
)
from pipeline.config_sources import MAX_PROBLEMS, OPTIONS, Setting, Settings, parse_set, take, take_flags, take_sources
from pipeline.errors import ConfigError
from pipeline.models import MAX_PAGE_LIMIT, PLATFORM_THRESHOLD, Job, JobClass, Threshold

# What a user of the configuration needs besides what is defined here.
__all__ = [
    "OPTIONS",
    "ApiKey",
    "ApiSection",
    "Config",
    "Loaded",
    "api_key",
    "effective",
    "embedder_access",
    "embedder_section",
    "freeze",
    "job_of",
    "load",
    "page_limit_of",
    "parse_set",
    "thaw",
    "warnings_of",
]

SLOWEST_RATE = 0.001
"""Requests per second: about 86 a day. Less could only be meant as none."""
PAGE_LIMIT_WITH_CLIPS = 10
"""Videos on a page with clips: each can hold thousands, and a page is held in memory whole."""

# The keys that hold paths, and the word in each that is none.
_PATHS = {
    "input.ids": "-",
    "job.classes_file": None,
    "api.key_file": None,
    "api.ca_file": None,
    "api.index": "quickstart",
    "embedder.key_file": None,
    "output.dir": None,
    "output.metrics_file": None,
}
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*|\[::1\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>(?:/[\w~-][\w.~-]*)*)/?",
    re.ASCII | re.IGNORECASE,
)
_EXPECTED_URL = {
    "api.url": '"embedded" or a base URL such as https://api.twelvelabs.io/v1.2',
    "embedder.url": "a base URL such as https://api.openai.com/v1",
}
_FROZEN = "frozen configuration"
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration, and for each dotted key who set it: a file, a variable, an option, a tariff, or ``default``."""

    config: Config
    origins: Mapping[str, str]


def load(
    path: Path | None,
    *,
    flags: Mapping[str, object],
    environment: Mapping[str, str],
    today: date | None = None,
) -> Loaded:
    """Read the configuration of a run.

    ``flags`` holds what the command line says, by dotted key or by one of ``OPTIONS``; None and an empty tuple stand
    for an option that was not used. ``today`` fills in ``{date}``; by default it is the local day. Raises
    ``ConfigError`` with all problems.
    """
    here = _working_directory()
    settings: Settings = {}
    problems = take_sources(settings, path, flags, environment, here)
    _fill(settings, here)
    source = shown_path(path) if path else "configuration"
    values = _valid(settings, problems, source)
    problems += _resolve(settings, values, here, today or datetime.now().astimezone().date())
    problems += _whole_url(settings, values)
    labelled = _inline_classes(settings)
    classes_file = values.get("job.classes_file")
    if isinstance(classes_file, str):
        settings["job.classes"] = replace(settings["job.classes"], origin=shown_path(Path(classes_file)))
        labelled += _filed_classes(Path(classes_file), problems)
    problems += _broken_rules(settings, values, labelled, source)
    values |= {"job.classes": [entry for _, entry in labelled], "job.classes_file": None}
    origins = {key: settings[key].origin for key in KEYS if key in settings}
    return Loaded(_built(values, problems), MappingProxyType(origins))


def freeze(config: Config) -> dict[str, object]:
    """The configuration as plain JSON values, for ``thaw``. It holds no secret."""
    frozen: dict[str, object] = msgspec.json.decode(msgspec.json.encode(config))
    return frozen


def effective(config: Config) -> dict[str, object]:
    """Every key by its dotted name, and the plain value that it came to."""
    values: dict[str, object] = {}
    for key in KEYS:
        section: object = config
        for name in key.split("."):
            section = getattr(section, name)
        values[key] = msgspec.to_builtins(section)
    return values


def thaw(frozen: Mapping[str, object], *, flags: Mapping[str, object] | None = None) -> Config:
    """The configuration that ``freeze`` wrote, with the limits that the command line changes.

    Raises ``ConfigError``, also for a flag that is not one of ``limits``: a run's job, input and output are fixed.
    """
    here = Path("/")  # Nothing in a frozen configuration is relative.
    settings: Settings = {}
    problems = take(settings, frozen, _FROZEN, here)
    changes = {key: value for key, value in (flags or {}).items() if value is not None}
    fixed = [key for key in changes if not key.startswith("limits.")]
    problems += [f"{shown_key(key)}: only limits may change in a run that has begun" for key in fixed]
    if "limits.tariff" in changes and "limits.tariff" in settings:
        for name, figure in _figures(settings["limits.tariff"].value).items():
            if f"limits.{name}" in settings and settings[f"limits.{name}"].value == figure:
                del settings[f"limits.{name}"]
    problems += take_flags(settings, {key: changes[key] for key in changes.keys() - fixed}, here)
    _fill(settings, here)
    values = _valid(settings, problems, _FROZEN)
    problems += _whole_url(settings, values)
    problems += _broken_rules(settings, values, _inline_classes(settings), _FROZEN)
    return _built(values, problems)


def embedder_section(given: Mapping[str, object]) -> EmbedderSection:
    """What the options of a command without a configuration say of ``embedder``; None stands for one not used.

    Raises ``ConfigError`` with all problems.
    """
    settings: Settings = {}
    flags = {f"embedder.{name}": value for name, value in given.items()}
    problems = take_flags(settings, flags, _working_directory())
    values = {key: one.value for key, one in settings.items()}
    problems += [line for key, value in values.items() for line in problems_of(key, value, KEYS[key].type)]
    problems = problems or list(_whole_url(settings, values))
    if problems:
        _refuse(problems)
    return msgspec.convert({key.partition(".")[2]: value for key, value in values.items()}, EmbedderSection)


# ------------------------------------------------------------------------------------- from what is given to the whole


def _figures(tariff: object) -> Mapping[str, object]:
    return next((figures for name, figures in TARIFFS.items() if name == tariff), {})


def _fill(settings: Settings, here: Path) -> None:
    """Give every key that nobody set the tariff's figure, or else its default."""
    tariff = settings["limits.tariff"].value if "limits.tariff" in settings else KEYS["limits.tariff"].default
    for name, figure in _figures(tariff).items():
        settings.setdefault(f"limits.{name}", Setting(figure, f"tariff {tariff}", here))
    for key, field in KEYS.items():
        if not field.required:
            settings.setdefault(key, Setting(field.default, "default", here))


def _valid(settings: Settings, problems: list[str], source: str) -> dict[str, object]:
    """The values that fit their keys; the others are added to ``problems``."""
    values: dict[str, object] = {}
    for key, field in KEYS.items():
        if key not in settings:
            problems.append(f"{source}: {missing(key, field)}")
            continue
        setting = settings[key]
        wrong = [
            f"{setting.origin}: {line}"
            for line in islice(problems_of(key, setting.value, field.type), MAX_PROBLEMS + 1)
        ]
        problems += wrong
        if not wrong:
            values[key] = setting.value
    return values


def _built(values: Mapping[str, object], problems: list[str]) -> Config:
    if problems:
        _refuse(problems)
    tree: dict[str, Any] = {}
    for key, value in values.items():
        *sections, name = key.split(".")
        table = tree
        for section in sections:
            table = table.setdefault(section, {})
        table[name] = value
    return msgspec.convert(tree, Config)


def _refuse(problems: list[str]) -> NoReturn:
    raise ConfigError(problems[:MAX_PROBLEMS] + ["… and more"] * (len(problems) > MAX_PROBLEMS))


# -------------------------------------------------------------------------------- values that stand for something else


def _working_directory() -> Path:
    try:
        return Path.cwd()
    except OSError as error:
        raise ConfigError([f"the working directory cannot be found: {error.strerror}"]) from None


def _resolve(settings: Settings, values: dict[str, object], here: Path, today: date) -> Iterator[str]:
    """Put absolute paths in the places of relative ones, and fill in the directory. Yields what cannot be."""
    directory = values.get("output.dir")
    if isinstance(directory, str):
        filled = directory.replace("{date}", today.isoformat()).replace("{name}", str(values.get("name")))
        if "{" in filled or "}" in filled:
            origin = settings["output.dir"].origin
            yield f"{origin}: output.dir = {shown(directory)}: only {{date}} and {{name}} are filled in"
        values["output.dir"] = filled
    for key, word in _PATHS.items():
        value = values.get(key)
        folder = here if key == "output.dir" else settings[key].folder
        try:
            if isinstance(value, str) and value != word:
                values[key] = str(folder / Path(value).expanduser())
            elif isinstance(value, list | tuple):
                # Entries are patterns, the folder is none.
                escaped = Path(glob.escape(str(folder)))
                values[key] = [one if one == word else str(escaped / Path(one).expanduser()) for one in value]
        except RuntimeError:
            yield f"{settings[key].origin}: {key} = {shown(value)}: there is no such home directory"


def _whole_url(settings: Settings, values: dict[str, object]) -> Iterator[str]:
    """Put whole base URLs in the places of the given ones. Yields why one cannot be, without what it may hide."""
    for key in ("api.url", "embedder.url"):
        url = values.get(key)
        if not isinstance(url, str) or (key, url) == ("api.url", "embedded"):
            continue
        problem = _url_problem(key, url)
        if problem:
            yield f"{settings[key].origin}: {problem}"
        else:
            bare = "/" not in url.partition("://")[2].rstrip("/")
            values[key] = url.rstrip("/") + ("/v1.2" if bare and key == "api.url" else "")


def _url_problem(key: str, url: str) -> str | None:
    parts = _URL.fullmatch(url)
    if parts is None or not 1 <= int(parts["port"] or 443) <= 65_535:
        meant = "" if "/" in url or key != "api.url" else did_you_mean(url, ["embedded"], spelled=shown)
        return f"{key}: expected {_EXPECTED_URL[key]}, without user, password, query and fragment{meant}"
    if parts["scheme"].lower() != "https" and parts["host"].lower() not in _LOOPBACK:
        return f"{key}: https only, except to {', '.join(_LOOPBACK)}: the API key would travel in the clear"
    return None


def _inline_classes(settings: Settings) -> list[Labelled]:
    """The classes as they were given, also where one of them is wrong: the others' names still have to differ."""
    given = settings["job.classes"]
    classes = given.value if isinstance(given.value, list | tuple) else ()
    return [(f"{given.origin}: job.classes #{number}", entry) for number, entry in enumerate(classes, 1)]


def _filed_classes(path: Path, problems: list[str]) -> list[Labelled]:
    try:
        labelled = read_class_file(path)
    except ConfigError as error:
        problems += error.problems
        return []
    if not 1 <= len(labelled) <= MAX_CLASSES:
        problems.append(f"{shown_path(path)}: {len(labelled)} classes: expected 1 to {MAX_CLASSES}")
        return []
    wrong = (line for label, entry in labelled for line in table_problems(label, entry, ClassSection))
    problems += islice(wrong, MAX_PROBLEMS + 1)
    return labelled


# ----------------------------------------------------------------------------------------- rules that join several keys


def _broken_rules(
    settings: Settings, values: Mapping[str, object], labelled: list[Labelled], source: str
) -> Iterator[str]:
    given = {key for key, setting in settings.items() if setting.value not in (None, (), [])}
    if values.get("input.mode") == "index":
        yield from _broken_index_rules(settings, given)
    elif not given & {"input.ids", "input.index_id"}:
        yield f"{source}: no videos: set input.ids (or --ids FILE), or input.index_id"
    if not given & {"job.classes", "job.classes_file"}:
        yield f"{source}: no classes: set [[job.classes]] or job.classes_file"
    if given >= {"job.classes", "job.classes_file"}:
        yield f"{settings['job.classes_file'].origin}: job.classes_file: job.classes is given too; keep one of them"
    rate = values.get("limits.requests_per_second")
    if isinstance(rate, int | float) and 0 < rate < SLOWEST_RATE:
        origin = settings["limits.requests_per_second"].origin
        yield f"{origin}: limits.requests_per_second = {shown(rate)}: expected 0 (no pace) or at least {SLOWEST_RATE}"
    first: dict[str, str] = {}
    for label, entry in labelled:
        name = entry.get("name") if isinstance(entry, Mapping) else None
        if isinstance(name, str) and first.setdefault(name, label) != label:
            yield f"{label}.name = {shown(name)}: the name is taken by {first[name]}"


def _broken_index_rules(settings: Settings, given: set[str]) -> Iterator[str]:
    origin = settings["input.mode"].origin
    if "input.index_id" not in given:
        yield f'{origin}: input.mode = "index": input.index_id is missing: which index?'
    if "input.ids" in given:
        # Its silence about an id that it does not have would look as if nothing had matched.
        yield (
            f"{settings['input.ids'].origin}: input.ids: an index is answered whole, so no ids can be chosen; leave "
            'them out, or use input.mode = "videos"'
        )


# ------------------------------------------------------------------------------------------------ what others ask of it


def job_of(config: Config) -> Job:
    """What is asked of every video."""
    section = config.job
    threshold = section.threshold
    return Job(
        classes=tuple(JobClass(one.name, one.prompts, one.options, one.conversation_option) for one in section.classes),
        options=section.options,
        conversation_option=section.conversation_option,
        include_clips=section.include_clips,
        show_detailed_score=section.show_detailed_score,
        threshold=Threshold(threshold.min_video_score, threshold.min_clip_score, threshold.min_duration_ratio),
    )


def page_limit_of(config: Config) -> int:
    """Videos on a page, 1 to 50."""
    return config.job.page_limit or (PAGE_LIMIT_WITH_CLIPS if config.job.include_clips else MAX_PAGE_LIMIT)


def warnings_of(config: Config) -> list[str]:
    """What is allowed but hardly meant, a line each."""
    threshold = msgspec.structs.asdict(config.job.threshold)
    return [
        f"job.threshold.{name} is not set: the platform's default of {default} hides most rows; say what you want"
        for name, default in asdict(PLATFORM_THRESHOLD).items()
        if threshold[name] is None
    ]
