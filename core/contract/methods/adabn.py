"""Options of `adabn`."""

from typing import ClassVar, Literal

from pydantic import Field

from core.contract.methods.common import Shift
from core.contract.methods.deep import DeepAdaptation


class AdaBn(DeepAdaptation):
    """BatchNorms take the target's statistics; nothing else adapts."""

    title: ClassVar[str] = "Adaptive batch normalisation (AdaBN)"
    summary: ClassVar[str] = (
        "Gives the network's BatchNorms the statistics of the target; a classifier learns from the source with its own."
    )
    when: ClassVar[str] = (
        "For a change of light, contrast or sensor, and a base model with BatchNorms; nothing can go far astray."
    )
    paper: ClassVar[str] = (
        "Li, Wang, Shi, Liu, Hou: Revisiting Batch Normalization For Practical Domain Adaptation. ICLR Workshops 2017"
    )
    shifts: ClassVar[tuple[Shift, ...]] = ("covariate", "general")

    name: Literal["adabn"] = "adabn"
    share: float = Field(
        default=1.0, ge=0, le=1, description="Share of each domain's own statistics; the rest are the base model's."
    )
