"""What the tests of a shift do by themselves: how often they find one that is not there, and one that is.

Items are drawn from worlds whose shift is known. `python -m benchmarks.shift_power [--quick] [--json FILE]`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import Table, parser
from core.contract.shifts import ShiftKind
from worker.engine.methods import shift_report
from worker.engine.methods.maths import shift
from worker.engine.methods.shift_report import Settings, Sides

Rng = np.random.Generator
Floats = NDArray[np.float32]
FigureRow = tuple[str, float, str, str]
"""Name, value, goal, unit."""
WIDTH, CLASSES, LEVEL = 20, 4, 0.05
_MEANS = np.random.default_rng(7).normal(size=(CLASSES, WIDTH))
_MOVES = np.random.default_rng(8).normal(size=(CLASSES, WIDTH))


def draw(count: int, rng: Rng, shares: NDArray[np.float64] | None = None) -> tuple[Floats, NDArray[np.int64]]:
    """Items (count, 20) of four Gaussian classes, and their classes."""
    labels = rng.choice(CLASSES, count, p=shares)
    return (_MEANS[labels] + rng.normal(size=(count, WIDTH))).astype(np.float32), labels


@dataclass(frozen=True)
class Null:
    """A world without a shift."""

    name: str
    source: int
    target: int
    sample: Callable[[int, Rng], Floats]


def _wide(count: int, rng: Rng) -> Floats:
    return rng.normal(size=(count, 200)).astype(np.float32)


def _skewed(count: int, rng: Rng) -> Floats:
    return rng.lognormal(size=(count, WIDTH)).astype(np.float32)


def nulls() -> list[Null]:
    """Few and many items, sides of different sizes, more features than items, heavy tails."""
    return [
        Null("four classes, 50 and 50 items", 50, 50, lambda count, rng: draw(count, rng)[0]),
        Null("four classes, 200 and 200 items", 200, 200, lambda count, rng: draw(count, rng)[0]),
        Null("200 features, 50 and 150 items", 50, 150, _wide),
        Null("heavy tails, 40 and 120 items", 40, 120, _skewed),
    ]


def p_values(source: Floats, target: Floats, permutations: int, rng: Rng) -> tuple[float, float]:
    """Of the kernel test and of the classifier test."""
    n, m = len(source), len(target)
    both = np.concatenate([source, target])
    fold = shift.folds(n, m, 5, rng)
    member = shift.memberships(n, m, fold, permutations, rng)
    z = shift.axes(both, max(2, min(128, len(both) // 4)), rng)
    return shift.mmd(shift.gram(both), member).p_value, shift.classifier(z, member, fold).tested.p_value


def false_alarms(world: Null, runs: int, permutations: int) -> Iterator[FigureRow]:
    """Share of runs in which each test finds a shift that is not there."""
    found = np.zeros(2)
    for run in range(runs):
        rng = np.random.default_rng([11, run])
        source, target = world.sample(world.source, rng), world.sample(world.target, rng)
        found += np.array(p_values(source, target, permutations, rng)) <= LEVEL
    goals = (">= 0.035", "<= 0.065") if runs >= 1000 else ("",)
    for name, share in zip(("MMD", "classifier"), found / runs, strict=True):
        for goal in goals:
            yield f"type I error, {name}, {world.name}", float(share), goal, ""


def shifted(kind: str, amount: float, count: int, rng: Rng) -> tuple[Floats, NDArray[np.int64], Floats]:
    """Source, its classes, and a target that is shifted by an amount.

    `mean`: all items moved together by so many standard deviations; `scale`: spread times 1 + amount; `label`: class
    shares moved by a total variation of amount.
    """
    source, labels = draw(count, rng)
    shares = np.full(CLASSES, 1 / CLASSES)
    if kind == "label":
        shares = shares + amount * np.array([1, -1 / 3, -1 / 3, -1 / 3])
    target, _ = draw(count, rng, shares)
    if kind == "mean":
        target = target + np.float32(amount) * np.eye(1, WIDTH, dtype=np.float32)
    if kind == "scale":
        target = target * np.float32(1 + amount)
    return source, labels, target


AMOUNTS = {"mean": (0.25, 0.5, 0.75, 1.0), "scale": (0.05, 0.1, 0.2, 0.3), "label": (0.1, 0.2, 0.3, 0.4)}
_WORDS = {"mean": "mean moved by {:g} sd", "scale": "spread {:.0%} wider", "label": "class shares moved by {:.0%}"}


def power(kind: str, amount: float, count: int, runs: int, permutations: int) -> Iterator[FigureRow]:
    """Share of runs in which each test finds a shift of that amount."""
    found = np.zeros(2)
    for run in range(runs):
        rng = np.random.default_rng([12, run])
        source, _, target = shifted(kind, amount, count, rng)
        found += np.array(p_values(source, target, permutations, rng)) <= LEVEL
    best = amount == AMOUNTS[kind][-1] and count == 200
    for name, share in zip(("MMD", "classifier"), found / runs, strict=True):
        goal = ">= 0.9" if best else ""
        yield f"power, {name}, {_WORDS[kind].format(amount)}, n = {count}", float(share), goal, ""


def world_of(kind: ShiftKind, count: int, rng: Rng) -> tuple[Floats, NDArray[np.int64], Floats]:
    """Source, its classes and a target with a shift of that kind."""
    source, labels = draw(count, rng)
    if kind == "label":
        return source, labels, draw(count, rng, np.array([0.55, 0.25, 0.1, 0.1]))[0]
    if kind == "covariate":
        return source, labels, _far_out(count, rng)
    target, truth = draw(count, rng)
    move = {"general": 1.2 * _MOVES[0], "conditional": 1.2 * _MOVES[truth]}.get(kind, np.zeros(WIDTH))
    return source, labels, (target + move).astype(np.float32)


def _far_out(count: int, rng: Rng) -> Floats:
    """More of the items that lie far out in a direction which the classes do not differ in."""
    items, _ = draw(20 * count, rng)
    aside = np.linalg.svd(_MEANS - _MEANS.mean(axis=0))[2][-1]
    odds = np.exp(items @ aside)
    return items[rng.choice(len(items), count, replace=False, p=odds / odds.sum())]


def kinds(count: int, runs: int, permutations: int) -> Iterator[FigureRow]:
    """Share of runs in which the kind of shift is told rightly."""
    every: tuple[ShiftKind, ...] = ("none", "covariate", "label", "conditional", "general")
    for kind in every:
        right = 0
        for run in range(runs):
            rng = np.random.default_rng([13, run])
            source, labels, target = world_of(kind, count, rng)
            names = [""] * count
            sides = Sides(source, labels, target, list("abcd"), names, names)
            right += shift_report.measure(sides, rng, Settings(permutations=permutations)).kind == kind
        yield f"kind told rightly, {kind}, n = {count}", right / runs, ">= 0.9" if count >= 200 else "", ""


def rows(*, quick: bool = False) -> Iterator[FigureRow]:
    """All figures, as they come."""
    runs, fewer, permutations = (40, 10, 100) if quick else (1000, 200, 500)
    for world in nulls():
        yield from false_alarms(world, runs, permutations)
    for kind, amounts in AMOUNTS.items():
        for count in (50, 200):
            for amount in amounts:
                yield from power(kind, amount, count, fewer, permutations)
    for count in (50, 200):
        yield from kinds(count, fewer // 2, permutations)


def measure(table: Table, _data: Path | None = None, *, quick: bool = False) -> None:
    """Add all figures to a table; they need no data."""
    for name, value, goal, unit in rows(quick=quick):
        table.add(name, value, goal, unit)


def main() -> int:
    """Print the table."""
    options = parser(__doc__ or "").parse_args()
    table = Table("shift_power")
    measure(table, quick=options.quick)
    return table.finish(options.json)


if __name__ == "__main__":
    raise SystemExit(main())
