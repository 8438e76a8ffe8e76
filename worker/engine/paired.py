"""Two arms on the same items: how much better one is, an interval, a p-value. Pure functions on NumPy arrays.

A figure is a ratio of sums over the items: the share of right ones, micro-averaged F1, or R2. Right and wrong are
compared by McNemar's exact test (1947) with the score interval of Tango (Statistics in Medicine, 1998), which holds
where few pairs differ and a bootstrap does not; the others by a paired bootstrap (percentiles widened for few items:
Hesterberg, The American Statistician, 2015) and by swapping the arms' answers at random. Interval and p-value agree:
where p is 0.05 or more the interval holds 0.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binom, norm, t

from core.contract.datasets import Problem
from core.contract.verdicts import Difference
from worker.engine.metrics import Z95, Floats, wilson
from worker.engine.problems import Targets

Vector = NDArray[np.float64]
Test = Literal["mcnemar", "paired_bootstrap"]
ROUNDS = 2000
LEVEL = 0.05
_BLOCKS = 1000  # more items than that are drawn in random blocks of equal size: sums of them are as good as single ones
_FEWEST = 5  # items below which nothing is said by a bootstrap
_POWER = float(norm.ppf(0.8))


@dataclass(frozen=True)
class Answers:
    """How an arm answered n items: its figure is `hits.sum() / sizes.sum()`, and more is better."""

    hits: Vector
    sizes: Vector
    paired_right: bool = False
    """Whether hits are 0 and 1, right and wrong, and all sizes 1."""
    said: NDArray[np.bool_] | None = None
    """Multi-label: which classes each item was given (n, C)."""

    def __len__(self) -> int:
        return len(self.hits)

    @property
    def figure(self) -> float:
        """Accuracy, micro-averaged F1 or R2; nan without items."""
        if len(self) == 0:
            return float("nan")
        size = float(self.sizes.sum())
        return float(self.hits.sum()) / size if size else 1.0

    def only(self, kept: NDArray[np.bool_]) -> "Answers":
        """Those of some items."""
        said = None if self.said is None else self.said[kept]
        return Answers(self.hits[kept], self.sizes[kept], self.paired_right, said)

    def of_class(self, number: int, members: NDArray[np.bool_]) -> "Answers":
        """Whether the items of a class were recognised as such, right or wrong."""
        hits = self.hits[members] if self.said is None else self.said[members, number].astype(np.float64)
        return Answers(hits, np.ones(len(hits)), paired_right=True)


def answers(problem: Problem, logits: Floats, targets: Targets) -> Answers:
    """Judge logits (n, C) by targets (`worker.engine.problems`); R2 is about the mean of these targets."""
    if problem == "classification":
        right = np.asarray(logits.argmax(axis=1) == targets, dtype=np.float64)
        return Answers(right, np.ones(len(targets)), paired_right=True)
    if problem == "multi_label":
        said, truth = logits > 0, targets > 0.5
        sizes = (said.sum(axis=1) + truth.sum(axis=1)).astype(np.float64)
        return Answers(2.0 * (said & truth).sum(axis=1), sizes, said=said)
    truth = np.asarray(targets, dtype=np.float64)
    spread = np.square(truth - truth.mean(axis=0)).mean(axis=1) if len(truth) else np.empty(0)
    return Answers(spread - np.square(logits - truth).mean(axis=1), spread)


def interval(one: Answers, rng: np.random.Generator) -> tuple[float, float]:
    """95 % interval of a single arm's figure: Wilson's score interval, or a bootstrap."""
    if one.paired_right:
        return wilson(round(float(one.hits.sum())), len(one))
    if len(one) < _FEWEST:
        return min(-1.0, one.figure), 1.0
    blocks = _blocks(rng, one.hits, one.sizes)
    return _percentiles(_resampled(blocks, rng, lambda sums: _ratio(sums[0], sums[1])), blocks.shape[1])


def compare(method: Answers, other: Answers, rng: np.random.Generator) -> Difference:
    """The method's figure minus the other's on the same n items, with its 95 % interval and two-sided p-value."""
    effect = method.figure - other.figure
    if method.paired_right:
        better, worse = discordant(method, other)
        low, high = tango(better, worse, len(method))
        return _difference(effect, low, high, mcnemar(better, worse), "mcnemar")
    if len(method) < _FEWEST:
        return _difference(effect, -2.0, 2.0, 1.0, "paired_bootstrap")
    blocks = _blocks(rng, method.hits, method.sizes, other.hits, other.sizes)
    drawn = _resampled(blocks, rng, lambda sums: _ratio(sums[0], sums[1]) - _ratio(sums[2], sums[3]))
    low, high = _percentiles(drawn, blocks.shape[1])
    return _difference(effect, low, high, _swapped(blocks, effect, rng), "paired_bootstrap")


def discordant(method: Answers, other: Answers) -> tuple[int, int]:
    """Items that the method alone got right, and that the other alone did."""
    ours, theirs = method.hits > 0.5, other.hits > 0.5
    return int((ours & ~theirs).sum()), int((theirs & ~ours).sum())


def mcnemar(better: int, worse: int) -> float:
    """Two-sided exact p-value: of the pairs that differ, each is as likely to fall to either side."""
    if better + worse == 0:
        return 1.0
    return min(1.0, 2 * float(binom.cdf(min(better, worse), better + worse, 0.5)))


def tango(better: int, worse: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Score interval of a difference of two paired shares, `(better - worse) / n`; (-1, 1) without items."""
    if n == 0:
        return -1.0, 1.0
    middle = (better - worse) / n

    def score(delta: float) -> float:
        b = (2 * n - better + worse) * delta - better - worse
        root = math.sqrt(max(0.0, b * b + 8 * n * worse * delta * (1 - delta)))
        spread = 2 * max(0.0, (root - b) / (4 * n)) + delta * (1 - delta)
        return (better - worse - n * delta) / math.sqrt(max(n * spread, 1e-300))

    edge = 1 - 1e-12
    low = -1.0 if middle <= -edge else float(brentq(lambda d: score(d) - z, -edge, min(middle + 1e-13, edge)))
    high = 1.0 if middle >= edge else float(brentq(lambda d: score(d) + z, max(middle - 1e-13, -edge), edge))
    return low, high


def items_needed(method: Answers, other: Answers, effect: float) -> int:
    """Items that would tell a true difference of `effect` from none in four cases of five (two-sided 5 %)."""
    n = max(len(method), 1)
    influence = _influence(method) - _influence(other)
    # One pair more that differs: none at all among few items does not mean that none ever would.
    variance = (float(np.square(influence - influence.mean()).sum()) + 1) / (n + 1) if len(method) else 1.0
    return math.ceil((Z95 + _POWER) ** 2 * variance / effect**2)


def _influence(one: Answers) -> Vector:
    """What each item adds to the figure, in first order."""
    mean = float(one.sizes.mean()) if len(one) else 1.0
    return (one.hits - one.figure * one.sizes) / mean if mean else np.zeros(len(one))


def _difference(effect: float, low: float, high: float, p: float, test: Test) -> Difference:
    low, high = min(low, effect), max(high, effect)
    if p >= LEVEL:
        low, high = min(low, 0.0), max(high, 0.0)
    return Difference(effect=effect, low=low, high=high, p_value=p, test=test)


def _blocks(rng: np.random.Generator, *columns: Vector) -> Vector:
    """Columns (n,) as rows (k, blocks): one item a block, or equally many at random, above a thousand of them."""
    stacked = np.stack(columns)
    n = stacked.shape[1]
    if n <= _BLOCKS:
        return stacked
    place = rng.permutation(n) % _BLOCKS
    return np.stack([np.bincount(place, weights=column, minlength=_BLOCKS) for column in stacked])


def _resampled(blocks: Vector, rng: np.random.Generator, figure: Callable[[Vector], Vector]) -> Vector:
    """The figure (rounds,) of sums (k, rounds) over blocks drawn with replacement."""
    n = blocks.shape[1]
    drawn = rng.integers(0, n, (ROUNDS, n)) + n * np.arange(ROUNDS)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=ROUNDS * n).reshape(ROUNDS, n)
    return figure(blocks @ counts.T.astype(np.float64))


def _percentiles(values: Vector, n: int) -> tuple[float, float]:
    """The middle 95 %, widened as a t distribution is wider than a normal one."""
    tail = float(norm.cdf(-math.sqrt(n / (n - 1)) * float(t.ppf(1 - LEVEL / 2, n - 1))))
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _swapped(blocks: Vector, effect: float, rng: np.random.Generator) -> float:
    """Share of random swaps of the two arms' answers that differ at least as much (Noreen, 1989)."""
    swap = rng.integers(0, 2, (blocks.shape[1], ROUNDS)).astype(np.float64)
    moved = (blocks[2:] - blocks[:2]) @ swap
    ours, theirs = blocks[:2].sum(axis=1)[:, None] + moved, blocks[2:].sum(axis=1)[:, None] - moved
    differences = _ratio(ours[0], ours[1]) - _ratio(theirs[0], theirs[1])
    return (1 + int((np.abs(differences) >= abs(effect) - 1e-12).sum())) / (ROUNDS + 1)


def _ratio(part: Vector, whole: Vector) -> Vector:
    return np.divide(part, whole, out=np.ones_like(part), where=whole != 0)
