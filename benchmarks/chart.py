"""A few lines on logarithmic axes as an SVG, two panels side by side, for light and dark pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

WIDTH, HEIGHT, LEFT, TOP, BOTTOM, RIGHT = 350, 270, 58, 52, 42, 34
COLOURS = ("#0b72b9", "#c2570c")
IN_A_ROW = 2
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #444 } .grid { stroke: #8884; stroke-width: 1 }
path { fill: none; stroke-width: 2 } @media (prefers-color-scheme: dark) { text { fill: #bbb } }
"""


@dataclass(frozen=True, slots=True)
class Line:
    """A named line through points; all numbers are above 0."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines over the same axes, with what those count."""

    across: str
    up: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Scale:
    """From numbers, whole decades of them, to places on paper."""

    low: int
    high: int
    start: float
    end: float

    @classmethod
    def over(cls, numbers: Sequence[float], start: float, end: float) -> Scale:
        low, high = floor(log10(min(numbers))), ceil(log10(max(numbers)))
        return cls(low, max(high, low + 1), start, end)

    def __call__(self, number: float) -> float:
        return self.start + (log10(number) - self.low) / (self.high - self.low) * (self.end - self.start)

    @property
    def decades(self) -> list[float]:
        return [10.0**power for power in range(self.low, self.high + 1)]


def drawn(panels: Sequence[Panel]) -> str:
    """The SVG."""
    rows = ceil(len(panels) / IN_A_ROW)
    places = [(number % IN_A_ROW * WIDTH, number // IN_A_ROW * HEIGHT) for number in range(len(panels))]
    parts = [
        f'<g transform="translate({x} {y})">{"".join(_parts(panel))}</g>'
        for panel, (x, y) in zip(panels, places, strict=True)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {IN_A_ROW * WIDTH} {rows * HEIGHT}" role="img">\n'
        f"<style>{STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _parts(panel: Panel) -> Iterator[str]:
    points = [point for line in panel.lines for point in line.points]
    across = Scale.over([x for x, _ in points], LEFT, WIDTH - RIGHT)
    up = Scale.over([y for _, y in points], HEIGHT - BOTTOM, TOP)
    for decade in across.decades:
        x = across(decade)
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        yield f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{_shown(decade)}</text>'
    for decade in up.decades:
        y = up(decade)
        yield f'<line class="grid" x1="{across.start}" x2="{across.end}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{across.start - 6}" y="{y + 4:.1f}" text-anchor="end">{_shown(decade)}</text>'
    middle = (across.start + across.end) / 2
    yield f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(panel.across)}</text>'
    for number, (line, colour) in enumerate(zip(panel.lines, COLOURS, strict=False)):
        path = " L".join(f"{across(x):.1f} {up(y):.1f}" for x, y in line.points)
        yield f'<path d="M{path}" stroke="{colour}"/>'
        label = escape(f"{line.name} ({panel.up})")
        yield f'<text x="{across.start}" y="{16 + 16 * number}" style="fill: {colour}">{label}</text>'


def _shown(decade: float) -> str:
    return f"{decade:,.0f}" if decade >= 1 else f"{decade:g}"
