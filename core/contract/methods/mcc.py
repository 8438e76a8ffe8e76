"""Options of `mcc`."""

from typing import ClassVar, Literal

from pydantic import Field

from core.contract.methods.deep import Aligned


class Mcc(Aligned):
    """Training with the confusion of classes on target items as a penalty."""

    title: ClassVar[str] = "Minimum class confusion"
    summary: ClassVar[str] = (
        "Trains so that target items are not torn between classes; no adversary, no further network."
    )
    when: ClassVar[str] = "The first of the deep ones to try: the most even over kinds of shift, and stable."
    paper: ClassVar[str] = "Jin, Wang, Long, Wang: Minimum Class Confusion for Versatile Domain Adaptation. ECCV 2020"

    name: Literal["mcc"] = "mcc"
    temperature: float = Field(
        default=2.5, ge=0.1, le=20, description="What logits are divided by before confusion is measured."
    )
