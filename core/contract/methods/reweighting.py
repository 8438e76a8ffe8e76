"""What the options of methods that weigh source items share."""

from typing import ClassVar

from pydantic import Field

from core.contract.methods.common import MethodOptions, Shift


class Reweighting(MethodOptions):
    """A linear classifier on source items that count the more, the more they look like the target's."""

    adapts: ClassVar[bool] = True
    shifts: ClassVar[tuple[Shift, ...]] = ("covariate",)

    components: int = Field(
        default=30, ge=1, le=512, description="Principal components of both domains in which they are compared."
    )
    clip: float = Field(
        default=20.0, ge=1, le=1000, description="The most that an item may count, as a multiple of the mean."
    )
