"""Episodes: N classes, K items of each to learn them from, Q more of each to ask about. Drawn from a generator.

Vinyals et al.: Matching Networks for One Shot Learning, NIPS 2016. An episode is refused before anything is trained
where there are too few classes or items for it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.contract.errors import JobError
from core.contract.methods.episodic import Episodic

Ints = NDArray[np.int64]
QUARTERS = 4
MIRRORED = 2 * QUARTERS
"""Turns from `QUARTERS` on are those of the mirror image."""


def turns_of(options: Episodic) -> int:
    """How many classes one is, turned."""
    return QUARTERS if options.rotations else 1


@dataclass(frozen=True)
class Pool:
    """Items of some classes, by row."""

    rows: tuple[Ints, ...]
    """Rows of each class."""
    turns: tuple[int, ...]
    """By how many quarters each class's pictures, or their mirror images, are turned."""
    what: str = "test"
    """What it is for, in messages."""

    @classmethod
    def of(cls, labels: Ints, classes: list[int], *, turns: int, what: str) -> "Pool":
        """The items whose `labels` (n,) are among `classes`, each a class in so many `turns`."""
        found = [np.flatnonzero(labels == number) for number in classes]
        return cls(tuple(found) * turns, tuple(turn for turn in range(turns) for _ in found), what)

    @property
    def classes(self) -> int:
        """How many there are, each turn of a class being one."""
        return len(self.rows)

    def enough(self, items: int) -> list[int]:
        """Classes that have so many items."""
        return [number for number, rows in enumerate(self.rows) if len(rows) >= items]


@dataclass(frozen=True)
class Episode:
    """Rows (W, K + Q) of W classes, those to learn from first; and by how many quarters each class is turned, (W,)."""

    rows: Ints
    turns: Ints
    shots: int

    @property
    def flat_turns(self) -> Ints:
        """Of each item, as `rows.ravel()` has them."""
        return np.repeat(self.turns, self.rows.shape[1])


def feasible(pool: Pool, ways: int, shots: int, queries: int, prefix: str = "") -> int:
    """How many items of each class can be asked about, at most `queries`.

    Classes with fewer than `shots` + 1 items are left out; the number falls until enough classes have enough items.
    Raises `JobError` `too_few_classes` or `too_few_items`.
    """
    if pool.classes < ways:
        raise JobError(
            f"There are {pool.classes} {pool.what} classes, and an episode has {ways}.",
            code="too_few_classes",
            param=f"method.{prefix}ways",
            hint=_more(pool.classes, f"{prefix}ways"),
            details={"classes": pool.classes, "ways": ways},
        )
    sizes = sorted((len(rows) for rows in pool.rows), reverse=True)
    found = min(queries, sizes[ways - 1] - shots)
    if found < 1:
        raise JobError(
            f"Only {sum(size > shots for size in sizes)} {pool.what} classes have more than {shots} "
            f"item{'s' * (shots != 1)}: an episode takes {ways} classes with {shots} to learn from and at least one to "
            "ask about.",
            code="too_few_items",
            param=f"method.{prefix}shots",
            hint=f"Lower `{prefix}shots` or `{prefix}ways`, or upload more items of each class.",
            details={"items": sizes[:ways], "ways": ways, "shots": shots},
        )
    return found


def _more(classes: int, field: str) -> str:
    lower = f"Lower `{field}` to {classes} or less, or upload" if classes > 1 else "Upload"
    return f"{lower} more classes; a quarter of them is measured on, and nothing is trained on these."


def draw(pool: Pool, ways: int, shots: int, queries: int, rng: np.random.Generator) -> Episode:
    """An episode at random; see `feasible`."""
    able = pool.enough(shots + queries)
    chosen = rng.choice(len(able), ways, replace=False)
    classes = [able[number] for number in chosen]
    rows = np.stack([rng.choice(pool.rows[number], shots + queries, replace=False) for number in classes])
    return Episode(rows.astype(np.int64), np.array([pool.turns[number] for number in classes]), shots)
