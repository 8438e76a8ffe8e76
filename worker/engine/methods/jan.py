"""`jan`: a deep network whose features and predictions together have the same distribution on both domains.

Long, Zhu, Wang, Jordan: Deep Transfer Learning with Joint Adaptation Networks, ICML 2017. As `dan`, but the kernel is
the product of one on bottleneck features (n, K) and one on predicted probabilities (n, C).
"""

import torch
from torch import Tensor

from worker.engine.methods import deep
from worker.engine.methods.domains import Alignment, Outputs
from worker.engine.methods.maths.alignment import joint_mmd, ramp
from worker.engine.task import Task, Trained


class Jan(Alignment):
    """Joint MMD of the bottleneck and the predictions."""

    def forward(self, source: Outputs, target: Outputs, progress: float) -> Tensor:
        """A scalar."""
        sure = [torch.softmax(side.logits.float(), dim=1) for side in (source, target)]
        return ramp(progress) * joint_mmd([(source.hidden, target.hidden), (sure[0], sure[1])])


def run(task: Task) -> Trained:
    """Train; see `worker.engine.methods.deep`."""
    return deep.align(task, lambda _width, _classes: Jan())
