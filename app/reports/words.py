"""The report in words: numbers as people write them, and one sentence per finding."""

import math

from core.contract.reports import Calibration, ClassRow, Metric, Report

SPACE = "\N{NARROW NO-BREAK SPACE}"
METHOD_NAMES = {"wilson": "Wilson", "bootstrap": "bootstrap"}


def percent(share: float, decimals: int = 1) -> str:
    """A share as a percentage; what is not quite all is never rounded up to 100 %."""
    shown = f"{100 * share:.{decimals}f}"
    if share < 1 and shown == f"{100:.{decimals}f}":
        shown = f"{100 - 10.0**-decimals:.{decimals}f}"
    return f"{shown}{SPACE}%"


def count(value: int) -> str:
    """A whole number with thousands apart."""
    return f"{value:,}"


def things(value: int, singular: str, plural: str | None = None) -> str:
    """A number with its noun."""
    return f"{count(value)} {singular if value == 1 else plural or singular + 's'}"


def seconds(value: float | None) -> str:
    """A duration in the unit that suits it."""
    if value is None:
        return "–"
    if value < 0.9995:
        return f"{1000 * value:.0f}{SPACE}ms"
    if value < 120:
        return f"{value:.1f}{SPACE}s"
    minutes = value / 60
    return f"{minutes:.1f}{SPACE}min" if minutes < 120 else f"{minutes / 60:.1f}{SPACE}h"


def metric(report: Report, name: str) -> Metric | None:
    """A figure of the report by name."""
    return next((found for found in report.metrics if found.name == name), None)


def interval(found: Metric, *, share: bool = True) -> str:
    """The 95 % interval of a figure, or nothing."""
    if found.low is None or found.high is None:
        return ""
    if share:
        return f"{percent(found.low).removesuffix(SPACE + '%')}–{percent(found.high)}"
    return f"{found.low:.3f}–{found.high:.3f}"


def commonest(report: Report) -> tuple[str, float] | None:
    """The commonest class among the held-out items and its share: what always guessing it would reach."""
    supports = [sum(row) for row in report.confusion]
    total = sum(supports)
    if not total:
        return None
    index = max(range(len(supports)), key=supports.__getitem__)
    return report.classes[index], supports[index] / total


def headline(report: Report) -> list[str]:
    """What the accuracy means, in two or three sentences."""
    found = metric(report, "accuracy")
    if found is None:
        return ["The report carries no accuracy."]
    span = f" (95{SPACE}% interval {interval(found)})" if interval(found) else ""
    right = round(found.value * found.n)
    items = "item" if found.n == 1 else "items"
    said = [f"Of {count(found.n)} held-out {items} the model names {count(right)} correctly{span}."]
    if guess := commonest(report):
        said.append(_against_guessing(found, *guess))
    if found.n < 100:
        said.append(f"With only {things(found.n, 'held-out item')} that figure is rough; measure on more to be sure.")
    return said


def _against_guessing(found: Metric, name: str, share: float) -> str:
    guess = f"Always answering “{name}”, the commonest class, would be right for {percent(share)}"
    if (found.low if found.low is not None else found.value) > share:
        return f"{guess}."
    return f"{guess}: the model is not measurably better than that."


def learning(report: Report, best_x: float | None) -> str:
    """What the curve shows."""
    if best_x is None:
        return ""
    measured = [point for point in report.curve if point.validation_loss is not None]
    what = "validation loss was lowest" if measured else "validation accuracy was highest"
    if report.curve_axis != "epoch":
        return f"The {what} at λ = {10**best_x:.2g} (dotted line)."
    said = f"The {what} at epoch {best_x:g} of {max(point.x for point in report.curve):g} (dotted line)."
    if measured and _rose(measured[-1].validation_loss, min(point.validation_loss or math.inf for point in measured)):
        said += " After that it rose again: the model had begun to overfit."
    return said


def _rose(last: float | None, best: float) -> bool:
    return last is not None and last > 1.1 * best


def calibration(found: Calibration) -> str:
    """What temperature scaling did."""
    if found.temperature > 1.05:
        was = "was over-confident, so its probabilities were softened"
    elif found.temperature < 0.95:
        was = "was under-confident, so its probabilities were sharpened"
    else:
        was = "was well calibrated already, so its probabilities hardly changed"
    change = f"The expected calibration error went from {percent(found.ece_before)} to {percent(found.ece_after)}."
    if found.ece_after > found.ece_before:
        change += " On these items that is no gain; with few items such a difference can be chance."
    fitted = f"(temperature {found.temperature:.2f}, fitted on {things(found.fitted_on, 'validation item')})"
    return f"The model {was} {fitted}. {change}"


def classes(rows: list[ClassRow]) -> str:
    """Which classes are weakest."""
    seen = [row for row in rows if row.support]
    if len(seen) < 2:
        return ""
    weak = min(seen, key=lambda row: row.recall)
    found = f"{percent(weak.recall)} of its {things(weak.support, 'item')} are recognised"
    missed = f"Hardest to find is “{weak.name}”: {found}."
    unseen = len(rows) - len(seen)
    if unseen:
        missed += f" {things(unseen, 'class has', 'classes have')} no held-out item, so nothing is known about them."
    return "Every held-out item of every class is recognised." if weak.recall == 1 and not unseen else missed
