"""Accuracy over episodes: every arm is asked the same ones, so that differences are those of pairs."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import t

from core.contract.few_shot import EpisodeFigure
from core.contract.verdicts import Difference
from worker.engine.few_shot.batches import asked
from worker.engine.few_shot.episodes import Episode, Pool, draw
from worker.engine.few_shot.learnt import Views
from worker.engine.few_shot.material import Test

Shares = NDArray[np.float64]
_FEWEST = 20  # episodes that are asked whatever time it takes


@dataclass(frozen=True)
class Contestant:
    """Something that answers episodes."""

    name: str
    answer: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    views: Views
    seconds: float | None = None
    """For each kind of episode, at most: slow ones are asked fewer."""


@dataclass(frozen=True)
class Measured:
    """Shares of right answers, episode by episode (E,), of those that were asked, which are the first ones."""

    name: str
    test: Test
    right: Shares
    seconds: float

    def figure(self, note: str = "") -> EpisodeFigure:
        """The mean with its 95 % interval."""
        mean, half = interval(self.right)
        return EpisodeFigure(
            arm=self.name,
            ways=self.test.ways,
            shots=self.test.shots,
            queries=self.test.queries,
            episodes=len(self.right),
            accuracy=mean,
            low=max(0.0, mean - half),
            high=min(1.0, mean + half),
            seconds=round(self.seconds / len(self.right), 5),
            note=note,
        )


def episodes_of(pool: Pool, test: Test, count: int, seed: int) -> list[Episode]:
    """The same ones for every arm of a job, and for every job with that seed."""
    rng = np.random.default_rng((seed, test.ways, test.shots))
    return [draw(pool, test.ways, test.shots, test.queries, rng) for _ in range(count)]


def measure(
    who: Contestant,
    test: Test,
    episodes: list[Episode],
    device: torch.device,
    check: Callable[[], None] = lambda: None,
) -> Measured:
    """Ask all episodes, or as many as there is time for."""
    truth = torch.arange(test.ways, device=device).repeat_interleave(test.queries)
    begun, right = time.monotonic(), []
    for number, episode in enumerate(episodes):
        check()
        if number >= _FEWEST and who.seconds is not None and time.monotonic() - begun > who.seconds:
            break
        said = asked(who.answer, episode, who.views, device).argmax(dim=1)
        right.append(float((said == truth).float().mean()))
    return Measured(who.name, test, np.array(right), time.monotonic() - begun)


def interval(right: Shares) -> tuple[float, float]:
    """Mean over episodes, and half of its 95 % interval."""
    count = len(right)
    spread = float(right.std(ddof=1)) if count > 1 else 0.0
    return float(right.mean()), float(t.ppf(0.975, count - 1)) * spread / count**0.5 if count > 1 else 0.0


def difference(ours: Measured, theirs: Measured) -> Difference:
    """Over the episodes that both were asked: the mean difference, its 95 % interval, and the p-value of a paired t."""
    count = min(len(ours.right), len(theirs.right))
    apart = ours.right[:count] - theirs.right[:count]
    mean, half = interval(apart)
    spread = float(apart.std(ddof=1)) if count > 1 else 0.0
    if spread == 0:
        p_value = 1.0 if mean == 0 else 0.0
    else:
        p_value = float(2 * t.sf(abs(mean) / (spread / count**0.5), count - 1))
    return Difference(effect=mean, low=mean - half, high=mean + half, p_value=p_value, test="paired_t")
