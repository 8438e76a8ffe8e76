"""`cdan`: features by which a discriminator that knows the predicted class cannot tell the domains apart (CDAN+E).

Long, Cao, Wang, Jordan: Conditional Adversarial Domain Adaptation, NeurIPS 2018. As `dann`, but the discriminator sees
the outer product of predicted probabilities (n, C) and bottleneck features (n, K), or random projections of both where
it is too wide, and items that the classifier is sure of count more.
"""

import torch
from torch import Tensor

from core.contract.methods.cdan import Cdan as Options
from worker.engine.methods import deep
from worker.engine.methods.domains import Alignment, Outputs, discriminator, told_apart
from worker.engine.methods.maths.alignment import certainty, conditioned, ramp, reverse
from worker.engine.task import Task, Trained


class Cdan(Alignment):
    """The adversary; its random projections stay as they are drawn."""

    of_features: Tensor | None
    of_classes: Tensor | None

    def __init__(self, width: int, classes: int, hidden: int, limit: int) -> None:
        super().__init__()
        wide = width * classes > limit
        self.register_buffer("of_features", torch.randn(width, limit) if wide else None)
        self.register_buffer("of_classes", torch.randn(classes, limit) if wide else None)
        self.discriminator = discriminator(limit if wide else width * classes, hidden)

    def forward(self, source: Outputs, target: Outputs, progress: float) -> Tensor:
        """A scalar."""
        sure = [torch.softmax(side.logits.detach().float(), dim=1) for side in (source, target)]
        features = reverse(torch.cat([source.hidden, target.hidden]), ramp(progress))
        weights = torch.cat([certainty(part) for part in sure])
        return told_apart(self.discriminator(self._conditioned(features, torch.cat(sure))), len(source.hidden), weights)

    def _conditioned(self, features: Tensor, sure: Tensor) -> Tensor:
        if self.of_features is None or self.of_classes is None:
            return conditioned(features, sure)
        projected = (features @ self.of_features) * (sure.to(features.dtype) @ self.of_classes)
        found: Tensor = projected / self.of_features.shape[1] ** 0.5
        return found


def run(task: Task) -> Trained:
    """Train; see `worker.engine.methods.deep`."""
    options = task.options
    assert isinstance(options, Options)
    hidden, limit = options.discriminator, options.conditioned_width
    return deep.align(task, lambda width, classes: Cdan(width, classes, hidden, limit))
