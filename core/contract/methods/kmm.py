"""Options of `kmm`."""

from typing import ClassVar, Literal

from pydantic import Field

from core.contract.methods.reweighting import Reweighting


class Kmm(Reweighting):
    """Source items weighed so that their mean in a kernel's space is the target's."""

    title: ClassVar[str] = "Kernel mean matching"
    summary: ClassVar[str] = (
        "Weighs the source's items so that, to a Gaussian kernel, they look like the target on the whole; then a "
        "linear classifier on frozen features."
    )
    when: ClassVar[str] = (
        "Inputs are drawn otherwise than in the source, but each kind occurs there; labels follow from inputs as there."
    )
    paper: ClassVar[str] = (
        "Huang, Gretton, Borgwardt, Schoelkopf, Smola: Correcting Sample Selection Bias by Unlabeled Data. NeurIPS 2006"
    )

    name: Literal["kmm"] = "kmm"
    bound: float = Field(default=1000.0, ge=1, le=1e6, description="The most that the matching may weigh an item (B).")
    noise: float = Field(
        default=1.0,
        ge=0,
        le=1000,
        description="How much of the distance between the means is put down to chance, in units of what chance makes "
        "it: 0 is the paper's problem, which often leaves all the weight to a few items.",
    )
