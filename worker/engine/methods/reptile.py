"""`reptile`: moves the weights towards where gradient steps on each episode lead them; no second derivatives.

Nichol, Achiam, Schulman: On First-Order Meta-Learning Algorithms. arXiv 2018. The known items of an episode and those
asked about are learnt from alike, (W, S + Q, …), a part of each class in every step: it is that slopes of different
parts should agree which is learnt. The loop's optimiser is given start - mean of the ends as a gradient.
"""

import torch
from torch import Tensor

from worker.engine.few_shot.inner import InnerTraining, check_finite, items_of, train
from worker.engine.few_shot.settling import Kind, Usual
from worker.engine.few_shot.start import How, Inner
from worker.engine.loop import Batch
from worker.engine.methods.maths.inner_loop import Items, descend
from worker.engine.task import Task, Trained

USUAL: dict[Kind, Usual] = {
    "scratch": Usual(ways=5, shots=5, queries=5, tasks=5, steps=2000, lr=2e-3),
    "network": Usual(ways=5, shots=5, queries=5, tasks=1, steps=300, lr=1e-4),
    "features": Usual(ways=5, shots=5, queries=5, tasks=16, steps=1000, lr=1e-3),
}
INNER: dict[Kind, Inner] = {
    "scratch": Inner(steps=5, test_steps=10, lr=0.2),
    "network": Inner(steps=5, test_steps=20, lr=0.01),
    "features": Inner(steps=5, test_steps=20, lr=0.1),
}


class ReptileTraining(InnerTraining):
    """Its loss has the gradient that moves the start, and the value of the inner loss."""

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        episodes = batch.inputs[0]
        self.track(episodes[0])
        with torch.no_grad():
            ends = self.together(self.vectorised, self.of_one, episodes).mean(dim=0)
        check_finite(ends)
        start = _flat(list(self.start.body().values()))
        moved = (start * (start.detach() - ends[:-1])).sum()
        return {"episodes": ends[-1] + moved - moved.detach()}

    def of_one(self, episode: Tensor) -> Tensor:
        """Where an episode (W, n, …) leads to: all parameters in a row, and the loss before the last step."""
        parts = _parts(episode, self.inner.steps)
        found = descend(self.start.embed, self.start.body(), parts, self.start.rates_by_name(len(episode)), order=1)
        return torch.cat([_flat(list(found.body.values())), found.loss[None]])


def _parts(episode: Tensor, steps: int) -> list[Items]:
    """A part of each class for every step, all of them in turn."""
    parts = [items_of(part) for part in episode.tensor_split(min(steps, episode.shape[1]), dim=1)]
    return [parts[number % len(parts)] for number in range(steps)]


def _flat(parts: list[Tensor]) -> Tensor:
    return torch.cat([part.reshape(-1) for part in parts])


def run(task: Task) -> Trained:
    """Train; see `worker.engine.few_shot.inner`."""
    return train(task, USUAL, INNER, How("reptile", order=1), ReptileTraining)
