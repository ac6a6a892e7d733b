"""Ways to spoil a document: its bytes, or the tree behind them before it is written.

A tree is what ``json`` reads, and two things besides that no reader ever returns: ``Raw``, written as it stands, and
``Pairs``, an object that may say a name twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

Tree = Any
_Path = tuple[int, ...]


class Raw(NamedTuple):
    """Text that stands in a document as it is."""

    text: str


class Pairs(NamedTuple):
    """An object by its pairs; names may repeat."""

    pairs: tuple[tuple[str, Tree], ...]


WILD_TEXTS = (
    *(
        "",
        " ",
        "\0",
        "\r",
        "a\nb",
        "\x1b[31mred",
        "\x7f\x85",
        "\u2028",
        "\u202eevil",
        "\ufeff",
        "\ud800",
        "\udc80\ud800",
    ),
    *("\U0001f600", "e\u0301", "..", "/", "~nobody/x", "{name}", "*", "-", "null", "true", "1", "NaN", "é" * 40),
    "x" * 5_000,
)
WILD_VALUES: tuple[Tree, ...] = (
    *(None, True, False, 0, -1, 1, 2, 100, 101, 0.5, -0.0, 1e-320, 1e308, 2.5e9, [], {}, [[]], [None], {"": None}),
    *(2**31, 2**53, 2**53 + 1, -(2**53) - 1, 2**63, -(2**63) - 1, 2**64, 10**30, {"video_id": "v1"}),
    *map(Raw, ("NaN", "-Infinity", "inf", "nan", "1e400", "-1e400", "9" * 400, "9" * 5_000, "0x" + "f" * 9_000)),
    *map(Raw, ('"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"', '"\\x"', '"', "'a'", '"""a\nb"""')),
    *map(Raw, ("", "01", "1.", "+1", "-", "0.1" * 9, "tru", "//\n1")),
    *map(Raw, ("1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", "9999-12-31T23:59:59-23:59", "2026-02-30")),
    *map(Raw, ("[" * 300 + "]" * 300, "[" * 3_000, '{"a":' * 1_500 + "1" + "}" * 1_500, "{a=" * 300 + "1" + "}" * 300)),
)
FRAGMENTS = (
    *(b"\0", b"\r", b"\r\n", b"\n", b"\n\n", b"\t", b" ", b'"', b'""', b'"""', b"'", b",", b";", b":", b"#", b"="),
    *(b"\\", b"\\u", b"\\ud800", b"{", b"}", b"[", b"]", b"]]", b"[[", b"-", b"+", b"e9", b"1e999", b"NaN", b"null"),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\x85", b"\xc2\x85"),
    *(b"\xe2\x80\xa8", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1", b"\0\0\0\0", b"\xff\xff\xff\xff", b"true"),
    *(b"<!DOCTYPE html>", b"video_id"),
)


def text_of(draw: Random) -> str:
    """Text of any kind, now and then wild."""
    if draw.random() < 0.4:
        return draw.choice(WILD_TEXTS)
    return "".join(
        chr(draw.choice((draw.randrange(32, 127), draw.randrange(1, 0x3000)))) for _ in range(draw.randrange(9))
    )


def value_of(draw: Random) -> Tree:
    """A value that is hardly ever the one that is due."""
    match draw.randrange(4):
        case 0:
            return text_of(draw)
        case 1:
            return draw.choice(
                (
                    draw.randrange(-9, 200),
                    draw.uniform(-1, 101),
                    10 ** draw.randrange(40),
                    10.0 ** draw.randrange(-330, 309),
                )
            )
    return draw.choice(WILD_VALUES)


# -------------------------------------------------------------------------------------------------------------- trees


def spoilt(draw: Random, tree: Tree) -> Tree:
    """The tree with one place in it changed: another value, none, twice, wrapped, or that of another place."""
    places = list(_places(tree))
    return _changed(
        tree, draw.choice(places), lambda old: _spoilt_node(draw, old, lambda: _at(tree, draw.choice(places)))
    )


def _spoilt_node(draw: Random, old: Tree, elsewhere: Callable[[], Tree]) -> Tree:
    match draw.randrange(10):
        case 0:
            return elsewhere()
        case 1:
            return [old]
        case 2:
            return {draw.choice(("", "name", "video_id", text_of(draw))): old}
        case 3 | 4 | 5 if isinstance(old, dict) and old:
            return _spoilt_object(draw, old)
        case 3 | 4 | 5 if isinstance(old, list) and old:
            return _spoilt_list(draw, old)
    return value_of(draw)


def _spoilt_object(draw: Random, old: Mapping[str, Tree]) -> Tree:
    pairs = list(old.items())
    at = draw.randrange(len(pairs))
    name, value = pairs[at]
    match draw.randrange(4):
        case 0:
            del pairs[at]
        case 1:
            pairs[at] = text_of(draw), value
        case 2:
            pairs.append((text_of(draw), value_of(draw)))
        case _:
            pairs.insert(draw.randrange(len(pairs) + 1), (name, draw.choice((value, value_of(draw)))))
    return Pairs(tuple(pairs))


def _spoilt_list(draw: Random, old: Sequence[Tree]) -> Tree:
    at = draw.randrange(len(old))
    return draw.choice(
        (
            [*old[:at], *old[at + 1 :]],
            [*old, old[at]],
            [*old, value_of(draw)],
            [*old[::-1]],
            [*old] * draw.choice((2, 60)),
        )
    )


def _children(tree: Tree) -> list[Tree]:
    match tree:
        case dict():
            return list(tree.values())
        case list():
            return tree
        case Pairs(pairs):
            return [value for _, value in pairs]
    return []


def _places(tree: Tree, path: _Path = ()) -> Iterator[_Path]:
    yield path
    for number, child in enumerate(_children(tree)):
        yield from _places(child, (*path, number))


def _at(tree: Tree, path: _Path) -> Tree:
    for number in path:
        tree = _children(tree)[number]
    return tree


def _changed(tree: Tree, path: _Path, change: Callable[[Tree], Tree]) -> Tree:
    if not path:
        return change(tree)
    number, *rest = path
    children = list(_children(tree))
    children[number] = _changed(children[number], tuple(rest), change)
    match tree:
        case dict():
            return dict(zip(tree, children, strict=True))
        case Pairs(pairs):
            return Pairs(tuple((name, child) for (name, _), child in zip(pairs, children, strict=True)))
    return children


def json_text(tree: Tree, *, ascii_only: bool = True, space: str = "") -> str:
    """A tree as JSON; valid only where it has no ``Raw``."""

    def written(node: Tree) -> str:
        match node:
            case Raw(text):
                return text
            case Pairs(pairs):
                return "{" + ",".join(f"{named(name)}:{space}{written(value)}" for name, value in pairs) + "}"
            case dict():
                return "{" + ",".join(f"{named(name)}:{space}{written(value)}" for name, value in node.items()) + "}"
            case list():
                return "[" + f",{space}".join(map(written, node)) + "]"
        return named(node)

    named = json.JSONEncoder(ensure_ascii=ascii_only).encode
    return written(tree)


def json_bytes(draw: Random, tree: Tree) -> bytes:
    """A tree as JSON in bytes, with whatever its author's encoder might choose."""
    text = json_text(tree, ascii_only=draw.random() < 0.5, space=draw.choice(("", "", " ")))
    return text.encode("utf-8", "surrogatepass")


# -------------------------------------------------------------------------------------------------------------- bytes


def mutated(draw: Random, body: bytes, other: bytes = b"") -> bytes:
    """The bytes with one to four changes; ``other`` is what may be spliced in."""
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        body = _mutated_once(draw, body, other)
    return body


def _mutated_once(draw: Random, body: bytes, other: bytes) -> bytes:
    start = draw.randrange(len(body) + 1)
    end = min(len(body), start + draw.choice((1, 1, 2, 8, 64, 4096)))
    before, part, after = body[:start], body[start:end], body[end:]
    match draw.randrange(9):
        case 0:
            part = after = b""
        case 1:
            part = b""
        case 2:
            part *= draw.choice((2, 3, 70))
        case 3:
            part = bytes(byte ^ 1 << draw.randrange(8) for byte in part[:1]) + part[1:]
        case 4:
            part = draw.randbytes(1) + part[1:]
        case 5:
            part, after = b"", other[draw.randrange(len(other) + 1) :]
        case 6:
            part = draw.randbytes(draw.randrange(9)) + part
        case 7 if draw.random() < 0.05:
            part = draw.choice(FRAGMENTS) * draw.choice((300, 20_000)) + part
        case _:
            part = draw.choice(FRAGMENTS) + draw.choice((b"", part))
    return before + part + after
