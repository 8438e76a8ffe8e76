"""Line charts: learning curves and regularisation paths."""

import math
from dataclasses import dataclass

from markupsafe import Markup

from app.reports.svg import Scale, circle, join, line, number, polyline, svg, text, ticks
from app.reports.words import percent
from core.contract.reports import CurvePoint, Report

WIDTH, HEIGHT = 440.0, 250.0
LEFT, RIGHT, TOP, BOTTOM = 50.0, 14.0, 30.0, 40.0


@dataclass(frozen=True)
class Series:
    """One line: its name, its style class and its points."""

    name: str
    css: str
    points: list[tuple[float, float]]


def curve_charts(report: Report) -> list[Markup]:
    """The charts of how the model learned: loss, and validation accuracy, each only if it was measured."""
    loss = [
        Series("training loss", "one", _points(report.curve, "train_loss")),
        Series("validation loss", "two", _points(report.curve, "validation_loss")),
    ]
    accuracy = [Series("validation accuracy", "two", _points(report.curve, "validation_accuracy"))]
    score = [
        Series(
            "validation R²" if report.problem == "regression" else "validation F1",
            "two",
            _points(report.curve, "validation_score"),
        )
    ]
    charts = ((loss, "Loss", False), (accuracy, "Accuracy", True), (score, "Score", False))
    return [
        _chart(kept, report, name, share) for group, name, share in charts if (kept := [s for s in group if s.points])
    ]


def best_point(report: Report) -> CurvePoint | None:
    """The point with the lowest validation loss, or else the highest validation accuracy."""
    with_loss = [point for point in report.curve if point.validation_loss is not None]
    if with_loss:
        return min(with_loss, key=lambda point: point.validation_loss or 0.0)
    with_accuracy = [point for point in report.curve if point.validation_accuracy is not None]
    return max(with_accuracy, key=lambda point: point.validation_accuracy or 0.0, default=None)


def _points(curve: list[CurvePoint], field: str) -> list[tuple[float, float]]:
    return [(point.x, value) for point in curve if (value := getattr(point, field)) is not None]


def _chart(group: list[Series], report: Report, name: str, share: bool) -> Markup:
    xs = [x for series in group for x, _ in series.points]
    ys = [y for series in group for _, y in series.points]
    # A flat line must not look like a cliff: an accuracy's axis spans ten points at least, a loss's begins at 0.
    low = max(0.0, min(*ys, max(ys) - 0.1)) if share else min(*ys, 0.0)
    marks = [mark for mark in ticks(low, max(ys), 4) if not share or 0 <= mark <= 1]
    y = Scale(marks[0], max(marks[-1], *ys), HEIGHT - BOTTOM, TOP)
    x = Scale(min(xs), max(xs), LEFT + 8, WIDTH - RIGHT - 8)
    best = best_point(report)
    parts = [
        _y_axis(y, marks, share),
        _x_axis(x, report, min(xs), max(xs)),
        line(x(best.x), TOP, x(best.x), HEIGHT - BOTTOM, "mark") if best else Markup(""),
        join(_series(series, x, y) for series in group),
        _key(group),
    ]
    return svg(WIDTH, HEIGHT, f"{name} over the {_axis_name(report)}", *parts)


def _y_axis(y: Scale, marks: list[float], share: bool) -> Markup:
    decimals = 0 if all(math.isclose(100 * mark, round(100 * mark)) for mark in marks) else 1
    return join(
        line(LEFT, y(mark), WIDTH - RIGHT, y(mark))
        + text(LEFT - 8, y(mark) + 4, percent(mark, decimals) if share else f"{mark:g}", anchor="end")
        for mark in marks
    )


def _x_axis(x: Scale, report: Report, low: float, high: float) -> Markup:
    logarithmic = report.curve_axis == "log10_regularisation"
    marks = [mark for mark in ticks(low, high, 6) if low <= mark <= high and mark == int(mark)] or [low]
    labels = join(
        _power(x(mark), mark) if logarithmic else text(x(mark), HEIGHT - BOTTOM + 18, f"{mark:g}") for mark in marks
    )
    return labels + text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, _axis_name(report), css="axis")


def _power(x: float, exponent: float) -> Markup:
    return Markup(
        '<text class="tick" x="{}" y="{}" text-anchor="middle">10<tspan dy="-5" class="small">{}</tspan></text>'
    ).format(number(x), number(HEIGHT - BOTTOM + 18), f"{exponent:g}".replace("-", "−"))


def _axis_name(report: Report) -> str:
    return "epoch" if report.curve_axis == "epoch" else "regularisation λ"


def _series(series: Series, x: Scale, y: Scale) -> Markup:
    places = [(x(a), y(b)) for a, b in series.points]
    dots = places if len(places) <= 40 else places[-1:]
    return polyline(places, f"line {series.css}") + join(circle(a, b, 2.6, f"dot {series.css}") for a, b in dots)


def _key(group: list[Series]) -> Markup:
    parts, x = [], LEFT
    for series in group:
        parts.append(line(x, 12, x + 18, 12, f"line {series.css}") + text(x + 24, 16, series.name, anchor="start"))
        x += 24 + 6.4 * len(series.name) + 22
    return join(parts)
