"""`r2d2`: an embedding on which ridge regression, in closed form within each episode, tells the classes apart.

Bertinetto, Henriques, Torr, Vedaldi: Meta-learning with Differentiable Closed-Form Solvers. ICLR 2019. Embeddings
(n, K) with a 1 appended; targets are 1 for an item's class and 0 for the others. The penalty and the factor of the
scores are learnt with the embedding.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from worker.engine.feeds import Floats
from worker.engine.few_shot import class_heads, training
from worker.engine.few_shot.embedder import Embedder
from worker.engine.few_shot.learner import Known
from worker.engine.few_shot.metric import Metric, MetricTraining
from worker.engine.few_shot.settling import Kind, Usual
from worker.engine.methods.maths.episodes import ridge_scores
from worker.engine.task import Task, Trained

USUAL: dict[Kind, Usual] = {
    "scratch": Usual(ways=20, queries=5, tasks=1, steps=4000, lr=2e-3),
    "network": Usual(ways=5, queries=5, tasks=1, steps=300, lr=1e-4),
    "features": Usual(ways=20, queries=5, tasks=4, steps=1000, lr=1e-3),
}
_FACTOR = 10.0  # that scores of 0 to 1 start with


class Ridge(Metric):
    """Ridge regression on the known items."""

    def __init__(self, embedder: Embedder) -> None:
        super().__init__(embedder)
        self.log_penalty = nn.Parameter(torch.tensor(0.0))
        self.log_scale = nn.Parameter(torch.tensor(math.log(_FACTOR)))

    def rate(self, support: Tensor, query: Tensor) -> Tensor:
        scores = ridge_scores(support, query.flatten(1, 2), self.log_penalty.exp())
        return self.log_scale.exp() * scores

    def known(self, embedding: Floats, labels: NDArray[np.int64], classes: int, unseen: NDArray[np.bool_]) -> Known:
        penalty, scale = float(self.log_penalty.exp()), float(self.log_scale.exp())
        return class_heads.by_ridge(
            embedding, labels, classes, self.stages(), penalty=penalty, scale=scale, unseen=unseen
        )


def run(task: Task) -> Trained:
    """Train; see `worker.engine.few_shot.training`."""
    return training.train(task, lambda one: MetricTraining(one, Ridge(one.built.module)), USUAL)
