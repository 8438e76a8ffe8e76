"""A regression's picture: what was predicted against what is true."""

from markupsafe import Markup

from app.reports.svg import Scale, circle, join, line, svg, text, ticks
from core.contract.reports import Report

SIDE, LEFT, BOTTOM, TOP, RIGHT = 380.0, 58.0, 44.0, 14.0, 14.0


def scatter_chart(report: Report) -> Markup | None:
    """A dot for each held-out item; on the dashed line prediction and truth are the same."""
    if not report.scatter:
        return None
    values = [value for point in report.scatter for value in (point.truth, point.predicted)]
    marks = ticks(min(values), max(values), 5)
    x = Scale(marks[0], marks[-1], LEFT, SIDE - RIGHT)
    y = Scale(marks[0], marks[-1], SIDE - BOTTOM, TOP)
    parts = []
    for mark in marks:
        parts += [line(x(mark), y.start, x(mark), y.end, "grid"), line(x.start, y(mark), x.end, y(mark), "grid")]
        parts += [
            text(x(mark), SIDE - BOTTOM + 18, f"{mark:g}"),
            text(LEFT - 8, y(mark) + 4, f"{mark:g}", anchor="end"),
        ]
    parts.append(line(x.start, y.start, x.end, y.end, "ideal"))
    parts += [circle(x(point.truth), y(point.predicted), 2.6, "spot") for point in report.scatter]
    parts.append(text((x.start + x.end) / 2, SIDE - 6, "truth", css="axis"))
    parts.append(text(13, (y.start + y.end) / 2, "predicted", css="axis", turn=-90))
    return svg(SIDE, SIDE, f"Predicted against true values of {len(report.scatter)} held-out items", join(parts))
