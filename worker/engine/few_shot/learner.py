"""What is trained on episodes, as the loop sees it and as it is asked afterwards."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from worker.engine.feeds import Floats
from worker.engine.few_shot.learnt import Answer, FewShotHead, Views
from worker.engine.heads import Head
from worker.engine.loop import Batch


@dataclass(frozen=True)
class Known:
    """A head that knows classes by their items, and what it says of each of these without having learnt from it."""

    head: Head
    out_of_fold: Floats
    """Logits (n, C); those of an item that is alone in its class are as if it had none."""
    few_shot: FewShotHead


class Learner(Protocol):
    """A method of meta-learning. A batch holds whole episodes: inputs (T, W, K + Q, …) and no labels but 0 … W - 1."""

    @property
    def module(self) -> nn.Module:
        """All that is trained and all that has state; the best state is kept and put back."""

    def train(self, epoch: int) -> None:
        """Set the parts to training mode, those that are frozen to evaluation mode."""

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Named losses, each a scalar, the mean over the batch's episodes; their sum is minimised."""

    def measured(self, views: Views) -> tuple[Answer, Views]:
        """What answers episodes with these weights, and the items as it takes them: what can be done once for all
        episodes is done once.
        """

    def known(self, embedding: Floats, labels: NDArray[np.int64], classes: int, unseen: NDArray[np.bool_]) -> Known:
        """The head that is served, from the backbone's embeddings (n, D) of all known items; `unseen` (n,) are those
        of classes that were not trained on.
        """
