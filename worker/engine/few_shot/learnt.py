"""What comes out of learning by episodes: something that answers them, and a head that classes can be added to."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from core.contract.few_shot import HeadKind, Initialisation
from worker.engine.few_shot.material import Material

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Answer = Callable[[Tensor, Tensor], Tensor]
"""Logits (W Q, W) of the items asked about (W, Q, …), class by class, from those that are known (W, S, …)."""


class Views(Protocol):
    """Items as a learner takes them."""

    def __call__(self, rows: Ints, turns: Ints, rng: np.random.Generator | None = None) -> Tensor:
        """Items (n, …) of those rows, turned by so many quarters; changed at random with `rng`, as in training."""


@dataclass(frozen=True)
class Learnt:
    """What answers episodes, and the items it is asked about."""

    answer: Answer
    seen: Views
    """The items that are measured on, as `answer` takes them."""
    views: Views
    """The same, as they are."""
    material: Material
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class FewShotHead:
    """What a model has to keep so that its classes can be changed."""

    kind: HeadKind
    counts: list[int]
    scale: float = 1.0
    least_logit: float | None = None
    tensors: dict[str, Floats] = field(default_factory=dict)
    """Beside the head's, by the full names that they get in the model's file."""
    initialisation: Initialisation | None = None
