"""Where settings come from: a TOML file, the environment, the command line. Each is spread into dotted keys.

Sources are taken from the weakest to the strongest, each over the ones before, and every key remembers who set it and
from which folder a relative path in it starts. Nothing is judged here but names: a key that nobody declared, and an API
key among the settings, which is refused without being repeated.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pipeline.api_key import KEY_VARIABLES
from pipeline.config_keys import KEYS, SECTIONS, did_you_mean, fits, shown_key, shown_path
from pipeline.errors import ConfigError

PREFIX = "BULK_CLASSIFY_"
"""How the variables that set keys begin: ``BULK_CLASSIFY_LIMITS__CONCURRENCY`` sets ``limits.concurrency``."""
OPTIONS: Mapping[str, str] = MappingProxyType(
    {"--ids": "input.ids", "--out": "output.dir", "--api-url": "api.url", "--log-level": "output.log_level"}
)
"""The command line's own options, each with the key that it sets."""
MAX_PROBLEMS = 100
"""Lines of one error."""
MAX_SAID = 300
"""Characters of what a parser says, which may repeat a key whole."""
MAX_FILE_BYTES = 64 * 1024 * 1024
"""Bytes of a configuration or class file: far above any job's, so that a device or a wrong path ends."""

PLATFORM_KEY = PREFIX + "PLATFORM_KEY"
"""A variable of the local platform's, which is no setting of a run."""
_NEVER_A_KEY = (
    "an API key never goes into a file, a setting or a command line: take it out, rotate it, "
    f"and set {KEY_VARIABLES[0]} in the environment (or api.key_env, or api.key_file)"
)
_VENDOR_KEY = re.compile(r"tlk_[A-Za-z0-9]{12}")
_VERSION = re.compile(r"/v[0-9][0-9.]*/?\Z")


@dataclass(frozen=True, slots=True)
class Setting:
    """A value as it was given, by whom, and the folder that a relative path in it starts from."""

    value: object
    origin: str
    folder: Path


Settings = dict[str, Setting]


def read_toml(path: Path) -> dict[str, object]:
    """A TOML file. Raises ``ConfigError`` with file and line."""
    text = read_text(path)
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError([f"{shown_path(path)}: nested too deeply"]) from None
    except ValueError as error:
        place = re.search(r" \(at line (\d+), column (\d+)\)\Z", str(error))
        line = f":{place[1]}" if place else ""
        said = str(error)
        said = said if len(said) <= MAX_SAID else f"{said[: MAX_SAID - 1]}…"
        raise ConfigError([f"{shown_path(path)}{line}: not valid TOML: {said}"]) from None


def read_text(path: Path) -> str:
    """A file as text: UTF-8, with or without a byte order mark."""
    try:
        with path.open("rb") as file:
            body = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError([f"{shown_path(path)}: cannot be read: {reason}"]) from None
    if len(body) > MAX_FILE_BYTES:
        raise ConfigError([f"{shown_path(path)}: larger than {MAX_FILE_BYTES} bytes"])
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{shown_path(path)}:{line}: not UTF-8"]) from None


def parse_set(text: str) -> tuple[str, object]:
    """A ``--set key=value``: the dotted key and its value. Raises ``ConfigError`` where there is no ``=``."""
    key, equals, value = text.partition("=")
    if not (key.strip() and equals):
        raise ConfigError(["--set: expected key=value, such as limits.concurrency=4"])
    return key.strip(), typed(key.strip(), value.strip())


def typed(key: str, text: str) -> object:
    """A value given as text: what TOML reads in it, or the text itself where that is none or does not fit the key.

    So an id of digits stays an id, and a path needs no quotes.
    """
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    if table.keys() != {"value"}:  # A line break in the text began another key.
        return text
    field = KEYS.get(key)
    if field is not None and fits(text, field.type) and not fits(table["value"], field.type):
        return text
    value: object = table["value"]
    return value


def take_sources(
    settings: Settings, path: Path | None, flags: Mapping[str, object], environment: Mapping[str, str], here: Path
) -> list[str]:
    """Each source over the one before, and below all of them what other programs' variables and the file's name say."""
    problems: list[str] = []
    if path is not None:
        problems += take(settings, read_toml(path), shown_path(path), here / path.parent)
    for name, text in environment.items():
        if name.startswith(PREFIX) and name != PLATFORM_KEY:
            key = name.removeprefix(PREFIX).lower().replace("__", ".")
            problems += take(settings, {key: typed(key, text)}, shown_key(name), here)
    problems += take_flags(settings, flags, here)
    base = environment.get("TWELVELABS_BASE_URL", "")
    if base:
        settings.setdefault("api.url", Setting(_as_the_sdks_do(base), "TWELVELABS_BASE_URL", here))
    if path is not None:
        settings.setdefault("name", Setting(_name_of(path), "default", here))
    embedded = "api.url" not in settings or settings["api.url"].value == "embedded"
    settings.setdefault("limits.tariff", Setting("none" if embedded else "v1.2-developer", "default", here))
    return problems


def take(settings: Settings, tree: Mapping[str, object], origin: str, folder: Path, prefix: str = "") -> list[str]:
    """Spread a source into ``settings``, over what is there. Returns what it names that is no key."""
    problems: list[str] = []
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, str) and _VENDOR_KEY.search(value):
            problems.append(f"{origin}: {shown_key(key)}: {_NEVER_A_KEY}")
        elif key in KEYS:
            settings[key] = Setting(value, origin, folder)
        elif key not in SECTIONS:
            problems.append(f"{origin}: {_unknown(key, origin)}")
        elif isinstance(value, Mapping):
            problems += take(settings, value, origin, folder, f"{key}.")
        else:
            problems.append(f"{origin}: {key}: expected a section, [{key}]")
        if len(problems) > MAX_PROBLEMS:
            break
    return problems


def take_flags(settings: Settings, flags: Mapping[str, object], here: Path) -> list[str]:
    """Take what the command line says; None and an empty tuple stand for an option that was not used."""
    problems: list[str] = []
    for flag, value in flags.items():
        if value is not None and value != ():
            origin = flag if flag in OPTIONS else "--set"
            problems += take(settings, {OPTIONS.get(flag, flag): value}, origin, here)
    return problems


def _unknown(key: str, origin: str) -> str:
    last = re.sub(r"[^a-z]", "", key.lower().rpartition(".")[2])
    if last in ("key", "token", "secret", "password") or last.endswith("apikey"):
        return f"{shown_key(key)}: {_NEVER_A_KEY}"
    if origin.startswith(PREFIX):
        return f"unknown key{did_you_mean(key, KEYS, spelled=_variable)}"
    return f"{shown_key(key)}: unknown key{did_you_mean(key, KEYS)}"


def _variable(key: str) -> str:
    return PREFIX + key.upper().replace(".", "__")


def _as_the_sdks_do(url: str) -> str:
    """The vendor's SDKs add the version to whatever ``TWELVELABS_BASE_URL`` says."""
    return url if _VERSION.search(url) else url.rstrip("/") + "/v1.2"


def _name_of(path: Path) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._")[:100] or "run"
