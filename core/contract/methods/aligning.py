"""What the options of methods share that bring both domains into one space and put a classifier on it."""

from typing import ClassVar, Literal

from pydantic import Field

from core.contract.methods.common import MethodOptions


class AligningOptions(MethodOptions):
    """Both domains are brought together without a look at the classifier, which is trained on the source's items."""

    adapts: ClassVar[bool] = True

    classifier: Literal["auto", "linear", "nearest"] = Field(
        default="auto",
        description="What is trained on the source where both domains are alike. `linear`: a linear probe, its "
        "regularisation chosen by leave-one-out; `nearest`: the nearest item, as in most published figures. `auto`: "
        "linear.",
    )
