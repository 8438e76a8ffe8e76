"""Options of `coral`."""

from typing import ClassVar, Literal

from pydantic import Field

from core.contract.methods.aligning import AligningOptions
from core.contract.methods.common import Shift


class Coral(AligningOptions):
    """Source items given the target's mean and covariance."""

    title: ClassVar[str] = "CORAL"
    summary: ClassVar[str] = "Gives source items the target's mean and covariance, and trains a classifier on them."
    when: ClassVar[str] = (
        "No target labels, a shift of the features' place, scale and correlation; not where the classes' shares moved."
    )
    paper: ClassVar[str] = "Sun, Feng, Saenko: Return of Frustratingly Easy Domain Adaptation, AAAI 2016"
    shifts: ClassVar[tuple[Shift, ...]] = ("covariate", "general")

    name: Literal["coral"] = "coral"
    regularisation: float = Field(
        default=30.0,
        ge=0,
        le=1000,
        description="Added to both covariances, in units of the features' mean variance: the more, the less is turned "
        "and stretched. The paper's is 1, for hand-made features; wide features of a network want more.",
    )
