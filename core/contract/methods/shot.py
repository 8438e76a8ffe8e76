"""Options of `shot`."""

from typing import ClassVar, Literal

from pydantic import Field

from core.contract.methods.deep import DeepAdaptation


class Shot(DeepAdaptation):
    """A source model first; then its features move to the target, its classifier stays, no source item is needed."""

    title: ClassVar[str] = "Source hypothesis transfer (SHOT)"
    summary: ClassVar[str] = (
        "Trains a source model, then adapts its features to the target alone, without source items."
    )
    when: ClassVar[str] = (
        "Where target items fall into clear groups; the strongest of the deep ones on digits and signs."
    )
    paper: ClassVar[str] = (
        "Liang, Hu, Feng: Do We Really Need to Access the Source Data? Source Hypothesis Transfer for Unsupervised "
        "Domain Adaptation. ICML 2020"
    )

    name: Literal["shot"] = "shot"
    pseudo_labels: float = Field(
        default=0.3, ge=0, le=100, description="How much labels by the nearest class mean count beside the entropies."
    )
