"""A ranking of base models: the table, and the picture of how good each is against what it costs."""

import math
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from app.reports import words
from app.reports.svg import EMPTY, Scale, circle, columns, join, line, polyline, shorten, svg, text, ticks
from core.contract.datasets import Problem
from core.contract.reports import Candidate, Ranking, Report

WIDTH, HEIGHT = 660.0, 330.0
LEFT, RIGHT, TOP, BOTTOM = 54.0, 24.0, 16.0, 46.0
_LINE = 14.0
_CHARACTER = 6.3
_MOST = 40  # names that a picture has room for
_TITLES = {"probe": "Probe", "knn": "Neighbours", "logme": "LogME", "h_score": "H-score"}
_FIGURES: dict[Problem, str] = {"classification": "accuracy", "multi_label": "micro-F1", "regression": "R2"}


@dataclass(frozen=True)
class Line:
    """A candidate as a row of the table."""

    rank: int
    name: str
    title: str
    equal: bool
    """Whether it is the best, or cannot be told from it."""
    score: str
    behind: str
    probe: str
    knn: str
    logme: str
    h_score: str
    cost: str
    memory: str
    parameters: str


def context(report: Report) -> dict[str, Any]:
    """What the page shows; for a report with a ranking."""
    ranking, problem = report.ranking, report.problem
    assert ranking is not None
    measured = [one for one in ranking.candidates if one.rank is not None]
    return {
        "ranking": ranking,
        "figure": _FIGURES[problem],
        "rows": [_line(one, ranking, problem) for one in measured],
        "left_out": [one for one in ranking.candidates if one.rank is None],
        "picture": cost_chart(ranking, problem),
        "agreement": [(_TITLES.get(name, name), f"{tau:.2f}") for name, tau in ranking.agreement.items()],
        "how": "leave-one-out" if ranking.folds >= ranking.items else f"{ranking.folds} folds",
    }


def _line(one: Candidate, ranking: Ranking, problem: Problem) -> Line:
    return Line(
        rank=one.rank or 0,
        name=one.base_model,
        title=one.title,
        equal=one.rank == 1 or one.base_model in ranking.equal,
        score=_figure(one.score, problem),
        behind=_behind(one, problem),
        probe=_figure(one.probe, problem),
        knn=_figure(one.knn, problem),
        logme=_number(one.logme),
        h_score=_number(one.h_score),
        cost=words.seconds(_thousand(one)),
        memory=_bytes(one.memory_bytes),
        parameters=f"{one.parameters / 1e6:.1f}{words.SPACE}M" if one.parameters else "–",
    )


def _figure(value: float | None, problem: Problem) -> str:
    if value is None:
        return "–"
    return words.percent(value) if problem == "classification" else f"{value:.3f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}".replace("-", "−")


def _bytes(value: int | None) -> str:
    return "–" if value is None else f"{value / 2**20:,.0f}{words.SPACE}MiB"


def _behind(one: Candidate, problem: Problem) -> str:
    """How far behind the best, with the interval of that."""
    gap = one.behind
    if gap is None:
        return ""
    scale, digits = (100, 1) if problem == "classification" else (1, 3)
    low, middle, high = (f"{scale * value:.{digits}f}".replace("-", "−") for value in (gap.low, gap.effect, gap.high))
    return f"{middle} ({low} to {high})"


def _thousand(one: Candidate) -> float | None:
    """Seconds to embed 1,000 items."""
    return 1000 / one.items_per_second if one.items_per_second else None


def cost_chart(ranking: Ranking, problem: Problem) -> Markup | None:
    """Score over seconds per 1,000 items on a logarithmic axis; a line joins those that no other beats at less cost."""
    points = [
        (one, cost, one.score)
        for one in ranking.candidates
        if one.score is not None and (cost := _thousand(one)) is not None
    ]
    if len(points) < 2:
        return None
    scores, logs = [score for _, _, score in points], [math.log10(cost) for _, cost, _ in points]
    marks = ticks(min(*scores, max(scores) - 0.04), max(scores), 5)
    y = Scale(marks[0], max(marks[-1], *scores), HEIGHT - BOTTOM, TOP)
    x = Scale(min(logs) - 0.1, max(logs) + 0.1, LEFT + 12, WIDTH - RIGHT - 12)
    places = {one.base_model: (x(math.log10(cost)), y(score)) for one, cost, score in points}
    front = [places[one.base_model] for one in _front(points)]
    return svg(
        WIDTH,
        HEIGHT,
        f"Mean {_FIGURES[problem]} of each base model over the seconds that 1,000 items take",
        _y_axis(y, marks, problem),
        _x_axis(x),
        polyline(front, "line one") if len(front) > 1 else EMPTY,
        join(_dot(one, places, ranking) for one, _, _ in points),
        _names([one for one, _, _ in points], places) if len(points) <= _MOST else EMPTY,
    )


def _front(points: list[tuple[Candidate, float, float]]) -> list[Candidate]:
    """Those that cost less than all that score higher."""
    found: list[Candidate] = []
    best = -math.inf
    for one, _, score in sorted(points, key=lambda point: (point[1], -point[2])):
        if score > best:
            found.append(one)
            best = score
    return found


def _dot(one: Candidate, places: dict[str, tuple[float, float]], ranking: Ranking) -> Markup:
    near = one.rank == 1 or one.base_model in ranking.equal
    said = f"{one.base_model}: {one.score:.3f}, {words.seconds(_thousand(one))} per 1,000 items"
    return circle(*places[one.base_model], 5, "point" if near else "dot one", title=said)


def _names(candidates: list[Candidate], places: dict[str, tuple[float, float]]) -> Markup:
    """Names beside their dots, moved up or down where they would lie upon each other."""
    taken: list[tuple[float, float, float]] = []
    parts = []
    for one in sorted(candidates, key=lambda one: places[one.base_model][1]):
        px, py = places[one.base_model]
        name = shorten(one.base_model, 30)
        width = _CHARACTER * columns(name)
        left = px + 9 if px + 9 + width <= WIDTH - 2 else px - 9 - width
        height = py + 4
        while any(left < end and begin < left + width and abs(height - other) < _LINE for begin, end, other in taken):
            height += 2
        taken.append((left, left + width, height))
        parts.append(text(left, height, name, anchor="start"))
    return join(parts)


def _y_axis(y: Scale, marks: list[float], problem: Problem) -> Markup:
    def label(mark: float) -> str:
        return (
            words.percent(mark, 0 if (100 * mark).is_integer() else 1) if problem == "classification" else f"{mark:g}"
        )

    return join(
        line(LEFT, y(mark), WIDTH - RIGHT, y(mark)) + text(LEFT - 8, y(mark) + 4, label(mark), anchor="end")
        for mark in marks
    )


def _x_axis(x: Scale) -> Markup:
    """Marks at 1, 2 and 5 times powers of ten."""
    base = HEIGHT - BOTTOM
    wanted = [(math.log10(lead) + power, lead * 10.0**power) for power in range(-6, 7) for lead in (1, 2, 5)]
    shown = [(place, value) for place, value in wanted if x.low <= place <= x.high]
    marks = join(
        line(x(place), base, x(place), base + 4, "base") + text(x(place), base + 18, _duration(value))
        for place, value in shown
    )
    title = text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, "time to embed 1,000 items", css="axis")
    return line(LEFT, base, WIDTH - RIGHT, base, "base") + marks + title


def _duration(value: float) -> str:
    return f"{1000 * value:g}{words.SPACE}ms" if value < 1 else f"{value:g}{words.SPACE}s"
