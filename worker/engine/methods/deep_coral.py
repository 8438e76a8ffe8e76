"""`deep_coral`: a deep network whose bottleneck has the same covariance and mean on both domains.

Sun, Saenko: Deep CORAL, ECCV Workshops 2016. The mean squared difference of the covariances (K, K) of bottleneck
features (n, K), and of their means, is added to the source's cross entropy.
"""

from torch import Tensor

from worker.engine.methods import deep
from worker.engine.methods.domains import Alignment, Outputs
from worker.engine.methods.maths.alignment import coral, ramp
from worker.engine.task import Task, Trained


class DeepCoral(Alignment):
    """Distance of the bottleneck's second moments."""

    def forward(self, source: Outputs, target: Outputs, progress: float) -> Tensor:
        """A scalar."""
        return ramp(progress) * coral(source.hidden.float(), target.hidden.float())


def run(task: Task) -> Trained:
    """Train; see `worker.engine.methods.deep`."""
    return deep.align(task, lambda _width, _classes: DeepCoral())
