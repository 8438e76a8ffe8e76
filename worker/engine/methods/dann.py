"""`dann`: features by which a discriminator cannot tell the domains apart.

Ganin et al.: Domain-Adversarial Training of Neural Networks, JMLR 2016. A discriminator (K -> 1) on bottleneck features
(n, K) learns to tell source from target; its gradients come back to the network reversed, with a weight that rises from
0 to 1 as training goes on.
"""

import torch
from torch import Tensor

from core.contract.methods.dann import Dann as Options
from worker.engine.methods import deep
from worker.engine.methods.domains import Alignment, Outputs, discriminator, told_apart
from worker.engine.methods.maths.alignment import ramp, reverse
from worker.engine.task import Task, Trained


class Dann(Alignment):
    """The adversary."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.discriminator = discriminator(width, hidden)

    def forward(self, source: Outputs, target: Outputs, progress: float) -> Tensor:
        """A scalar."""
        features = reverse(torch.cat([source.hidden, target.hidden]), ramp(progress))
        return told_apart(self.discriminator(features), len(source.hidden))


def run(task: Task) -> Trained:
    """Train; see `worker.engine.methods.deep`."""
    options = task.options
    assert isinstance(options, Options)
    return deep.align(task, lambda width, _classes: Dann(width, options.discriminator))
