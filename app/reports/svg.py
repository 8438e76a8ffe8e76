"""Small SVG parts for the report's pictures: scales, ticks, text. Colours come from the page's style sheet.

Everything returned is `Markup`: numbers are formatted here, words are escaped by `Markup.format`.
"""

import math
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

Anchor = Literal["start", "middle", "end"]
EMPTY = Markup("")


@dataclass(frozen=True)
class Scale:
    """A straight map from data (`low` to `high`) to pixels (`start` to `end`)."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        span = self.high - self.low
        share = (value - self.low) / span if span else 0.5
        return self.start + share * (self.end - self.start)


def number(value: float) -> str:
    """A coordinate with at most one decimal: pages stay small."""
    return f"{value:.1f}".removesuffix(".0")


def join(parts: Iterable[Markup]) -> Markup:
    """Parts one after the other."""
    return EMPTY.join(parts)


def svg(width: float, height: float, label: str, *parts: Markup, css: str = "chart") -> Markup:
    """A picture that scales with its column up to its own size; `label` is read out in its place."""
    return Markup(
        '<svg class="{}" viewBox="0 0 {} {}" width="{}" height="{}" role="img" aria-label="{}">{}</svg>'
    ).format(css, number(width), number(height), number(width), number(height), label, join(parts))


def text(x: float, y: float, content: str, *, css: str = "tick", anchor: Anchor = "middle", turn: float = 0) -> Markup:
    """A line of text, turned by `turn` degrees about its anchor."""
    place = Markup(' transform="rotate({} {} {})"').format(number(turn), number(x), number(y)) if turn else EMPTY
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}"{}>{}</text>').format(
        css, number(x), number(y), anchor, place, content
    )


def line(x1: float, y1: float, x2: float, y2: float, css: str = "grid") -> Markup:
    """A straight line."""
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(
        css, number(x1), number(y1), number(x2), number(y2)
    )


def rect(x: float, y: float, width: float, height: float, css: str, *, opacity: float = 1, title: str = "") -> Markup:
    """A rectangle, with a tooltip if there is a `title`."""
    inner = Markup("<title>{}</title>").format(title) if title else EMPTY
    shade = Markup(' fill-opacity="{}"').format(f"{opacity:.2f}") if opacity < 1 else EMPTY
    return Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"{}>{}</rect>').format(
        css, number(x), number(y), number(max(width, 0)), number(max(height, 0)), shade, inner
    )


def circle(x: float, y: float, radius: float, css: str, *, title: str = "") -> Markup:
    """A dot."""
    inner = Markup("<title>{}</title>").format(title) if title else EMPTY
    return Markup('<circle class="{}" cx="{}" cy="{}" r="{}">{}</circle>').format(
        css, number(x), number(y), number(radius), inner
    )


def polyline(points: list[tuple[float, float]], css: str) -> Markup:
    """Points joined by straight lines."""
    path = " ".join(f"{number(x)},{number(y)}" for x, y in points)
    return Markup('<polyline class="{}" points="{}"/>').format(css, path)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers (1, 2, 2.5 or 5 times a power of ten apart) that cover `low` to `high`."""
    span = max(high - low, 1e-9)
    rough = span / max(count, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-6), math.ceil(high / step - 1e-6)
    return [round(index * step, 10) for index in range(first, last + 1)]


def columns(content: str) -> int:
    """How many character cells a name takes; East Asian wide characters take two."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in content)


def shorten(content: str, limit: int) -> str:
    """A name in at most `limit` character cells, cut in the middle, where file and class names differ least."""
    if columns(content) <= limit:
        return content
    head, tail = content, ""
    while columns(head) + columns(tail) > limit - 1:
        head = head[:-1]
        if columns(tail) < limit // 3:
            tail = content[-len(tail) - 1 :]
    return f"{head}…{tail}"
