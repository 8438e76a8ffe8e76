"""Options of `r2d2`."""

from typing import ClassVar, Literal

from core.contract.methods.episodic import MetaLearning


class R2d2(MetaLearning):
    """An embedding on which ridge regression, solved in closed form in each episode, tells classes apart."""

    title: ClassVar[str] = "Ridge regression as a differentiable head (R2-D2)"
    summary: ClassVar[str] = "Trains an embedding through the closed form of ridge regression on each episode."
    when: ClassVar[str] = "With five or more items a class; classes are added to its model without training."
    paper: ClassVar[str] = (
        "Bertinetto, Henriques, Torr, Vedaldi: Meta-learning with Differentiable Closed-Form Solvers. ICLR 2019"
    )

    name: Literal["r2d2"] = "r2d2"
