"""Options of `shot`."""

from typing import ClassVar, Literal

from pydantic import Field

from core.contract.methods.deep import DeepAdaptation


class Shot(DeepAdaptation):
    """A source model first; then its features move to the target, its classifier stays, no source item is needed.

    A job without a `source` starts from a source model that is there already: one of the user's own.
    """

    title: ClassVar[str] = "Source hypothesis transfer (SHOT)"
    summary: ClassVar[str] = (
        "Trains a source model, or takes a classifier of yours, then adapts its features to the target alone, without "
        "source items."
    )
    when: ClassVar[str] = (
        "Where target items fall into clear groups; the strongest of the deep ones on digits and signs. Without a "
        "`source`: where the data that a model (`base_model: mdl_…`) learnt from are gone, or must not be used again."
    )
    paper: ClassVar[str] = (
        "Liang, Hu, Feng: Do We Really Need to Access the Source Data? Source Hypothesis Transfer for Unsupervised "
        "Domain Adaptation. ICML 2020"
    )
    source_optional: ClassVar[bool] = True
    of_source: ClassVar[tuple[str, ...]] = ("init", "source_epochs", "bottleneck", "label_smoothing")

    name: Literal["shot"] = "shot"
    pseudo_labels: float = Field(
        default=0.3, ge=0, le=100, description="How much labels by the nearest class mean count beside the entropies."
    )
