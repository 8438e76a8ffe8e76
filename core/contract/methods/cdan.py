"""Options of `cdan`."""

from typing import ClassVar, Literal

from pydantic import Field

from core.contract.methods.deep import Aligned


class Cdan(Aligned):
    """Like `dann`, but the discriminator sees features and predicted classes together."""

    title: ClassVar[str] = "Conditional adversarial network (CDAN+E)"
    summary: ClassVar[str] = (
        "Trains features by which a discriminator that knows the predicted class cannot tell the domains apart."
    )
    when: ClassVar[str] = "Where `dann` aligns the wrong classes; sure items count more."
    paper: ClassVar[str] = "Long, Cao, Wang, Jordan: Conditional Adversarial Domain Adaptation. NeurIPS 2018"

    name: Literal["cdan"] = "cdan"
    discriminator: int = Field(default=256, ge=8, le=4096, description="Width of the discriminator's two layers.")
    conditioned_width: int = Field(
        default=4096,
        ge=16,
        le=65536,
        description="Largest width of features times classes; beyond it a random projection to this width is taken.",
    )
