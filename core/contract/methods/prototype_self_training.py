"""Options of `prototype_self_training`."""

from typing import ClassVar, Literal

from pydantic import Field

from core.contract.methods.common import MethodOptions, Shift


class PrototypeSelfTraining(MethodOptions):
    """Class means that the target's own items move."""

    title: ClassVar[str] = "Prototype self-training"
    summary: ClassVar[str] = (
        "Centres both domains, begins at the source's class means and lets the target's items move them, each as far "
        "as it is sure; milliseconds on frozen features."
    )
    when: ClassVar[str] = (
        "No target labels, the same classes, and a base model in which the classes already lie in lumps, as photos do; "
        "not where they do not, as opinions in texts."
    )
    paper: ClassVar[str] = (
        "Liang, Hu, Feng: Do We Really Need to Access the Source Data? Source Hypothesis Transfer for Unsupervised "
        "Domain Adaptation. ICML 2020 (weighted class centroids as pseudo-labels)"
    )
    adapts: ClassVar[bool] = True
    shifts: ClassVar[tuple[Shift, ...]] = ("covariate", "general")

    name: Literal["prototype_self_training"] = "prototype_self_training"
    rounds: int = Field(default=10, ge=0, le=1000, description="How often the class means are moved.")
    temperature: float = Field(
        default=0.05, gt=0, le=10, description="Of the softmax over cosines: the lower, the harder each guess."
    )
    anchor: float = Field(
        default=0.1, ge=0, le=100, description="How much the source's class means count, where the target's count 1."
    )
