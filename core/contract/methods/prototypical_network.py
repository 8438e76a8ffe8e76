"""Options of `prototypical_network`."""

from typing import ClassVar, Literal

from pydantic import Field

from core.contract.methods.episodic import MetaLearning


class PrototypicalNetwork(MetaLearning):
    """An embedding in which items lie near the mean of their class."""

    title: ClassVar[str] = "Prototypical network"
    summary: ClassVar[str] = "Trains an embedding on episodes so that new items lie nearest to the mean of their class."
    when: ClassVar[str] = "The first meta-learner to try; classes are added to its model without training."
    paper: ClassVar[str] = "Snell, Swersky, Zemel: Prototypical Networks for Few-shot Learning. NIPS 2017"

    name: Literal["prototypical_network"] = "prototypical_network"
    distance: Literal["euclidean", "cosine"] = Field(
        default="euclidean", description="Squared Euclidean distance, or the angle, scaled by a learnt factor."
    )
