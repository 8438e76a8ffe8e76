"""The shift between source and target as the page shows it."""

from dataclasses import dataclass
from typing import Any

from app.reports import words
from app.reports.shift_pictures import NAMED_UP_TO, cloud_chart, told_strip
from core.contract.methods import METHODS
from core.contract.reports import Report
from core.contract.shifts import ClassShift, Driver, Shift, ShiftTest

MOST_CLASSES = 50
KINDS = {
    "none": "No shift that can be told from chance",
    "covariate": "Covariate shift: other inputs, covered by the source",
    "label": "Label shift: the same classes in other shares",
    "conditional": "Conditional shift: each class has moved in its own way",
    "general": "General shift: all items have moved out of the source’s reach",
}
_TESTS = {"mmd": "Kernel test (MMD)", "classifier": "Classifier test"}


@dataclass(frozen=True)
class TestLine:
    """A test as a row: statistic, effect and p-value, before and after adaptation."""

    title: str
    statistic: str
    effect: str
    span: str
    p_value: str
    after: str
    """Statistic and effect after adaptation."""


@dataclass(frozen=True)
class ClassLine:
    """A class as a row."""

    name: str
    source_items: int
    target_items: int
    source_share: str
    target_share: str
    distance: str
    bar: float
    """Of the longest, in per cent."""


def context(report: Report) -> dict[str, Any]:
    """What the section needs; `shift` is None where the report has none."""
    shift = report.shift
    if shift is None:
        return {"shift": None}
    told = next(test for test in shift.tests if test.name == "classifier")
    clouds = [("before adaptation", shift.before), *([("after", shift.after.cloud)] if shift.after else [])]
    rows = _classes(shift.classes)
    return {
        "shift": shift,
        "shift_kind": KINDS[shift.kind],
        "told": words.percent(told.statistic),
        "told_strip": told_strip(shift),
        "shift_tiles": _tiles(shift),
        "clouds": [(when, cloud_chart(cloud, report.classes, when), cloud.explained) for when, cloud in clouds],
        "named": 2 <= len(shift.classes) <= NAMED_UP_TO,
        "tests": _tests(shift),
        "shift_rows": rows[:MOST_CLASSES],
        "hidden_classes": max(0, len(rows) - MOST_CLASSES),
        "fitting": [(METHODS[name].title, name) for name in shift.methods if name in METHODS],
        "drivers": [(side, title, _of(shift.drivers, side)) for side, title in _SIDES if _of(shift.drivers, side)],
    }


_SIDES = (("target", "Target items least like the source"), ("source", "Source items least like the target"))


def _of(drivers: list[Driver], side: str) -> list[Driver]:
    return [driver for driver in drivers if driver.domain == side]


def _tiles(shift: Shift) -> list[tuple[str, str, str, str]]:
    """Figures beside the first: name, value, interval, what it means."""
    found = {test.name: test for test in shift.tests}
    told, mmd = found["classifier"], found["mmd"]
    tiles = [
        ("A-distance", f"{told.effect:.2f}", _span(told, 2), "0: alike; 2: never mixed up"),
        (
            "Between the domains",
            words.percent(mmd.effect, 2),
            _span(mmd, 2, 100),
            "of the items’ spread in kernel space, by the MMD",
        ),
        (
            "Covered",
            "< 0.1" + words.SPACE + "%" if 0 < shift.overlap < 0.0005 else words.percent(shift.overlap),
            "",
            "of the source items count once they are weighted to look like the target; 10 % is little",
        ),
    ]
    if shift.labels is not None:
        found_labels = shift.labels
        span = f"{100 * found_labels.low:.0f}{words.DASH}{words.percent(found_labels.high, 0)}"
        meaning = "of the items would change class if the class shares were made alike"
        tiles.append(("Class shares", words.percent(found_labels.distance, 0), span, meaning))
    return tiles


def _span(test: ShiftTest, digits: int, unit: int = 1) -> str:
    ends = [f"{unit * max(0.0, value):.{digits}f}" for value in (test.low, test.high)]
    return words.DASH.join(ends) + (words.SPACE + "%" if unit == 100 else "")


def _tests(shift: Shift) -> list[TestLine]:
    after = {test.name: test for test in shift.after.tests} if shift.after else {}
    return [_test(test, after.get(test.name), shift.permutations) for test in shift.tests]


def _test(test: ShiftTest, after: ShiftTest | None, permutations: int) -> TestLine:
    least = 1 / (1 + permutations)
    small = f"≤ {least:.2g}" if test.p_value <= least else f"{test.p_value:.2g}"
    statistic, effect, span = _figures(test)
    then = "" if after is None else "; ".join(_figures(after)[:2])
    return TestLine(_TESTS[test.name], statistic, effect, span, small, then)


def _figures(test: ShiftTest) -> tuple[str, str, str]:
    """Statistic, effect and the effect's interval in words."""
    if test.name == "classifier":
        said = f"{words.percent(test.statistic)} told rightly"
        return said, f"A-distance {test.effect:.2f}", _span(test, 2)
    statistic = f"MMD² {words.scientific(test.statistic) if test.statistic > 0 else '0'}"
    return statistic, f"{words.percent(max(0.0, test.effect), 2)} of the spread", _span(test, 2, 100)


def _classes(rows: list[ClassShift]) -> list[ClassLine]:
    """Those that moved most first; those that were not found last."""
    longest = max((row.distance or 0.0 for row in rows), default=0.0) or 1.0
    ordered = sorted(rows, key=lambda row: -1.0 if row.distance is None else row.distance, reverse=True)
    return [
        ClassLine(
            name=row.name,
            source_items=row.source_items,
            target_items=row.target_items,
            source_share=words.percent(row.source_share),
            target_share=words.percent(row.target_share),
            distance="–" if row.distance is None else f"{row.distance:.2f}",
            bar=100 * (row.distance or 0.0) / longest,
        )
        for row in ordered
    ]
