"""Options of `selective_pseudo_labels`."""

from typing import ClassVar, Literal

from pydantic import Field

from core.contract.methods.common import MethodOptions, Shift


class SelectivePseudoLabels(MethodOptions):
    """Guessed target labels, the surest first, and a projection in which the classes of both domains part."""

    title: ClassVar[str] = "Selective pseudo-labels"
    summary: ClassVar[str] = (
        "Guesses the target's labels, trusts the surest, learns a projection that parts the classes of both domains, "
        "and guesses again with more; a second on frozen features."
    )
    when: ClassVar[str] = "No target labels, the same classes in both domains: the first to try, also on large shifts."
    paper: ClassVar[str] = (
        "Wang, Breckon: Unsupervised Domain Adaptation via Structured Prediction Based Selective Pseudo-Labeling. "
        "AAAI 2020"
    )
    adapts: ClassVar[bool] = True
    shifts: ClassVar[tuple[Shift, ...]] = ("covariate", "conditional", "general")

    name: Literal["selective_pseudo_labels"] = "selective_pseudo_labels"
    axes: int = Field(default=128, ge=1, le=2048, description="Principal components that are kept of both domains.")
    rounds: int = Field(
        default=10, ge=1, le=100, description="In round t, t / rounds of each class's target items are trusted."
    )
    shrinkage: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Share of the within-class scatter that is replaced by a ball; more where there are few items.",
    )
    clusters: bool = Field(
        default=True, description="Let clusters of the target (k-means from the class means) guess beside class means."
    )
