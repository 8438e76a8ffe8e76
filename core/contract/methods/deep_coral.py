"""Options of `deep_coral`."""

from typing import ClassVar, Literal

from pydantic import Field

from core.contract.methods.common import Shift
from core.contract.methods.deep import Aligned, Weight


class DeepCoral(Aligned):
    """Training with the distance of the domains' covariances as a penalty."""

    title: ClassVar[str] = "Deep CORAL"
    summary: ClassVar[str] = "Trains so that source and target features have the same covariance and mean."
    when: ClassVar[str] = "For a change of style or contrast; the cheapest of the deep ones."
    paper: ClassVar[str] = (
        "Sun, Saenko: Deep CORAL, Correlation Alignment for Deep Domain Adaptation. ECCV Workshops 2016"
    )
    shifts: ClassVar[tuple[Shift, ...]] = ("covariate", "general")

    name: Literal["deep_coral"] = "deep_coral"
    weight: Weight = Field(default=20.0, description="How much the loss between the domains counts beside the task's.")
