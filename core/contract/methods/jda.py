"""Options of `jda`."""

from typing import ClassVar, Literal

from pydantic import Field

from core.contract.methods.aligning import AligningOptions
from core.contract.methods.common import Shift


class Jda(AligningOptions):
    """Axes along which the domains' means agree, and each class's means by guessed labels."""

    title: ClassVar[str] = "Joint distribution adaptation"
    summary: ClassVar[str] = (
        "Finds axes along which both domains look alike, as a whole and class by class; the target's classes are "
        "guessed, and guessed again in the space found."
    )
    when: ClassVar[str] = "No target labels, the same classes in both domains, each of which moved in its own way."
    paper: ClassVar[str] = (
        "Long, Wang, Ding, Sun, Yu: Transfer Feature Learning with Joint Distribution Adaptation, ICCV 2013"
    )
    shifts: ClassVar[tuple[Shift, ...]] = ("covariate", "conditional", "general")

    name: Literal["jda"] = "jda"
    axes: int = Field(default=30, ge=1, le=1000, description="Axes that are kept.")
    regularisation: float = Field(
        default=1.0, gt=0, le=1e6, description="Weight of the projection's own size (lambda)."
    )
    rounds: int = Field(default=10, ge=1, le=100, description="How often labels are guessed; fewer if they settle.")
