"""The confusion matrix as a picture (2 to some hundred classes) and the pairs that are confused most."""

from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from app.reports.svg import columns, join, line, rect, shorten, svg, text
from app.reports.words import percent

LABELLED_UP_TO = 30
"""Up to here every class has its name and every cell its count; above, a compact map and a table of pairs."""
MOST_CELLS = 20_000
LABEL_CELLS = 18
CHAR = 6.6


@dataclass(frozen=True)
class Pair:
    """Items of one class that the model took for another."""

    truth: str
    predicted: str
    count: int
    share: float
    """Of all held-out items of the true class."""


def worst_pairs(classes: list[str], matrix: list[list[int]], limit: int = 15) -> list[Pair]:
    """The pairs that are confused most often, by count and then by share."""
    found = [
        Pair(classes[i], classes[j], value, value / sum(row))
        for i, row in enumerate(matrix)
        for j, value in enumerate(row)
        if value and i != j
    ]
    return sorted(found, key=lambda pair: (-pair.count, -pair.share))[:limit]


def confusion_chart(classes: list[str], matrix: list[list[int]]) -> Markup | None:
    """The matrix: rows are the truth, columns the prediction, the shade is the share of the row.

    None if it has so many filled cells that a picture would not help anybody.
    """
    if len(classes) <= LABELLED_UP_TO:
        return _labelled(classes, matrix)
    if sum(value > 0 for row in matrix for value in row) > MOST_CELLS:
        return None
    return _compact(classes, matrix)


@dataclass(frozen=True)
class _Grid:
    """Where the matrix lies: its upper left corner and the side of a cell, in pixels."""

    classes: list[str]
    left: float
    top: float
    cell: float

    def x(self, column: float) -> float:
        return self.left + column * self.cell

    def y(self, row: float) -> float:
        return self.top + row * self.cell

    @property
    def end(self) -> int:
        return len(self.classes)

    def box(self, i: int, j: int, value: int, share: float) -> Markup:
        """One cell; empty ones are not drawn."""
        gap = 1 if self.cell > 12 else 0
        css = "right" if i == j else "wrong"
        said = f"{self.classes[i]} → {self.classes[j]}: {value} ({percent(share)})"
        side = self.cell - 2 * gap
        return rect(self.x(j) + gap, self.y(i) + gap, side, side, css, opacity=_shade(share), title=said)

    def count(self, i: int, j: int, value: int, share: float) -> Markup:
        """The number in a cell, with its share of the row where there is room."""
        bold = " strong" if _shade(share) > 0.5 else ""
        x, y = self.x(j + 0.5), self.y(i + 0.5)
        if self.cell < 62:
            return text(x, y + 4, f"{value}", css=f"cell{bold}")
        part = text(x, y + 17, percent(share, 0), css=f"part{bold}")
        return text(x, y + 1, f"{value:,}", css=f"count{bold}") + part

    def axes(self, remark: str = "") -> Markup:
        """The names of the two sides."""
        middle = self.end / 2
        across = text(self.x(middle), 12, f"predicted{remark}", css="axis")
        return across + text(12, self.y(middle), f"truth{remark}", css="axis", turn=-90)

    def frame(self) -> Markup:
        """The border."""
        side = self.end * self.cell
        return rect(self.left, self.top, side, side, "frame")

    def lines(self) -> Markup:
        """Lines between the cells."""
        inner = range(1, self.end)
        down = join(line(self.x(i), self.top, self.x(i), self.y(self.end)) for i in inner)
        return down + join(line(self.left, self.y(i), self.x(self.end), self.y(i)) for i in inner)


def _labelled(classes: list[str], matrix: list[list[int]]) -> Markup:
    n = len(classes)
    cell = max(25.0, min(84.0, 560 / n))
    names = [shorten(name, LABEL_CELLS) for name in classes]
    longest = max(columns(name) for name in names) * CHAR
    turned = longest > cell - 8
    grid = _Grid(classes, 30 + longest, 34 + longest * 0.71 if turned else 46.0, cell)
    over = max(4.0, longest * 0.71 - cell / 2 + 4 if turned else 4.0)
    cells = [grid.box(i, j, value, share) + grid.count(i, j, value, share) for i, j, value, share in _filled(matrix)]
    labels = [_names(grid, i, name, turned=turned) for i, name in enumerate(names)]
    parts = [grid.axes(), *labels, *cells, grid.lines(), grid.frame()]
    return svg(grid.x(n) + over, grid.y(n) + 4, f"Confusion matrix of {n} classes", *parts)


def _names(grid: _Grid, i: int, name: str, *, turned: bool) -> Markup:
    row = text(grid.left - 8, grid.y(i + 0.5) + 4, name, css="name", anchor="end")
    x, y = grid.x(i + 0.5), grid.top - 9
    if turned:
        return row + text(x + 3, y, name, css="name", anchor="start", turn=-45)
    return row + text(x, y, name, css="name")


def _compact(classes: list[str], matrix: list[list[int]]) -> Markup:
    n = len(classes)
    grid = _Grid(classes, 58.0, 46.0, max(2.0, min(12.0, 600 / n)))
    step = 10 if n <= 150 else 50 if n <= 600 else 100
    marks = (0, *range(step - 1, n, step))
    rows = [text(grid.left - 8, grid.y(i + 0.5) + 4, str(i + 1), anchor="end") for i in marks]
    heads = [text(grid.x(i + 0.5), grid.top - 8, str(i + 1)) for i in marks]
    cells = [grid.box(i, j, value, share) for i, j, value, share in _filled(matrix)]
    parts = [grid.axes(" (number of the class)"), *rows, *heads, *cells, grid.frame()]
    return svg(grid.x(n) + 4, grid.y(n) + 4, f"Confusion matrix of {n} classes", *parts)


def _filled(matrix: list[list[int]]) -> Iterator[tuple[int, int, int, float]]:
    """Row, column, count and share of the row of every cell that is not empty."""
    for i, row in enumerate(matrix):
        total = sum(row)
        yield from ((i, j, value, value / total) for j, value in enumerate(row) if value)


def _shade(share: float) -> float:
    """Rare mistakes must stay visible, so small shares are lifted."""
    return min(1.0, 0.14 + 0.86 * float(share**0.7))
