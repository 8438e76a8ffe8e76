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
    solver: Literal["auto", "ridge", "lbfgs"] = Field(
        default="auto",
        description="`ridge`: closed form, regularisation by exact leave-one-out; `lbfgs`: logistic regression, "
        "regularisation by cross-validation. `auto`: ridge, but for the classes of a table of up to 20,000 rows.",
    )
    regularisation: Annotated[float, Field(ge=0, le=1e6)] | Literal["auto"] = Field(
        default="auto",
        description="L2 penalty (lambda), per training item; `auto` chooses it on the training data alone. The "
        "validation split is trained on too: a probe validates itself.",
    )
    normalise: Literal["auto", "l2", "standardise", "none"] = Field(
        default="auto",
        description="What is done to the features before the classifier. `auto`: `l2`; for tables, whose columns are "
        "scaled already, `none`.",
    )
    class_weights: bool = Field(default=False, description="Weigh classes inversely to their frequency.")
