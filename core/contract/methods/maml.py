"""Options of `maml`."""

from typing import ClassVar, Literal

from pydantic import Field

from core.contract.methods.inner_loop import BodyLoop, FirstOrder


class Maml(BodyLoop):
    """A start from which a few steps of gradient descent on a few items make a good classifier."""

    title: ClassVar[str] = "Model-agnostic meta-learning (MAML)"
    summary: ClassVar[str] = "Learns weights from which a few gradient steps on a few items make a good classifier."
    when: ClassVar[str] = "Where new tasks differ in more than their classes, and there are many to learn from."
    paper: ClassVar[str] = (
        "Finn, Abbeel, Levine: Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks. ICML 2017"
    )

    name: Literal["maml"] = "maml"
    order: FirstOrder = Field(
        default=2, description="2 differentiates through the inner steps; 1 takes their gradients as constants."
    )
