"""Cues of SubRip (SRT) and WebVTT files: when something is said or shown, and its words without markup.

Written here, because the libraries for these formats skip what they cannot read, and a cue that is skipped is a
sentence that nobody will ever find. A file is a sequence of blocks with blank lines between them; a block is a cue when
its first or second line has its times, and in WebVTT may be a note, a style or a region. Anything else is told with its
line. (WebVTT: https://www.w3.org/TR/webvtt1/; SubRip has no standard but its program's habits.)
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import dropwhile, pairwise
from typing import NamedTuple

_TIME = r"(?:(\d{1,5}):)?([0-5]?\d):([0-5]?\d)[.,](\d{1,3})"
_TIMES = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?:\s.*)?", re.ASCII)
_ARROW = "-->"
# Lines of a block; a file without a blank line is no file of cues.
_LONGEST_BLOCK = 1_000
# <i>, <c.yellow>, <v Speaker>, <00:01.000>, <font …>; {\an8} and the like are SubRip's. Nothing else, for people
# write a < b.
_MARKUP = re.compile(
    r"</?(?:[bciu](?:\.[^<>\s]*)?|[sp]|em|strong|ruby|rt|br\s*/?)>"
    r"|</?(?:v|lang|font|span)(?:\.[^<>\s]*)?(?:\s[^<>]*)?>"
    r"|<[0-9][0-9:.]*>"
    r"|\{\\[^{}]*\}",
    re.IGNORECASE,
)
_NO_CUE = re.compile(r"(?:NOTE|STYLE|REGION)(?:\s|$)")

_Block = list[tuple[int, str]]


class Cue(NamedTuple):
    """What is said or shown from one moment to another, in seconds."""

    start: float
    end: float
    text: str


def cues(lines: Iterable[tuple[int, str]], report: Callable[[int, str], None]) -> Iterator[Cue]:
    """The cues of numbered lines that have words. What is wrong is reported with its line, and reading goes on."""
    is_webvtt = False
    for place, block in enumerate(_blocks(lines)):
        is_header = place == 0 and block[0][1].startswith("WEBVTT")
        is_webvtt |= is_header
        for body in _parted(block, is_header=is_header) if is_webvtt else [block]:
            cue = _cue(body, report, body[0][0])
            if cue is not None and cue.text:
                yield cue


def _parted(block: _Block, *, is_header: bool) -> Iterator[_Block]:
    """The cues of a block of WebVTT: each line of times begins one, also below the header; in a note there is none."""
    if is_header:
        block = list(dropwhile(lambda numbered: _ARROW not in numbered[1], block[1:]))
    if not block or _NO_CUE.match(block[0][1]):
        return
    begins = [at for at, (_, line) in enumerate(block) if _TIMES.fullmatch(line)][1:]
    for first, beyond in pairwise([0, *begins, len(block)]):
        yield block[first:beyond]


def _blocks(lines: Iterable[tuple[int, str]]) -> Iterator[_Block]:
    block: _Block = []
    for number, line in lines:
        if line.strip() and len(block) < _LONGEST_BLOCK:
            block.append((number, line.strip()))
        elif block:
            yield block
            block = [(number, line.strip())] if line.strip() else []
    if block:
        yield block


def _cue(block: _Block, report: Callable[[int, str], None], number: int) -> Cue | None:
    """The cue of a block, whose times stand in its first line or below a name or number."""
    at = next((place for place, (_, line) in enumerate(block[:2]) if _ARROW in line), None)
    if at is None:
        report(
            number, f"expected a cue with times such as 00:01:02,500 {_ARROW} 00:01:04,000, not {_shown(block[0][1])}"
        )
        return None
    line_number, line = block[at]
    times = _TIMES.fullmatch(line)
    if times is None:
        report(line_number, f"times are written as 00:01:02,500 {_ARROW} 00:01:04,000, not {_shown(line)}")
        return None
    if within := next((one for one in block[at + 1 :] if _TIMES.fullmatch(one[1])), None):
        report(within[0], "a blank line must stand before the next cue")
        return None
    start, end = _seconds(*times.groups()[:4]), _seconds(*times.groups()[4:])
    if not start < end:
        report(line_number, f"the cue ends when or before it begins: {_shown(line)}")
        return None
    return Cue(start, end, _words(line for _, line in block[at + 1 :]))


def _seconds(hours: str | None, minutes: str, seconds: str, fraction: str) -> float:
    return int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + int(fraction.ljust(3, "0")) / 1000


def _words(lines: Iterable[str]) -> str:
    return " ".join(html.unescape(_MARKUP.sub("", " ".join(lines))).split())


def _shown(text: str) -> str:
    return ascii(text[:60]) + ("…" if len(text) > 60 else "")
