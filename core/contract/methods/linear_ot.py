"""Options of `linear_ot`."""

from typing import ClassVar, Literal

from pydantic import Field

from core.contract.methods.aligning import AligningOptions
from core.contract.methods.common import Shift


class LinearOt(AligningOptions):
    """The optimal linear map of the source onto the target."""

    title: ClassVar[str] = "Linear optimal transport"
    summary: ClassVar[str] = "Moves source items by the least linear map onto the target's mean and covariance."
    when: ClassVar[str] = (
        "No target labels, a shift of the features' place, scale and correlation; not where the classes' shares moved."
    )
    paper: ClassVar[str] = (
        "Flamary, Lounici, Ferrari: Concentration bounds for linear Monge mapping estimation and optimal transport "
        "domain adaptation, 2019"
    )
    shifts: ClassVar[tuple[Shift, ...]] = ("covariate", "general")

    name: Literal["linear_ot"] = "linear_ot"
    regularisation: float = Field(
        default=30.0,
        ge=0,
        le=1000,
        description="Added to both covariances, in units of the features' mean variance: the more, the nearer the map "
        "is to a mere move.",
    )
