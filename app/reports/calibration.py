"""The reliability diagram: how often the model is right when it says so and so much per cent."""

from markupsafe import Markup

from app.reports.svg import Scale, join, line, rect, svg, text
from app.reports.words import percent, things
from core.contract.reports import ReliabilityBin

BINS = 15
LEFT, TOP, SIDE, BELOW = 46.0, 10.0, 300.0, 54.0


def reliability_chart(bins: list[ReliabilityBin]) -> Markup:
    """Bars of accuracy against the diagonal of a perfectly calibrated model; below, how many items each bar holds."""
    x, y = Scale(0, 1, LEFT, LEFT + SIDE), Scale(0, 1, TOP + SIDE, TOP)
    floor = TOP + SIDE + 34 + BELOW
    filled = [found for found in bins if found.count]
    most = max((found.count for found in filled), default=1)
    parts = [_grid(x, y)]
    for found in filled:
        index = min(BINS - 1, int(found.confidence * BINS))
        a, b = x(index / BINS) + 1, x((index + 1) / BINS) - 1
        means = f"mean confidence {percent(found.confidence)}, accuracy {percent(found.accuracy)}"
        said = f"{things(found.count, 'item')}: {means}"
        high, low = max(found.accuracy, found.confidence), min(found.accuracy, found.confidence)
        parts.append(rect(a, y(low), b - a, y(0) - y(low), "bar", title=said))
        parts.append(rect(a, y(high), b - a, y(low) - y(high), "gap", title=said))
        parts.append(line(a, y(found.accuracy), b, y(found.accuracy), "level"))
        tall = max(1.5, BELOW * found.count / most)
        parts.append(rect(a, floor - tall, b - a, tall, "faint", title=said))
    parts += [line(x(0), y(0), x(1), y(1), "ideal"), line(LEFT, floor, LEFT + SIDE, floor, "base")]
    parts += [text(LEFT - 8, floor - BELOW / 2 + 4, "items", anchor="end")]
    parts += [text(LEFT + SIDE / 2, floor + 18, "confidence", css="axis")]
    return svg(LEFT + SIDE + 26, floor + 26, "Reliability diagram: accuracy against confidence", *parts)


def _grid(x: Scale, y: Scale) -> Markup:
    marks = [0.0, 0.25, 0.5, 0.75, 1.0]
    across = join(line(x(0), y(mark), x(1), y(mark)) for mark in marks)
    left = join(text(LEFT - 8, y(mark) + 4, percent(mark, 0), anchor="end") for mark in marks)
    below = join(text(x(mark), y(0) + 17, percent(mark, 0)) for mark in marks)
    return across + left + below + text(LEFT + 6, TOP + 14, "accuracy", css="axis", anchor="start")
