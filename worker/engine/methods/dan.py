"""`dan`: a deep network whose bottleneck has the same distribution on both domains.

Long, Cao, Wang, Jordan: Learning Transferable Features with Deep Adaptation Networks, ICML 2015. The squared maximum
mean discrepancy between bottleneck features (n, K) of source and target, over five Gaussian kernels, is added to the
source's cross entropy.
"""

from torch import Tensor

from worker.engine.methods import deep
from worker.engine.methods.domains import Alignment, Outputs
from worker.engine.methods.maths.alignment import mmd, ramp
from worker.engine.task import Task, Trained


class Dan(Alignment):
    """MMD of the bottleneck."""

    def forward(self, source: Outputs, target: Outputs, progress: float) -> Tensor:
        """A scalar."""
        return ramp(progress) * mmd(source.hidden, target.hidden)


def run(task: Task) -> Trained:
    """Train; see `worker.engine.methods.deep`."""
    return deep.align(task, lambda _width, _classes: Dan())
