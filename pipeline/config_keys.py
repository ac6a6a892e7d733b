"""Every key of the configuration with its type, range and default, and the one check that is derived from them.

A key is declared once, as a field of a section; its range is part of its type. What a message calls 'expected', what
'did you mean' proposes and what the reference in ``docs/`` must list all come from these declarations, so that a new
key needs one line here and one there. The defaults are those of the local platform: no key, no pace, no quota.

Messages repeat a wrong value, shortened and with everything unprintable escaped, but for the keys in ``PRIVATE``.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, inspect

from pipeline.log import Level
from pipeline.models import MAX_PAGE_LIMIT, MAX_PROMPTS, ConversationOption
from pipeline.wire import Option
from pipeline.wording import escaped

MAX_CLASSES = 100_000
"""Classes in one job. Far beyond what a quota allows: it bounds what a wrong file can do."""
MAX_SHOWN = 60
"""Characters of a value or a key that a message repeats."""
MAX_PATH_SHOWN = 1_000
"""Characters of a path that a message repeats."""

# Line breaks and other control characters cannot be meant, and a lone surrogate cannot be sent.
Text = Annotated[
    str,
    Meta(
        pattern=r"\A(?=.*\S)[^\x00-\x1f\x7f-\x9f\ud800-\udfff]*\Z",
        description="a text that is not blank and has no control characters",
    ),
]
RunName = Annotated[
    str,
    Meta(
        pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z",
        description="up to 100 letters, digits, '.', '_' and '-', the first a letter or digit",
    ),
]
# Capitals only, which an API key pasted here by mistake is not.
VariableName = Annotated[
    str,
    Meta(
        pattern=r"\A[A-Z_][A-Z0-9_]{0,99}\Z",
        description="the name of an environment variable, in capitals (never the key itself)",
    ),
]
Options = Annotated[tuple[Option, ...], Meta(min_length=1)]
Score = Annotated[float, Meta(ge=1, le=100)]
Seconds = Annotated[float, Meta(ge=1, le=604_800)]
Count = Annotated[int, Meta(ge=0, le=1_000_000_000)]
Tariff = Literal["v1.1", "v1.2-free", "v1.2-developer", "none"]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all sections are: immutable, and closed to keys that nobody declared."""


class ClassSection(Section, frozen=True, kw_only=True):
    """A class to look for; None takes the job's own options."""

    name: Text
    prompts: Annotated[tuple[Text, ...], Meta(min_length=1, max_length=MAX_PROMPTS)]
    options: Options | None = None
    conversation_option: ConversationOption | None = None


class ThresholdSection(Section, frozen=True, kw_only=True):
    """What an answer must reach to be returned; None leaves the platform's default."""

    min_video_score: Score | None = None
    min_clip_score: Score | None = None
    min_duration_ratio: Annotated[float, Meta(ge=0.01, le=1)] | None = None


class JobSection(Section, frozen=True, kw_only=True):
    """What is asked of every video. Once loaded, ``classes`` is filled and ``classes_file`` is None."""

    options: Options
    conversation_option: ConversationOption = "semantic"
    include_clips: bool = False
    show_detailed_score: bool = False
    page_limit: Annotated[int, Meta(ge=1, le=MAX_PAGE_LIMIT)] | None = None
    classes: Annotated[tuple[ClassSection, ...], Meta(max_length=MAX_CLASSES)] = ()
    classes_file: Text | None = None
    threshold: ThresholdSection = ThresholdSection()


class InputSection(Section, frozen=True, kw_only=True):
    """Where the video ids come from: absolute glob patterns of files, ``-`` for stdin, or an index of the platform."""

    ids: tuple[Text, ...] = ()
    index_id: Text | None = None
    mode: Literal["videos", "index"] = "videos"
    on_bad_line: Literal["refuse", "skip"] = "refuse"


class ApiSection(Section, frozen=True, kw_only=True):
    """Who answers: ``embedded`` (the local platform, over ``index``) or a base URL with its version path."""

    url: Text = "embedded"
    index: Text = "quickstart"
    key_env: VariableName | None = None
    key_file: Text | None = None
    account: Text | None = None
    ca_file: Text | None = None
    request_timeout_seconds: Annotated[float, Meta(ge=1, le=86_400)] = 600.0


class EmbedderSection(Section, frozen=True, kw_only=True):
    """The server that embeds prompts for the local platform's index, where its vectors need one."""

    url: Text | None = None
    model: Text | None = None
    key_env: VariableName | None = None
    key_file: Text | None = None


class LimitsSection(Section, frozen=True, kw_only=True):
    """How fast, how much, how long. 0 means no limit, except where the range starts at 1."""

    tariff: Tariff = "none"
    requests_per_second: Annotated[float, Meta(ge=0, le=10_000)] = 0.0
    pages_paced: bool = False
    posts_per_window: Count = 0
    window_seconds: Annotated[int, Meta(ge=1, le=31_536_000)] = 86_400
    on_quota: Literal["wait", "stop"] = "wait"
    concurrency: Annotated[int, Meta(ge=1, le=1024)] = 8
    max_videos_per_post: Count = 0
    default_videos_per_post: Annotated[int, Meta(ge=1, le=100_000)] = 20
    max_posts: Count = 0
    max_unknown_posts: Annotated[int, Meta(ge=1, le=1_000_000)] = 3
    max_bisect_posts: Annotated[int, Meta(ge=0, le=1_000_000)] = 64
    give_up_after_seconds: Seconds = 1800.0
    drain_seconds: Annotated[float, Meta(ge=0, le=86_400)] = 25.0
    max_response_bytes: Annotated[int, Meta(ge=65_536, le=2_147_483_648)] = 67_108_864
    reserve_bytes: Annotated[int, Meta(ge=0, le=1_125_899_906_842_624)] = 67_108_864


class OutputSection(Section, frozen=True, kw_only=True):
    """Where the rows go, an absolute directory, and what else is told of the run."""

    dir: Text = "runs/{name}"
    keep_signed_urls: bool = False
    log_level: Level = "info"
    metrics_file: Text | None = None


class NotifySection(Section, frozen=True, kw_only=True):
    """What is started at every stop: a program and its arguments."""

    command: Annotated[tuple[Text, ...], Meta(min_length=1)] | None = None


class Config(Section, frozen=True, kw_only=True):
    """The whole configuration of a run. It holds no secret."""

    name: RunName = "run"
    job: JobSection
    input: InputSection = InputSection()
    api: ApiSection = ApiSection()
    embedder: EmbedderSection = EmbedderSection()
    limits: LimitsSection = LimitsSection()
    output: OutputSection = OutputSection()
    notify: NotifySection = NotifySection()


_DAY = 86_400
TARIFFS: Mapping[Tariff, Mapping[str, object]] = MappingProxyType(
    {
        # Version 1.1: one call a second and key, the GETs of pages among them.
        "v1.1": {"requests_per_second": 1.0, "pages_paced": True, "posts_per_window": 0, "window_seconds": _DAY},
        # Version 1.2: POSTs in 24 hours; pages after the first are free.
        "v1.2-free": {"requests_per_second": 0.0, "pages_paced": False, "posts_per_window": 20, "window_seconds": _DAY},
        "v1.2-developer": {
            "requests_per_second": 1.0,
            "pages_paced": False,
            "posts_per_window": 1200,
            "window_seconds": _DAY,
        },
        "none": {"requests_per_second": 0.0, "pages_paced": False, "posts_per_window": 0, "window_seconds": _DAY},
    }
)
"""What each tariff says of ``limits``: the vendor's published limits."""

PRIVATE = frozenset(
    {
        "api.url",
        "api.key_env",
        "api.key_file",
        "embedder.url",
        "embedder.key_env",
        "embedder.key_file",
        "notify.command",
    }
)
"""Keys whose values may hold a credential, by mistake or by design: no message repeats them."""


def _leaves(section: type[msgspec.Struct], prefix: str = "") -> Iterator[tuple[str, msgspec.structs.FieldInfo]]:
    for field in msgspec.structs.fields(section):
        key = prefix + field.name
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from _leaves(field.type, f"{key}.")
        else:
            yield key, field


KEYS: Mapping[str, msgspec.structs.FieldInfo] = MappingProxyType(dict(_leaves(Config)))
"""Every key by its dotted name, in the order of the sections."""
SECTIONS = frozenset(key.rpartition(".")[0] for key in KEYS) - {""}
"""The dotted names of the sections."""


def fits(value: object, annotation: object) -> bool:
    """Whether a value can stand where the type is asked for. Text is never taken for a number, nor 1 for true."""
    try:
        msgspec.convert(value, annotation)
    except (ValueError, RecursionError):  # A lone surrogate is no ValidationError, but a ValueError too.
        return False
    return True


def problems_of(key: str, value: object, annotation: object) -> Iterator[str]:
    """What is wrong with a value, a line each: one for a scalar or a list, one for each wrong field of a table."""
    if fits(value, annotation):
        return
    info = _bare(inspect.type_info(annotation))
    item = info.item_type if isinstance(info, inspect.VarTupleType) else None
    found_inside = False
    if isinstance(value, list | tuple) and isinstance(item, inspect.StructType):
        for number, entry in enumerate(value, 1):
            for line in table_problems(f"{key} #{number}", entry, item.cls):
                found_inside = True
                yield line
    if not found_inside:
        said = key if key in PRIVATE else f"{key} = {shown(value)}"
        yield f"{said}: expected {_expected(info)}{_literal_meant(value, info)}"


def table_problems(label: str, value: object, section: type[msgspec.Struct]) -> Iterator[str]:
    """What is wrong with the fields of one table, a line each."""
    if fits(value, section):
        return
    if not isinstance(value, Mapping):
        yield f"{label} = {shown(value)}: expected a table with {_quoted(section.__struct_fields__)}"
        return
    fields = {field.name: field for field in msgspec.structs.fields(section)}
    for name in value:
        if name not in fields:
            yield f"{label}.{shown_key(str(name))}: unknown key{did_you_mean(str(name), fields)}"
    for name, field in fields.items():
        if name in value:
            yield from problems_of(f"{label}.{name}", value[name], field.type)
        elif field.required:
            yield missing(f"{label}.{name}", field)


def choices(key: str) -> list[str]:
    """The words that a key may hold, as TOML writes them, where it holds one of a few; else none."""
    if key not in KEYS:
        return []
    match _bare(inspect.type_info(KEYS[key].type)):
        case inspect.BoolType():
            return ["true", "false"]
        case inspect.LiteralType(values=values):
            return [str(value) for value in values]
    return []


def missing(key: str, field: msgspec.structs.FieldInfo) -> str:
    """That a key without a default is not there."""
    return f"{key}: missing; expected {_expected(inspect.type_info(field.type))}"


def _expected(info: inspect.Type) -> str:
    info = _bare(info)
    match info:
        case inspect.Metadata(extra_json_schema={"description": str(words)}):
            return words
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType(ge=low, le=high) | inspect.FloatType(ge=low, le=high):
            return f"{'an integer' if isinstance(info, inspect.IntType) else 'a number'} from {low} to {high}"
        case inspect.LiteralType(values=values):
            return _quoted(values, last=" or ")
        case inspect.VarTupleType(item_type=item, min_length=least, max_length=most):
            if most is None:
                count = " of at least one entry" if least else ""
            else:
                count = f" of {least or 0} to {most} entries"
            return f"a list{count}, each {_expected(item)}"
        case inspect.StructType(cls=section):
            return f"a table with {_quoted(section.__struct_fields__)}"
    raise AssertionError(f"a configuration key has a type that messages cannot name: {info}")


def _bare(info: inspect.Type) -> inspect.Type:
    """The type itself, where it says 'or None'."""
    if isinstance(info, inspect.UnionType):
        return next(one for one in info.types if not isinstance(one, inspect.NoneType))
    return info


def _literal_meant(value: object, info: inspect.Type) -> str:
    item = info.item_type if isinstance(info, inspect.VarTupleType) else info
    if not isinstance(item, inspect.LiteralType):
        return ""
    entries = value if isinstance(value, list | tuple) else [value]
    wrong = (entry for entry in entries if isinstance(entry, str) and entry not in item.values)
    return next((did_you_mean(entry, item.values, spelled=shown) for entry in wrong), "")


def _quoted(words: Sequence[object], *, last: str = ", ") -> str:
    quoted = [f'"{word}"' for word in words]
    return last.join([*([", ".join(quoted[:-1])] if quoted[1:] else []), quoted[-1]])


def did_you_mean(wrong: str, known: Iterable[object], *, spelled: Callable[[str], str] = str) -> str:
    """The nearest known word as the end of a message, written by ``spelled``; empty where none is near."""
    words = [str(word) for word in known]
    # A key that is right but for its section, such as 'concurrency' at the top level.
    same_ending = [word for word in words if word.rpartition(".")[2] == wrong.rpartition(".")[2]]
    near = same_ending or difflib.get_close_matches(wrong[:MAX_SHOWN].lower(), words, n=1, cutoff=0.75)
    return f"; did you mean {spelled(near[0])}?" if near else ""


def shown_key(key: str) -> str:
    """A key as a message repeats it: shortened, and nothing in it that a terminal would obey."""
    return _shortened(escaped(key[: MAX_SHOWN + 1]))


def shown_path(path: Path) -> str:
    """A path as a message repeats it: whole, unless it is longer than any that is meant, and escaped as a key is."""
    return _shortened(escaped(str(path)[: MAX_PATH_SHOWN + 1]), MAX_PATH_SHOWN)


def shown(value: object) -> str:
    """A value as a message repeats it: as TOML would write it, at most 60 characters."""
    if isinstance(value, list | tuple):
        return _shortened("[" + ", ".join(_written(entry) for entry in value[:MAX_SHOWN]) + "]")
    return _shortened(_written(value))


def _written(value: object) -> str:
    match value:
        case str():
            return f'"{escaped(value[: MAX_SHOWN + 1])}"'
        case bool():
            return str(value).lower()
        case int() if abs(value) >= 10**MAX_SHOWN:
            return hex(value)  # str() refuses the largest
        case list() | tuple():
            return "[…]"
        case Mapping():
            return "{…}"
    return str(value)


def _shortened(text: str, longest: int = MAX_SHOWN) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
