"""`prototypical_network`: an embedding, trained on episodes, in which an item lies nearest to the mean of its class.

Snell, Swersky, Zemel: Prototypical Networks for Few-shot Learning. NIPS 2017. Embeddings (n, K); the logit of a class
is minus the squared distance to the mean of its known items, times a learnt factor. With more classes in an episode
than are asked for later it learns better (20 to 60 in the paper).
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.contract.methods import PrototypicalNetwork as Options
from worker.engine.feeds import Floats
from worker.engine.few_shot import class_heads, training
from worker.engine.few_shot.embedder import Embedder
from worker.engine.few_shot.learner import Known
from worker.engine.few_shot.metric import Metric, MetricTraining
from worker.engine.few_shot.settling import Kind, Usual
from worker.engine.methods.maths.episodes import prototypes, squared_distances
from worker.engine.stages import Stage, Unit
from worker.engine.task import Task, Trained

USUAL: dict[Kind, Usual] = {
    "scratch": Usual(ways=30, queries=5, tasks=1, steps=10000, lr=2e-3),
    "network": Usual(ways=5, queries=5, tasks=1, steps=300, lr=1e-4),
    "features": Usual(ways=20, queries=5, tasks=4, steps=1000, lr=1e-3),
}
_ANGLES = 10.0  # factor that cosines start with


class Prototypes(Metric):
    """Distances to class means, times a factor."""

    def __init__(self, embedder: Embedder, cosine: bool) -> None:
        super().__init__(embedder)
        self.cosine = cosine
        self.log_scale = nn.Parameter(torch.tensor(math.log(_ANGLES if cosine else 1.0)))

    def embed(self, inputs: Tensor) -> Tensor:
        """Items (T, W, n, …) -> embeddings (T, W, n, K), of length one where angles are compared."""
        found = super().embed(inputs)
        return nn.functional.normalize(found, dim=-1) if self.cosine else found

    def rate(self, support: Tensor, query: Tensor) -> Tensor:
        return -self.log_scale.exp() * squared_distances(query.flatten(1, 2), prototypes(support))

    def stages(self) -> tuple[Stage, ...]:
        return (*super().stages(), *([Unit()] if self.cosine else []))

    def known(self, embedding: Floats, labels: NDArray[np.int64], classes: int, unseen: NDArray[np.bool_]) -> Known:
        scale = float(self.log_scale.exp())
        return class_heads.by_means(embedding, labels, classes, self.stages(), scale=scale, unseen=unseen)


def run(task: Task) -> Trained:
    """Train; see `worker.engine.few_shot.training`."""
    options = task.options
    assert isinstance(options, Options)
    cosine = options.distance == "cosine"
    return training.train(task, lambda one: MetricTraining(one, Prototypes(one.built.module, cosine)), USUAL)
