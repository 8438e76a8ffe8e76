"""The shift's pictures: how well the domains are told apart, and both of them in two dimensions."""

from collections import defaultdict

from markupsafe import Markup

from app.reports import words
from app.reports.svg import EMPTY, Scale, circle, columns, join, line, rect, shorten, svg, text
from core.contract.shifts import Cloud, Shift, ShiftTest, Spot

WIDTH, EDGE, AXIS = 560.0, 18.0, 42.0
SIDE, MARGIN = 430.0, 14.0
NAMED_UP_TO = 12
"""Classes whose means have a name and a line from source to target."""
_CHARACTER, _LINE, _LABEL = 6.3, 14.0, 16


def told_strip(shift: Shift) -> Markup | None:
    """How often the domain is told rightly, from chance to always: a dot with its interval, and one for after."""
    before = _classifier(shift.tests)
    after = _classifier(shift.after.tests) if shift.after else None
    if before is None:
        return None
    x = Scale(min(0.5, *(test.statistic for test in (before, after) if test)), 1, EDGE, WIDTH - EDGE)
    marks = [mark for mark in (0.25, 0.5, 0.75, 1.0) if mark >= x.low]
    parts = [
        line(x(x.low), AXIS, x(1), AXIS, "base"),
        *(line(x(m), AXIS - 4, x(m), AXIS + 4, "base") + text(x(m), AXIS + 21, words.percent(m, 0)) for m in marks),
        line(x(0.5), 14, x(0.5), AXIS + 8, "mark"),
        text(x(0.5) + 6, 22, "chance: no shift", anchor="start"),
        text(x(1), 22, "never mixed up", anchor="end"),
        _dot(x, before, "before"),
        _dot(x, after, "after") if after else EMPTY,
    ]
    said = f"Told apart: {words.percent(before.statistic)}" + (
        f" before, {words.percent(after.statistic)} after adaptation" if after else ""
    )
    return svg(WIDTH, AXIS + 28, said, join(parts))


def _classifier(tests: list[ShiftTest]) -> ShiftTest | None:
    return next((test for test in tests if test.name == "classifier"), None)


def _span(test: ShiftTest) -> tuple[float, float]:
    """The interval of the accuracy; the effect is 4 times it, less 2, and never below 0."""
    return min(test.statistic, (test.low + 2) / 4), max(test.statistic, (test.high + 2) / 4)


def _dot(x: Scale, test: ShiftTest, when: str) -> Markup:
    low, high = _span(test)
    css = "worse" if when == "before" else ""
    said = f"{when}: {words.percent(test.statistic)}"
    band = rect(x(low), AXIS - 8, max(3.0, x(high) - x(low)), 16, f"band {css}".strip())
    return band + circle(x(test.statistic), AXIS, 6, f"point {css}".strip(), title=said)


def cloud_chart(cloud: Cloud, classes: list[str], when: str) -> Markup:
    """Source items as rings, target items as dots; with few classes a line from each one's mean in the source on."""
    spots = [*cloud.source, *cloud.target]
    across, down = _ends([spot[0] for spot in spots]), _ends([spot[1] for spot in spots])
    reach = max(across[1] - across[0], down[1] - down[0]) / 2 or 1.0
    middle = [sum(ends) / 2 for ends in (across, down)]
    x = Scale(middle[0] - reach, middle[0] + reach, MARGIN, SIDE - MARGIN)
    y = Scale(middle[1] - reach, middle[1] + reach, SIDE - MARGIN, MARGIN)
    parts = [
        rect(0.5, 0.5, SIDE - 1, SIDE - 1, "pane"),
        join(_mark((x, y), spot, classes, "ring") for spot in cloud.source),
        join(_mark((x, y), spot, classes, "drop") for spot in cloud.target),
        _moves(x, y, cloud, classes) if len(classes) <= NAMED_UP_TO else EMPTY,
    ]
    said = f"{len(cloud.source)} source and {len(cloud.target)} target items on two axes, {when}"
    return svg(SIDE, SIDE, said, join(parts))


def _ends(values: list[float]) -> tuple[float, float]:
    """From the lowest to the highest; a few far ones are drawn at the edge, so that the rest can be seen."""
    ordered = sorted(values)
    rank = len(ordered) // 100
    return ordered[rank], ordered[len(ordered) - 1 - rank]


def _mark(scales: tuple[Scale, Scale], spot: Spot, classes: list[str], css: str) -> Markup:
    number = spot[2]
    named = classes[number] if 0 <= number < len(classes) else ""
    return circle(
        _within(scales[0], spot[0]), _within(scales[1], spot[1]), 3 if css == "ring" else 2.6, css, title=named
    )


def _within(scale: Scale, value: float) -> float:
    return scale(min(max(value, scale.low), scale.high))


def _moves(x: Scale, y: Scale, cloud: Cloud, classes: list[str]) -> Markup:
    """A line and a name for each class that both sides have."""
    source, target = _means(cloud.source), _means(cloud.target)
    both = sorted(set(source) & set(target) & set(range(len(classes))), key=lambda number: target[number][1])
    ends = {
        number: ((x(source[number][0]), y(source[number][1])), (x(target[number][0]), y(target[number][1])))
        for number in both
    }
    lines = join(line(*start, *end, "halo") + line(*start, *end, "move") for start, end in ends.values())
    heads = join(circle(*start, 5, "head ring") + circle(*end, 5, "head drop") for start, end in ends.values())
    return lines + heads + _names({number: end for number, (_, end) in ends.items()}, classes)


def _means(spots: list[Spot]) -> dict[int, tuple[float, float]]:
    groups: dict[int, list[Spot]] = defaultdict(list)
    for spot in spots:
        groups[spot[2]].append(spot)
    return {
        number: (sum(spot[0] for spot in group) / len(group), sum(spot[1] for spot in group) / len(group))
        for number, group in groups.items()
    }


def _names(ends: dict[int, tuple[float, float]], classes: list[str]) -> Markup:
    """Names beside the target's means, moved down where they would lie upon each other."""
    taken: list[tuple[float, float, float]] = []
    parts = []
    for number, (px, py) in sorted(ends.items(), key=lambda one: one[1][1]):
        name = shorten(classes[number], _LABEL)
        width = _CHARACTER * columns(name)
        left = px + 9 if px + 9 + width <= SIDE - 4 else px - 9 - width
        height = py + 4
        while any(left < end and begin < left + width and abs(height - other) < _LINE for begin, end, other in taken):
            height += 2
        taken.append((left, left + width, height))
        parts.append(text(left, min(height, SIDE - 5), name, css="label", anchor="start"))
    return join(parts)
