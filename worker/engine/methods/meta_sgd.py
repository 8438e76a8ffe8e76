"""`meta_sgd`: MAML that learns, beside the start, direction and rate of the inner step for each weight.

Li, Zhou, Chen, Li: Meta-SGD: Learning to Learn Quickly for Few-Shot Learning. arXiv 2017. A rate of any sign for every
parameter of the body, and one for each of the head's inputs (K,), which all classes share.
"""

from worker.engine.few_shot.inner import train
from worker.engine.few_shot.settling import Kind, Usual
from worker.engine.few_shot.start import How, Inner
from worker.engine.task import Task, Trained

USUAL: dict[Kind, Usual] = {
    "scratch": Usual(ways=5, queries=5, tasks=8, steps=3000, lr=2e-3),
    "network": Usual(ways=5, queries=5, tasks=1, steps=300, lr=1e-4),
    "features": Usual(ways=5, queries=5, tasks=16, steps=1000, lr=1e-3),
}
INNER: dict[Kind, Inner] = {
    "scratch": Inner(steps=2, test_steps=2, lr=0.4),
    "network": Inner(steps=2, test_steps=2, lr=0.01),
    "features": Inner(steps=2, test_steps=2, lr=0.1),
}


def run(task: Task) -> Trained:
    """Train; see `worker.engine.few_shot.inner`."""
    return train(task, USUAL, INNER, How("meta_sgd", learns_rates=True))
