"""`relation_network`: an embedding, and a small network that says how alike an item and a class are.

Sung, Yang, Zhang, Xiang, Torr, Hospedales: Learning to Compare. CVPR 2018. It compares vectors (n, K), and is told
their difference and product beside them; and it learns by cross-entropy over the classes of an episode, where the paper
regresses to 0 and 1.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from core.contract.methods import RelationNetwork as Options
from worker.engine.class_stages import Relation, RelationModule
from worker.engine.feeds import Floats
from worker.engine.few_shot import class_heads, training
from worker.engine.few_shot.embedder import Embedder
from worker.engine.few_shot.learner import Known
from worker.engine.few_shot.metric import Metric, MetricTraining
from worker.engine.few_shot.settling import Kind, Usual
from worker.engine.methods.maths.episodes import prototypes
from worker.engine.task import Task, Trained

USUAL: dict[Kind, Usual] = {
    "scratch": Usual(ways=20, queries=5, tasks=1, steps=10000, lr=2e-3),
    "network": Usual(ways=5, queries=5, tasks=1, steps=300, lr=1e-4),
    "features": Usual(ways=20, queries=5, tasks=4, steps=1500, lr=1e-3),
}


class Relations(Metric):
    """The comparing network on class means."""

    def __init__(self, embedder: Embedder, hidden: int, rng: np.random.Generator) -> None:
        super().__init__(embedder)
        width = embedder.width
        maps = rng.normal(0, (1 / (4 * width)) ** 0.5, (4, hidden, width)).astype(np.float32)
        # Differences count against, products in favour, before anything is learnt.
        out = np.concatenate([-np.ones(hidden // 2), np.ones(hidden - hidden // 2)]).astype(np.float32)
        maps[2, : hidden // 2], maps[3, hidden // 2 :] = np.abs(maps[2, : hidden // 2]), np.abs(maps[3, hidden // 2 :])
        item, mean, apart, product = maps
        none = np.zeros((1, width), dtype=np.float32)
        self.relation = RelationModule(
            Relation(none, item, mean, apart, product, np.zeros(hidden, np.float32), out / np.float32(hidden**0.5))
        )

    def rate(self, support: Tensor, query: Tensor) -> Tensor:
        return self.relation.compare(query.flatten(1, 2), prototypes(support))

    def known(self, embedding: Floats, labels: NDArray[np.int64], classes: int, unseen: NDArray[np.bool_]) -> Known:
        return class_heads.by_relation(embedding, labels, classes, self.stages(), relation=self.relation, unseen=unseen)


def run(task: Task) -> Trained:
    """Train; see `worker.engine.few_shot.training`."""
    options = task.options
    assert isinstance(options, Options)
    hidden, rng = options.hidden, np.random.default_rng((task.seed, 2))
    return training.train(task, lambda one: MetricTraining(one, Relations(one.built.module, hidden, rng)), USUAL)
