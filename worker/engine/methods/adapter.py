"""A classifier that stays as it is, and a layer before it that moves its features to another domain.

n items, embeddings (n, D), principal axes of the target (K, D), C classes. An embedding x becomes x + s (W z + b), z
being x in the principal axes and s the spread of x, so that a step of gradient descent means as much whatever the
network; W and b start at nought: the model one starts from is the first state of the training, and may remain.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from worker.engine.heads import Floats, Head
from worker.engine.methods.domains import Outputs, Top
from worker.engine.methods.worlds import reduced
from worker.engine.stages import Affine, Stage, array


class Adapter(Top):
    """`head` is the classifier that stays, `axes` leads from embeddings to z, `spread` is s."""

    axes: Tensor
    origin: Tensor

    def __init__(self, head: Head, axes: Affine, spread: float) -> None:
        super().__init__()
        self._head, self._spread = head, spread
        self.register_buffer("axes", torch.from_numpy(axes.weight.copy()), persistent=False)
        self.register_buffer("origin", torch.from_numpy(axes.bias.copy()), persistent=False)
        self.move = nn.Linear(len(axes.bias), head.width)
        nn.init.zeros_(self.move.weight)
        nn.init.zeros_(self.move.bias)
        self.fixed = head.as_module().requires_grad_(False)
        self.classifier = nn.Linear(head.weight.shape[1], head.classes).requires_grad_(False)
        with torch.no_grad():
            self.classifier.weight.copy_(self.fixed.weight)
            self.classifier.bias.copy_(self.fixed.bias)

    @classmethod
    def of(cls, head: Head, rows: Floats, rng: np.random.Generator) -> "Adapter":
        """For the domain of these embeddings (n, D)."""
        spread = max(float(np.sqrt(rows.var(axis=0, dtype=np.float64).mean())), 1e-6)
        return cls(head, reduced(rows, rng), spread)

    def forward(self, embedding: Tensor) -> Outputs:
        """Of embeddings (n, D)."""
        moved = embedding + self._spread * self.move(nn.functional.linear(embedding, self.axes, self.origin))
        hidden = self.fixed.hidden(moved)
        return Outputs(embedding, hidden, self.classifier(hidden))

    def take_statistics(self, embedding: Tensor) -> None:
        """It has none."""

    def as_head(self) -> Head:
        """The classifier with the layer before it."""
        weight = self._spread * array(self.move.weight @ self.axes)
        bias = self._spread * array(self.move.weight @ self.origin + self.move.bias)
        first = Affine(np.eye(len(weight), dtype=np.float32) + weight, bias)
        return replace(self._head, before=_joined(first, self._head.before))


def _joined(first: Affine, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """One affine map where two would follow each other, so that what is adapted time and again does not grow."""
    if not stages or not isinstance(stages[0], Affine):
        return (first, *stages)
    last = stages[0]
    return (Affine(last.weight @ first.weight, last.weight @ first.bias + last.bias), *stages[1:])
