"""Options of `anil`."""

from typing import ClassVar, Literal

from core.contract.methods.inner_loop import InnerLoop


class Anil(InnerLoop):
    """MAML whose inner steps change the classifier alone."""

    title: ClassVar[str] = "Almost no inner loop (ANIL)"
    summary: ClassVar[str] = "MAML whose inner steps change the classifier alone: as good, at a fraction of the time."
    when: ClassVar[str] = "In place of MAML, where new classes look much like the old ones."
    paper: ClassVar[str] = (
        "Raghu, Raghu, Bengio, Vinyals: Rapid Learning or Feature Reuse? Towards Understanding the Effectiveness of "
        "MAML. ICLR 2020"
    )

    name: Literal["anil"] = "anil"
