"""Options of `linear_probe`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from core.contract.methods.common import MethodOptions


class LinearProbe(MethodOptions):
    """A linear classifier on the frozen base model's features."""

    title: ClassVar[str] = "Linear probe"
    summary: ClassVar[str] = "Trains a linear classifier on features of the frozen base model; seconds, even on a CPU."
    when: ClassVar[str] = "First, always: it is the figure every other method has to beat."
    paper: ClassVar[str] = "Kornblith, Shlens, Le: Do Better ImageNet Models Transfer Better? CVPR 2019"

    name: Literal["linear_probe"] = "linear_probe"
    solver: Literal["ridge", "lbfgs"] = Field(
        default="ridge",
        description="`ridge`: closed form, regularisation by exact leave-one-out; `lbfgs`: logistic regression, "
        "regularisation by cross-validation.",
    )
    regularisation: Annotated[float, Field(ge=0, le=1e6)] | Literal["auto"] = Field(
        default="auto",
        description="L2 penalty (lambda), per training item; `auto` chooses it on the training data alone. The "
        "validation split is trained on too: a probe validates itself.",
    )
    normalise: Literal["l2", "standardise", "none"] = Field(
        default="l2", description="What is done to the features before the classifier."
    )
    class_weights: bool = Field(default=False, description="Weigh classes inversely to their frequency.")
