"""`mcc`: a network that is not torn between classes on target items.

Jin, Wang, Long, Wang: Minimum Class Confusion for Versatile Domain Adaptation, ECCV 2020. From a batch's target
probabilities (n, C) at a high temperature, sure items counting more, comes a (C, C) table of how often two classes are
held for one item; what stands beside its diagonal is added to the source's cross entropy.
"""

from torch import Tensor

from core.contract.methods.mcc import Mcc as Options
from worker.engine.methods import deep
from worker.engine.methods.domains import Alignment, Outputs
from worker.engine.methods.maths.alignment import confusion
from worker.engine.task import Task, Trained


class Mcc(Alignment):
    """Confusion of classes on the target."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, _source: Outputs, target: Outputs, _progress: float) -> Tensor:
        """A scalar in [0, 1]."""
        return confusion(target.logits, self.temperature)


def run(task: Task) -> Trained:
    """Train; see `worker.engine.methods.deep`."""
    options = task.options
    assert isinstance(options, Options)
    return deep.align(task, lambda _width, _classes: Mcc(options.temperature))
