"""Options that methods share which adapt by a few steps of gradient descent."""

from typing import Annotated, Literal

from pydantic import Field

from core.contract.methods.episodic import Auto, MetaLearning


class InnerLoop(MetaLearning):
    """Learns a start from which a few steps on a few items suffice.

    All classes start alike, at zero, so that any number of them can be adapted to (Ye, Chao: How to Train Your MAML to
    Excel in Few-Shot Classification, ICLR 2022; what they share in their start has no say in a softmax).
    """

    inner_steps: Annotated[int, Field(ge=1, le=100)] | Auto = Field(
        default="auto", description="Steps of gradient descent on the items of an episode, in training."
    )
    test_inner_steps: Annotated[int, Field(ge=1, le=1000)] | Auto = Field(
        default="auto", description="The same when it is measured, and when it is adapted later."
    )
    inner_lr: Annotated[float, Field(gt=0, le=100)] | Auto = Field(
        default="auto",
        description="Their learning rate with five classes; with more it is larger in proportion, since the loss is a "
        "mean over the classes.",
    )
    vectorise: bool | Auto = Field(
        default="auto",
        description="Adapt to all episodes of a step at once (`torch.func.vmap`), or to one after the other. `auto` "
        "times both, and takes the faster.",
    )


class BodyLoop(InnerLoop):
    """An inner loop that moves the whole network."""

    body_steps: Annotated[int, Field(ge=1, le=1000)] | Auto = Field(
        default="auto",
        description="In how many of the steps, the last ones, the body moves as well; those before them move the head "
        "alone, and cost next to nothing.",
    )
    body_lr: Annotated[float, Field(gt=0, le=100)] | Auto = Field(
        default="auto", description="The body's own learning rate in them; `auto` keeps its ratio to `inner_lr`."
    )


FirstOrder = Literal[1, 2]
