"""Options of `tca`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from core.contract.methods.aligning import AligningOptions
from core.contract.methods.common import Shift


class Tca(AligningOptions):
    """Axes along which the domains' means agree and items still differ."""

    title: ClassVar[str] = "Transfer component analysis"
    summary: ClassVar[str] = "Finds axes along which both domains look alike, and trains a classifier on them."
    when: ClassVar[str] = "No target labels, and something in the features tells the domains apart but not the classes."
    paper: ClassVar[str] = (
        "Pan, Tsang, Kwok, Yang: Domain Adaptation via Transfer Component Analysis, IEEE Transactions on Neural "
        "Networks 2011"
    )
    shifts: ClassVar[tuple[Shift, ...]] = ("covariate", "general")

    name: Literal["tca"] = "tca"
    axes: int = Field(default=30, ge=1, le=1000, description="Transfer components.")
    regularisation: float = Field(default=1.0, gt=0, le=1e6, description="Weight of the components' own size (mu).")
    kernel: Literal["linear", "rbf"] = Field(default="linear", description="`rbf` is Gaussian.")
    gamma: Annotated[float, Field(gt=0, le=1e6)] | Literal["auto"] = Field(
        default="auto",
        description="Of the Gaussian kernel exp(-gamma d^2); `auto`: 1 over the median squared distance of two items.",
    )
    landmarks: int = Field(
        default=1000,
        ge=10,
        le=3000,
        description="Items that stand for all in the Gaussian kernel (Nystrom); with no more items it is exact. They "
        "become part of the model.",
    )
