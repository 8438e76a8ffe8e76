"""Options of `sinkhorn_ot`."""

from typing import ClassVar, Literal

from pydantic import Field

from core.contract.methods.aligning import AligningOptions
from core.contract.methods.common import Shift


class SinkhornOt(AligningOptions):
    """Source items moved among the target's by an entropic transport plan."""

    title: ClassVar[str] = "Sinkhorn optimal transport"
    summary: ClassVar[str] = (
        "Moves each source item to the mean of the target items that a transport plan gives it, and trains a "
        "classifier there."
    )
    when: ClassVar[str] = "No target labels, classes of about the same shares in both domains that moved differently."
    paper: ClassVar[str] = (
        "Courty, Flamary, Tuia, Rakotomamonjy: Optimal Transport for Domain Adaptation, IEEE TPAMI 2017"
    )
    shifts: ClassVar[tuple[Shift, ...]] = ("covariate", "conditional", "general")

    name: Literal["sinkhorn_ot"] = "sinkhorn_ot"
    regularisation: float = Field(
        default=0.02,
        gt=0,
        le=10,
        description="Weight of the plan's entropy, in units of the median cost; raised where no plan can be found.",
    )
    class_penalty: float = Field(
        default=0.01,
        ge=0,
        le=10,
        description="How much it costs that items of different classes share a target item; 0 leaves classes out.",
    )
    items: int = Field(
        default=3000,
        ge=10,
        le=10_000,
        description="Items of each domain that the plan is of, at most; drawn at random.",
    )
