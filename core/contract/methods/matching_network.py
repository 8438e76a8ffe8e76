"""Options of `matching_network`."""

from typing import ClassVar, Literal

from core.contract.methods.episodic import MetaLearning


class MatchingNetwork(MetaLearning):
    """An embedding in which items resemble single items of their class."""

    title: ClassVar[str] = "Matching network"
    summary: ClassVar[str] = "Trains an embedding on episodes; an item is answered by its likeness to each known item."
    when: ClassVar[str] = "Where items of a class differ so much that their mean says little."
    paper: ClassVar[str] = (
        "Vinyals, Blundell, Lillicrap, Kavukcuoglu, Wierstra: Matching Networks for One Shot Learning. NIPS 2016"
    )

    name: Literal["matching_network"] = "matching_network"
