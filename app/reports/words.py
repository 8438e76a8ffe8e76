"""The report in words: numbers as people write them, and one sentence per finding."""

import math
from dataclasses import dataclass

from core.contract.reports import Calibration, ClassRow, Metric, Report

SPACE = "\N{NARROW NO-BREAK SPACE}"
DASH = "–\N{WORD JOINER}"
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def percent(share: float, decimals: int = 1) -> str:
    """A share as a percentage; what is not quite all is never rounded up to 100 %."""
    shown = f"{100 * share:.{decimals}f}"
    if share < 1 and shown == f"{100:.{decimals}f}":
        shown = f"{100 - 10.0**-decimals:.{decimals}f}"
    return f"{shown}{SPACE}%"


def count(value: int) -> str:
    """A whole number with thousands apart."""
    return f"{value:,}"


def scientific(value: float) -> str:
    """A positive number in two digits, very small and very large ones with a power of ten."""
    power = math.floor(math.log10(value))
    if -4 < power < 5:
        return f"{value:.2g}" if power < 2 else count(round(value))
    return f"{value / 10.0**power:.1f} × 10{str(power).translate(_RAISED)}"


def figure(value: float) -> str:
    """A figure with three decimals; what is not quite nothing is never shown as 0."""
    return "< 0.001" if 0 < value < 0.0005 else f"{value:.3f}"


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


LEADS = {
    "classification": ("accuracy", "accuracy on held-out items"),
    "multi_label": ("micro_f1", "F1 over all classes of the held-out items"),
    "regression": ("r2", "of the spread of the held-out values is explained (R²)"),
}


@dataclass(frozen=True)
class Lead:
    """The figure that stands first."""

    name: str
    value: str
    meaning: str


def lead(report: Report) -> Lead | None:
    """Accuracy, F1 or R2, as the problem asks."""
    name, meaning = LEADS[report.problem]
    found = metric(report, name)
    if found is None:
        return None
    shown = figure(found.value) if name == "micro_f1" else percent(found.value)
    return Lead(name, shown, meaning)


def interval(found: Metric, *, share: bool = True) -> str:
    """The 95 % interval of a figure, or nothing."""
    if found.low is None or found.high is None:
        return ""
    if share:
        return f"{percent(found.low).removesuffix(SPACE + '%')}{DASH}{percent(found.high)}"
    return f"{figure(found.low)}{DASH}{figure(found.high)}"


def commonest(report: Report) -> tuple[str | None, float] | None:
    """The commonest class among the held-out items and its share: what always guessing it would reach.

    The name is None where several classes are equally common.
    """
    supports = [sum(row) for row in report.confusion]
    total = sum(supports)
    if not total:
        return None
    most = max(supports)
    name = report.classes[supports.index(most)] if supports.count(most) == 1 else None
    return name, most / total


def headline(report: Report) -> list[str]:
    """What the first figure means, in one or two sentences."""
    name, _ = LEADS[report.problem]
    found = metric(report, name)
    if report.evaluated_on == "nothing":
        return ["Nobody knows: no item has a label to measure with. A few labelled items of the new domain would tell."]
    if found is None:
        return [f"The report carries no {name.replace('_', ' ')}."]
    if report.problem == "regression":
        return [_errors(report, found)]
    span = f" (95{SPACE}% interval {interval(found)})" if interval(found) else ""
    if report.problem == "multi_label":
        return [f"Measured on {things(found.n, 'held-out item')}{span}."]
    right = round(found.value * found.n)
    items = "item" if found.n == 1 else "items"
    said = [f"Of {count(found.n)} held-out {items} the model names {count(right)} correctly{span}."]
    if guess := commonest(report):
        said.append(_against_guessing(found, *guess))
    return said


def _errors(report: Report, found: Metric) -> str:
    """How far a regression's values lie off."""
    said = f"Measured on {things(found.n, 'held-out item')}."
    if error := metric(report, "mae"):
        said += f" A prediction lies {figure(error.value)} off its true value on average."
    return said


def _against_guessing(found: Metric, name: str | None, share: float) -> str:
    what = f"“{name}”, the commonest class," if name is not None else "with the same class"
    guess = f"Always answering {what} would be right for {percent(share)}"
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
        return f"The {what} at λ = {scientific(10**best_x)} (dotted line)."
    said = f"The {what} at epoch {best_x:g} of {max(point.x for point in report.curve):g} (dotted line)."
    if measured and _rose(measured[-1].validation_loss, min(point.validation_loss or math.inf for point in measured)):
        said += " After that it rose again: the model had begun to overfit."
    return said


def _rose(last: float | None, best: float) -> bool:
    return last is not None and last > 1.1 * best


def calibration(found: Calibration) -> str:
    """What temperature scaling did."""
    if not found.fitted_on:
        return (
            "There were too few labelled items to scale its confidences by, so they are as they came. The expected "
            f"calibration error is {percent(found.ece_after)}."
        )
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
