"""`anil`: MAML whose inner steps change the classifier alone; the network is embedded with once for all of them.

Raghu, Raghu, Bengio, Vinyals: Rapid Learning or Feature Reuse? Towards Understanding the Effectiveness of MAML. ICLR
2020. Embeddings (T, W (S + Q), K) of a step's episodes are made at once; the head's steps are matrix products.
"""

from worker.engine.few_shot.inner import train
from worker.engine.few_shot.settling import Kind, Usual
from worker.engine.few_shot.start import How, Inner
from worker.engine.task import Task, Trained

USUAL: dict[Kind, Usual] = {
    "scratch": Usual(ways=30, queries=5, tasks=1, steps=8000, lr=2e-3),
    "network": Usual(ways=5, queries=5, tasks=1, steps=300, lr=1e-4),
    "features": Usual(ways=5, queries=5, tasks=16, steps=1000, lr=1e-3),
}
INNER: dict[Kind, Inner] = {
    "scratch": Inner(steps=5, test_steps=10, lr=0.4),
    "network": Inner(steps=5, test_steps=10, lr=0.1),
    "features": Inner(steps=5, test_steps=10, lr=0.1),
}


def run(task: Task) -> Trained:
    """Train; see `worker.engine.few_shot.inner`."""
    return train(task, USUAL, INNER, How("anil", adapts="head"))
