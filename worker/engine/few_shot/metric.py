"""What metric-based meta-learners share: they embed known items and those asked about, and rate one by the other.

Which items of an episode are known is chosen anew several times, each being known once, for embedding them is what
takes the time (Laenen, Bertinetto: On Episodes, Prototypical Networks, and Few-Shot Learning. NeurIPS 2021: an
episode's other pairs are thrown away otherwise).
"""

from abc import ABC, abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from worker.engine.feeds import Floats
from worker.engine.few_shot.embedder import Embedder
from worker.engine.few_shot.learner import Known
from worker.engine.few_shot.learnt import Answer, Views
from worker.engine.few_shot.training import Setting
from worker.engine.few_shot.views import Embedded
from worker.engine.loop import Batch
from worker.engine.stages import Stage


class Metric(nn.Module, ABC):
    """An embedder with what rates an item by known ones."""

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self.embedder = embedder

    def embed(self, inputs: Tensor) -> Tensor:
        """Items (T, W, n, …) -> embeddings (T, W, n, K)."""
        found: Tensor = self.embedder(inputs.flatten(0, 2)).unflatten(0, inputs.shape[:3])
        return found

    @abstractmethod
    def rate(self, support: Tensor, query: Tensor) -> Tensor:
        """Logits (T, W Q, W) of embeddings asked about (T, W, Q, K) by known ones (T, W, S, K)."""

    @abstractmethod
    def known(self, embedding: Floats, labels: NDArray[np.int64], classes: int, unseen: NDArray[np.bool_]) -> Known:
        """See `worker.engine.few_shot.learner.Learner`."""

    def stages(self) -> tuple[Stage, ...]:
        """What of it comes between the backbone and the comparison, as a head has it."""
        return self.embedder.stages()


class MetricTraining:
    """Cross-entropy of what is asked about, rated by what is known."""

    def __init__(self, setting: Setting, net: Metric) -> None:
        self._net = net.to(setting.task.device)
        self.backbone, self._shots = setting.built.backbone, setting.options.train_shots

    @property
    def module(self) -> nn.Module:
        return self._net

    def train(self, _epoch: int) -> None:
        self._net.train()
        self._net.embedder.set_training()

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        seen = self._net.embed(batch.inputs[0])
        firsts = range(0, seen.shape[2] - self._shots + 1, self._shots)
        turns = [self._loss(seen.roll(-first, dims=2), batch.labels) for first in firsts]
        return {"episodes": torch.stack(turns).mean()}

    def _loss(self, seen: Tensor, labels: Tensor) -> Tensor:
        """Of embeddings (T, W, S + Q, K), the first S of which are known, and classes (T, W)."""
        logits = self._net.rate(seen[:, :, : self._shots], seen[:, :, self._shots :])
        truth = labels.repeat_interleave(seen.shape[2] - self._shots, dim=1)
        return nn.functional.cross_entropy(logits.flatten(0, 1), truth.flatten())

    def measured(self, views: Views) -> tuple[Answer, Views]:
        return self._rated, Embedded(views, self._embedded)

    def _embedded(self, items: Tensor) -> Tensor:
        self._net.eval()
        with torch.no_grad():
            return self._net.embed(items[None, None])[0, 0]

    def _rated(self, support: Tensor, query: Tensor) -> Tensor:
        with torch.no_grad():
            return self._net.rate(support[None], query[None])[0]

    def known(self, embedding: Floats, labels: NDArray[np.int64], classes: int, unseen: NDArray[np.bool_]) -> Known:
        with torch.no_grad():
            return self._net.known(embedding, labels, classes, unseen)
