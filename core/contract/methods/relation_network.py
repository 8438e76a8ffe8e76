"""Options of `relation_network`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from core.contract.methods.episodic import MetaLearning


class RelationNetwork(MetaLearning):
    """A learnt measure of likeness between an item and a class."""

    title: ClassVar[str] = "Relation network"
    summary: ClassVar[str] = "Trains an embedding and, with it, a small network that says how alike item and class are."
    when: ClassVar[str] = "Where many classes are there to train on; without enough of them it loses to plain means."
    paper: ClassVar[str] = (
        "Sung, Yang, Zhang, Xiang, Torr, Hospedales: Learning to Compare: Relation Network for Few-Shot Learning. CVPR "
        "2018"
    )

    name: Literal["relation_network"] = "relation_network"
    hidden: Annotated[int, Field(ge=2, le=1024)] = Field(default=64, description="Width of the comparing network.")
