"""Options of `kernel_cca`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from core.contract.methods.aligning import AligningOptions
from core.contract.methods.common import Shift


class KernelCca(AligningOptions):
    """Projections of two kinds of features in which the halves of pairs agree."""

    title: ClassVar[str] = "Kernel canonical correlation"
    summary: ClassVar[str] = (
        "Learns from pairs what source and target features have in common, trains a classifier on all source items "
        "there, and answers target items."
    )
    when: ClassVar[str] = (
        "Source and target are different views of things (two sensors, two kinds of features), and some items are "
        "there in both: files of the same name, but for folder and suffix."
    )
    paper: ClassVar[str] = (
        "Hardoon, Szedmak, Shawe-Taylor: Canonical correlation analysis: an overview with application to learning "
        "methods, Neural Computation 2004"
    )
    heterogeneous: ClassVar[bool] = True
    shifts: ClassVar[tuple[Shift, ...]] = ("general",)

    name: Literal["kernel_cca"] = "kernel_cca"
    axes: int = Field(default=100, ge=1, le=1000, description="Canonical axes; fewer than there are pairs.")
    regularisation: float = Field(
        default=0.1,
        ge=1e-6,
        le=1000,
        description="Added to both covariances, in units of their mean variance; without it every correlation is 1.",
    )
    kernel: Literal["linear", "rbf"] = Field(default="rbf", description="`rbf` is Gaussian, one for each domain.")
    width: Annotated[float, Field(gt=0, le=1000)] | Literal["auto"] = Field(
        default="auto",
        description="Of the Gaussian kernels exp(-width d^2 / m), where m is the median squared distance; `auto` "
        "chooses it on pairs that are left out.",
    )
    landmarks: int = Field(
        default=1000,
        ge=10,
        le=3000,
        description="Items of each domain that stand for all in the Gaussian kernel (Nystrom). They become part of the "
        "model.",
    )
    rounds: int = Field(
        default=5,
        ge=0,
        le=100,
        description="Rounds in which target items without a pair are learnt from by their guessed class: in round t "
        "the surest t / rounds of each class; 0 leaves them out.",
    )
