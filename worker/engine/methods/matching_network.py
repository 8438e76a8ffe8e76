"""`matching_network`: an embedding, trained on episodes, in which an item resembles single items of its class.

Vinyals, Blundell, Lillicrap, Kavukcuoglu, Wierstra: Matching Networks for One Shot Learning. NIPS 2016. Embeddings
(n, K) of length one; attention over the known items by their cosines, times a learnt factor. Without the paper's
full-context embeddings, which make an item's embedding depend on which other classes it stands beside.
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
from worker.engine.task import Task, Trained

USUAL: dict[Kind, Usual] = {
    "scratch": Usual(ways=30, queries=5, tasks=1, steps=10000, lr=2e-3),
    "network": Usual(ways=5, queries=5, tasks=1, steps=300, lr=1e-4),
    "features": Usual(ways=20, queries=5, tasks=4, steps=1000, lr=1e-3),
}
_FACTOR = 10.0  # that cosines start with


class Matching(Metric):
    """Each class's mean share in the attention that an item pays to known ones."""

    def __init__(self, embedder: Embedder) -> None:
        super().__init__(embedder)
        self.log_scale = nn.Parameter(torch.tensor(math.log(_FACTOR)))

    def rate(self, support: Tensor, query: Tensor) -> Tensor:
        ways, shots = support.shape[1:3]
        items = nn.functional.normalize(support, dim=-1).flatten(1, 2)
        asked = nn.functional.normalize(query, dim=-1).flatten(1, 2)
        near = self.log_scale.exp() * asked @ items.transpose(1, 2)
        return torch.logsumexp(near.reshape(*near.shape[:2], ways, shots), dim=3) - math.log(shots)

    def known(self, embedding: Floats, labels: NDArray[np.int64], classes: int, unseen: NDArray[np.bool_]) -> Known:
        scale = float(self.log_scale.exp())
        return class_heads.by_items(embedding, labels, classes, self.stages(), scale=scale, unseen=unseen)


def run(task: Task) -> Trained:
    """Train; see `worker.engine.few_shot.training`."""
    return training.train(task, lambda one: MetricTraining(one, Matching(one.built.module)), USUAL)
