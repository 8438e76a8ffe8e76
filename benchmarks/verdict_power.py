"""What a verdict's test does by itself: how often it finds a difference that is not there, and one that is.

Arms are simulated answer by answer. Both find the same items hard, as two models of one data set do. `LOPSIDED` nulls
are those in which the arms are equally good in a different manner (one errs rarely and far): swapping their answers,
which a permutation test rests on, then changes more than the figure.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.contract.datasets import Problem
from worker.engine import judge, paired
from worker.engine.judge import Contender
from worker.engine.paired import Answers

Rng = np.random.Generator
Floats = NDArray[np.float64]
CLASSES, LABELS = 4, 5
SPREAD = 0.35  # of what both arms get wrong alike, and of what each does by itself, for a regression


@dataclass(frozen=True)
class World:
    """Where two arms are compared: the problem, and whether they err in the same manner."""

    problem: Problem
    lopsided: bool = False

    @property
    def name(self) -> str:
        """In a row of the table."""
        return f"{self.problem}{', other manner of errors' if self.lopsided else ''}"


def worlds() -> list[World]:
    """All of them; right answers have but one manner of being wrong."""
    return [
        World("classification"),
        *(World(p, lopsided) for p in ("multi_label", "regression") for lopsided in (False, True)),
    ]


def pair(world: World, n: int, gain: float, rng: Rng) -> tuple[Answers, Answers, Answers]:
    """What the method, the baseline and a constant answer on n items; `gain` moves the method's true figure."""
    makers: dict[Problem, Callable[[World, int, float, Rng], tuple[Answers, Answers, Answers]]] = {
        "classification": _classified,
        "multi_label": _labelled,
        "regression": _estimated,
    }
    return makers[world.problem](world, n, gain, rng)


def _classified(_world: World, n: int, gain: float, rng: Rng) -> tuple[Answers, Answers, Answers]:
    truth, hard = rng.integers(0, CLASSES, n), rng.beta(4, 1, n)

    def arm(extra: float) -> Answers:
        share = np.clip(hard + extra, 0, 1)
        said = np.where(rng.random(n) < share, truth, (truth + rng.integers(1, CLASSES, n)) % CLASSES)
        return paired.answers("classification", np.eye(CLASSES, dtype=np.float32)[said], truth)

    constant = paired.answers("classification", np.tile(np.eye(CLASSES, dtype=np.float32)[0], (n, 1)), truth)
    return arm(gain), arm(0.0), constant


def _labelled(world: World, n: int, gain: float, rng: Rng) -> tuple[Answers, Answers, Answers]:
    """Each item has a difficulty of its own; an arm of another manner answers fewer items, and those better."""
    truth = (rng.random((n, LABELS)) < 0.35).astype(np.float32)
    hard = rng.beta(3, 1, (n, 1))

    def arm(extra: float, whole: float) -> Answers:
        # A share `whole` of its errors takes a whole item at once.
        kept = rng.random((n, 1)) < np.where(whole > 0, hard + extra, 1.0)
        right = rng.random((n, LABELS)) < (hard + extra if whole == 0 else 1.0)
        said = np.where(kept, np.where(right, truth, 1 - truth), 1 - truth)
        return paired.answers("multi_label", said - 0.5, truth)

    return arm(gain, float(world.lopsided)), arm(0.0, 0.0), paired.answers("multi_label", truth * 0 - 0.5, truth)


def _estimated(world: World, n: int, gain: float, rng: Rng) -> tuple[Answers, Answers, Answers]:
    truth = rng.normal(size=(n, 1))
    scale = rng.gamma(2, 0.5, (n, 1))
    alike = SPREAD * rng.normal(size=(n, 1))

    def arm(extra: float, heavy: bool) -> Answers:
        own = rng.standard_t(5, (n, 1)) / np.sqrt(5 / 3) if heavy else rng.normal(size=(n, 1))
        # E(scale^2) = 1.5: the expected square of the error is SPREAD^2 * 1.5 * (1 + 1) * (1 - extra)
        error = scale * (alike + SPREAD * own) * np.sqrt(1 - extra)
        return paired.answers("regression", (truth + error).astype(np.float32), truth.astype(np.float32))

    share = gain / (2 * 1.5 * SPREAD**2)  # R2 rises by as much of the error as is taken away
    return (
        arm(share, world.lopsided),
        arm(0.0, False),
        paired.answers("regression", truth * 0, truth.astype(np.float32)),
    )


def false_alarms(world: World, n: int, runs: int, seed: int) -> tuple[float, float]:
    """Share of runs whose interval leaves 0 out though there is no difference, and its 95 % Monte Carlo error."""
    rng = np.random.default_rng(seed)
    found = 0
    for _ in range(runs):
        ours, theirs, _constant = pair(world, n, 0.0, rng)
        difference = paired.compare(ours, theirs, rng)
        found += difference.low > 0 or difference.high < 0
    share = found / runs
    return share, 1.96 * float(np.sqrt(0.05 * 0.95 / runs))


def improved(world: World, n: int, gain: float, runs: int, seed: int) -> tuple[float, float]:
    """Share of runs that are judged `improved`, and the mean difference that they were shown: the true one."""
    rng = np.random.default_rng(seed)
    told, shown = 0, 0.0
    targets = np.zeros(n, dtype=np.int64)
    for _ in range(runs):
        arms = pair(world, n, gain, rng)
        shown += arms[0].figure - arms[1].figure
        names = ("fine_tune", "linear_probe", "majority")
        ours, *theirs = (Contender(name, arm, arm, name == "majority") for name, arm in zip(names, arms, strict=True))
        verdict = judge.judge(ours, theirs, "regression", targets, [], rng=rng).judgement.verdict
        told += verdict == "improved"
    return told / runs, shown / runs
