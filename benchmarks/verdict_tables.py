"""Tables for jobs whose verdict is known.

A world of hidden figures: each is a curved function of some of twelve columns, and whatever is asked follows from them.
A large table of the world teaches a network the hidden figures; a small one of other questions then needs few rows.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.sets import Upload
from core.contract.datasets import Problem

Rng = np.random.Generator
Floats = NDArray[np.float64]
CLASSES: tuple[Problem, Problem] = ("classification", "multi_label")
COLUMNS, HIDDEN = 8, 4
SMALL, PLAIN, LARGE, HELD_OUT = 120, 400, 4000, 400
MANY_HELD_OUT = 1000  # a difference of a few points is told from chance by so many
COLUMN = {"classification": "label", "multi_label": "labels", "regression": "value"}


def _hidden(x: Floats) -> Floats:
    """Four hidden figures (n, 4) of columns (n, 8): products and bends, of which no column alone tells anything."""
    pairs = x.reshape(len(x), HIDDEN, 2)
    return np.sign(pairs.prod(axis=2)) * np.sqrt(np.abs(pairs.prod(axis=2)))


def _asked(hidden: Floats, problem: Problem, rng: Rng) -> list[str]:
    """A question of the hidden figures, drawn by the generator."""
    weights, _ = np.linalg.qr(rng.normal(size=(HIDDEN, HIDDEN)))
    said = hidden @ weights
    if problem == "regression":
        return [str(round(float(value), 5)) for value in said[:, 0] + 0.1 * rng.normal(size=len(said))]
    if problem == "classification":
        return [f"kind {number}" for number in said.argmax(axis=1)]
    return [";".join(f"tag {number}" for number in np.flatnonzero(row > 0.2)) for row in said]


def _table(
    x: Floats, targets: Sequence[str], problem: Problem, *, held_out: int, names: Sequence[str], target: str = ""
) -> Upload:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*names, target or COLUMN[problem], "split"])
    for number, (row, value) in enumerate(zip(x, targets, strict=True)):
        split = "train" if number < len(x) - held_out else "test"
        writer.writerow([*(round(float(one), 5) for one in row), value, split])
    return Upload("", "tabular", ".csv", text.getvalue().encode())


def _names(count: int) -> list[str]:
    return [f"column {number}" for number in range(count)]


def _world(rows: int, problem: Problem, rng: Rng) -> tuple[Floats, list[str]]:
    x = rng.normal(size=(rows, COLUMNS))
    return x, _asked(_hidden(x), problem, rng)


def small(_data: Path, rng: Rng, *, problem: Problem) -> Upload:
    """Few rows, and a column of its own that tells nothing."""
    x, targets = _world(SMALL + HELD_OUT, problem, rng)
    x = np.column_stack([x, rng.normal(size=len(x))])
    names = [*_names(COLUMNS), "own"]
    return _table(x, targets, problem, held_out=HELD_OUT, names=names)


def large(_data: Path, rng: Rng, *, problem: Problem) -> Upload:
    """Many rows, asked all hidden figures at once, with two columns that the small one lacks."""
    x = rng.normal(size=(LARGE, COLUMNS + 2))
    hidden = _hidden(x[:, :COLUMNS])
    tags = [";".join(f"sign {number}" for number in np.flatnonzero(row > 0)) for row in hidden]
    targets = tags if problem != "classification" else _asked(hidden, problem, rng)
    asked: Problem = "classification" if problem == "classification" else "multi_label"
    return _table(x, targets, asked, held_out=200, names=_names(COLUMNS + 2), target="tags" if asked != problem else "")


def plain(_data: Path, rng: Rng, *, problem: Problem) -> Upload:
    """Rows enough to learn from without help."""
    x, targets = _world(PLAIN + HELD_OUT, problem, rng)
    return _table(x, targets, problem, held_out=HELD_OUT, names=_names(COLUMNS))


def crossed(_data: Path, rng: Rng, *, problem: Problem) -> Upload:
    """The same question, but each column stands under another one's name."""
    x, targets = _world(LARGE // 2, problem, rng)
    names = [_names(COLUMNS)[(3 * number + 1) % COLUMNS] for number in range(COLUMNS)]
    return _table(x, targets, problem, held_out=200, names=names)


def shuffled(_data: Path, rng: Rng, *, problem: Problem) -> Upload:
    """Labels that do not follow from the rows."""
    x, targets = _world(PLAIN + HELD_OUT, problem, rng)
    return _table(x, [str(one) for one in rng.permutation(targets)], problem, held_out=HELD_OUT, names=_names(COLUMNS))


def unrelated(_data: Path, rng: Rng) -> Upload:
    """The same columns, and a question that has nothing to do with the world's."""
    x = rng.normal(size=(LARGE // 2, COLUMNS))
    targets = ["far" if far else "near" for far in np.abs(x).max(axis=1) > np.median(np.abs(x).max(axis=1))]
    return _table(x, targets, "classification", held_out=200, names=_names(COLUMNS))


def shuffled_diabetes(_data: Path, rng: Rng) -> Upload:
    """442 patients, each with another one's progress."""
    from sklearn.datasets import load_diabetes

    found: Any = load_diabetes()
    order = rng.permutation(len(found.target))
    values = [str(value) for value in rng.permutation(found.target)]
    return _table(found.data[order] * 20, values, "regression", held_out=142, names=found.feature_names)


def friedman(_data: Path, rng: Rng) -> Upload:
    """Friedman's first function (The Annals of Statistics, 1991): sine, square and sums of five of ten columns."""
    from sklearn.datasets import make_friedman1

    x, y = make_friedman1(n_samples=1000 + HELD_OUT, noise=0.5, random_state=int(rng.integers(1 << 30)))
    return _table(x, [str(round(float(value), 5)) for value in y], "regression", held_out=HELD_OUT, names=_names(10))


def products(_data: Path, rng: Rng) -> Upload:
    """Which of four pairs of columns has the largest product: no line tells, nor do a few random bends."""
    x = rng.normal(size=(2000 + MANY_HELD_OUT, COLUMNS))
    targets = [f"pair {number}" for number in _hidden(x).argmax(axis=1)]
    return _table(x, targets, "classification", held_out=MANY_HELD_OUT, names=_names(COLUMNS))
