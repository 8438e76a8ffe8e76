"""The reliability diagram: how often the model is right when it says so and so much per cent."""

from markupsafe import Markup

from app.reports.svg import Scale, join, line, rect, svg, text
from app.reports.words import percent, things
from core.contract.reports import ReliabilityBin

BINS = 15
FEW = 5
"""Bars of fewer items are drawn pale."""
LEFT, TOP, SIDE, BELOW = 46.0, 10.0, 300.0, 54.0


def reliability_chart(bins: list[ReliabilityBin]) -> Markup:
    """Bars of accuracy against the diagonal of a perfectly calibrated model; below, how many items each bar holds."""
    x, y = Scale(0, 1, LEFT, LEFT + SIDE), Scale(0, 1, TOP + SIDE, TOP)
    filled = [found for found in bins if found.count]
    floor = TOP + SIDE + 34 + BELOW
    counts = Scale(0, max((found.count for found in filled), default=1), 0, BELOW)
    parts = [
        _grid(x, y),
        join(_bar(x, y, found) for found in filled),
        join(_tally(x, counts, floor, found) for found in filled),
        line(x(0), y(0), x(1), y(1), "ideal"),
        line(LEFT, floor, LEFT + SIDE, floor, "base"),
        text(LEFT - 8, floor - BELOW / 2 + 4, "items", anchor="end"),
        text(LEFT + SIDE / 2, floor + 18, "confidence", css="axis"),
    ]
    return svg(LEFT + SIDE + 26, floor + 26, "Reliability diagram: accuracy against confidence", *parts)


def _bar(x: Scale, y: Scale, found: ReliabilityBin) -> Markup:
    """Accuracy as a thick line, what model and truth agree on below it, and the gap between the two."""
    left, width = _place(x, found)
    few = "" if found.count >= FEW else " few"
    high, low = y(max(found.accuracy, found.confidence)), y(min(found.accuracy, found.confidence))
    bar = rect(left, low, width, y(0) - low, f"bar{few}", title=_said(found))
    gap = rect(left, high, width, low - high, f"gap{few}", title=_said(found))
    return bar + gap + line(left, y(found.accuracy), left + width, y(found.accuracy), f"level{few}")


def _tally(x: Scale, counts: Scale, floor: float, found: ReliabilityBin) -> Markup:
    left, width = _place(x, found)
    tall = max(1.5, counts(found.count))
    return rect(left, floor - tall, width, tall, "faint", title=_said(found))


def _place(x: Scale, found: ReliabilityBin) -> tuple[float, float]:
    """Left edge and width of a bin's bar."""
    index = min(BINS - 1, int(found.confidence * BINS))
    return x(index / BINS) + 1, x(1 / BINS) - x(0) - 2


def _said(found: ReliabilityBin) -> str:
    means = f"mean confidence {percent(found.confidence)}, accuracy {percent(found.accuracy)}"
    return f"{things(found.count, 'item')}: {means}"


def _grid(x: Scale, y: Scale) -> Markup:
    marks = [0.0, 0.25, 0.5, 0.75, 1.0]
    across = join(line(x(0), y(mark), x(1), y(mark)) for mark in marks)
    left = join(text(LEFT - 8, y(mark) + 4, percent(mark, 0), anchor="end") for mark in marks)
    below = join(text(x(mark), y(0) + 17, percent(mark, 0)) for mark in marks)
    return across + left + below + text(LEFT + 6, TOP + 14, "accuracy", css="axis", anchor="start")
