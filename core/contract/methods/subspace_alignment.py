"""Options of `subspace_alignment`."""

from typing import ClassVar, Literal

from pydantic import Field

from core.contract.methods.aligning import AligningOptions
from core.contract.methods.common import Shift


class SubspaceAlignment(AligningOptions):
    """The source's principal axes turned onto the target's."""

    title: ClassVar[str] = "Subspace alignment"
    summary: ClassVar[str] = "Turns the source's principal axes onto the target's and trains a classifier there."
    when: ClassVar[str] = "No target labels, a mild shift of all items, such as another camera; a second."
    paper: ClassVar[str] = (
        "Fernando, Habrard, Sebban, Tuytelaars: Unsupervised Visual Domain Adaptation Using Subspace Alignment, "
        "ICCV 2013"
    )
    shifts: ClassVar[tuple[Shift, ...]] = ("covariate", "general")

    name: Literal["subspace_alignment"] = "subspace_alignment"
    axes: int = Field(default=80, ge=1, le=2048, description="Principal axes of each domain; fewer if it has fewer.")
    classifier: Literal["auto", "linear", "nearest"] = Field(
        default="auto",
        description="What is trained on the source's turned axes. `nearest`: the nearest item; `linear`: a linear "
        "probe, which is sure of axes that the domains do not share. `auto`: nearest.",
    )
