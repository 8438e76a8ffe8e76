"""`maml`: weights from which a few steps of gradient descent on a few items make a good classifier.

Finn, Abbeel, Levine: Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks. ICML 2017. The steps go down
the loss of an episode's known items (W S, …); that of the items asked about (W Q, …) is differentiated through all of
these steps, or, of first order, at the weights that they lead to. Here the head starts at zero, and the first step
moves it alone.
"""

from core.contract.methods import Maml as Options
from worker.engine.few_shot.inner import train
from worker.engine.few_shot.settling import Kind, Usual
from worker.engine.few_shot.start import How, Inner
from worker.engine.task import Task, Trained

USUAL: dict[Kind, Usual] = {
    "scratch": Usual(ways=20, queries=5, tasks=1, steps=5000, lr=2e-3),
    "network": Usual(ways=5, queries=5, tasks=1, steps=300, lr=1e-4),
    "features": Usual(ways=5, queries=5, tasks=16, steps=1000, lr=1e-3),
}
INNER: dict[Kind, Inner] = {
    "scratch": Inner(steps=6, test_steps=6, lr=0.4, body=1, body_lr=0.02),
    "network": Inner(steps=3, test_steps=5, lr=0.01),
    "features": Inner(steps=3, test_steps=5, lr=0.1),
}


def run(task: Task) -> Trained:
    """Train; see `worker.engine.few_shot.inner`."""
    options = task.options
    assert isinstance(options, Options)
    return train(task, USUAL, INNER, How("maml", order=options.order))
