"""The headline picture: accuracy with its interval on a scale from 0 to 100 %."""

from markupsafe import Markup

from app.reports.svg import Scale, circle, join, line, rect, svg, text
from app.reports.words import commonest, interval, metric, percent
from core.contract.reports import Report

WIDTH, LEFT, RIGHT, AXIS = 560.0, 14.0, 18.0, 50.0


def accuracy_strip(report: Report) -> Markup | None:
    """Accuracy as a dot, its 95 % interval as a band, and a mark where always guessing the commonest class stands."""
    found = metric(report, "accuracy")
    if found is None:
        return None
    x = Scale(0, 1, LEFT, WIDTH - RIGHT)
    parts = [line(x(0), AXIS, x(1), AXIS, "base")]
    parts += [
        line(x(mark), AXIS - 4, x(mark), AXIS + 4, "base") + text(x(mark), AXIS + 21, percent(mark, 0))
        for mark in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    if found.low is not None and found.high is not None:
        said = f"95 % interval {interval(found)}"
        parts.append(rect(x(found.low), AXIS - 8, max(3.0, x(found.high) - x(found.low)), 16, "band", title=said))
    if guess := commonest(report):
        parts.append(_guess(x, guess[1]))
    parts.append(circle(x(found.value), AXIS, 6, "point", title=f"accuracy {percent(found.value)}"))
    return svg(WIDTH, AXIS + 28, f"Accuracy {percent(found.value)} on a scale from 0 to 100 %", join(parts))


def _guess(x: Scale, share: float) -> Markup:
    place = x(share)
    end = place > WIDTH / 2
    label = text(place + (-6 if end else 6), 22, "commonest class", anchor="end" if end else "start")
    return line(place, 14, place, AXIS + 8, "mark") + label
