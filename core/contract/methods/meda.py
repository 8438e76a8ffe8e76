"""Options of `meda`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from core.contract.methods.common import MethodOptions, Shift


class Meda(MethodOptions):
    """A classifier on the way from one domain's subspace to the other's, smooth on both and alike on both."""

    title: ClassVar[str] = "Manifold embedded distribution alignment"
    summary: ClassVar[str] = (
        "Puts both domains on the geodesic between their subspaces and learns a kernel classifier there that answers "
        "neighbours alike and both domains alike, as a whole and class by guessed class."
    )
    when: ClassVar[str] = (
        "No target labels, the same classes in both domains, and features of which each alone says little: counts, "
        "hand-made ones, columns."
    )
    paper: ClassVar[str] = (
        "Wang, Feng, Chen, Yu, Huang, Yu: Visual Domain Adaptation with Manifold Embedded Distribution Alignment, ACM "
        "Multimedia 2018; the geodesic: Gong, Shi, Sha, Grauman: Geodesic Flow Kernel for Unsupervised Domain "
        "Adaptation, CVPR 2012"
    )
    adapts: ClassVar[bool] = True
    shifts: ClassVar[tuple[Shift, ...]] = ("covariate", "conditional", "general")

    name: Literal["meda"] = "meda"
    axes: Annotated[int, Field(ge=1, le=500)] | Literal["auto"] = Field(
        default="auto",
        description="Principal axes of each domain that the geodesic leads from and to. `auto`: three classifiers with "
        "15, 20 and 25, and the mean of what they make probable, for nothing says which is best.",
    )
    alignment: float = Field(
        default=10.0, ge=0, le=1e6, description="Weight of the distance between the domains' means (lambda)."
    )
    balance: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] = Field(
        default="auto",
        description="How much of that distance is the classes' (mu), by guessed labels. `auto`: as much as how well a "
        "linear classifier tells the domains apart within classes, against as a whole.",
    )
    smoothness: float = Field(default=1.0, ge=0, le=1e6, description="Weight of neighbours' different answers (rho).")
    regularisation: float = Field(default=0.1, gt=0, le=1e6, description="Weight of the classifier's size (eta).")
    neighbours: int = Field(default=10, ge=1, le=100, description="Of each item, by their angle.")
    rounds: int = Field(default=10, ge=1, le=100, description="How often labels are guessed; fewer if they settle.")
    landmarks: int = Field(
        default=1000,
        ge=10,
        le=5000,
        description="Items that the kernel compares with: all of them, if there are no more than these.",
    )
