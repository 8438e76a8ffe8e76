"""Options of `jan`."""

from typing import ClassVar, Literal

from core.contract.methods.deep import Aligned


class Jan(Aligned):
    """Training with the MMD of features and predictions together as a penalty."""

    title: ClassVar[str] = "Joint adaptation network (JMMD)"
    summary: ClassVar[str] = (
        "Trains so that features and predicted classes together have the same distribution, by a joint MMD."
    )
    when: ClassVar[str] = "Like `dan`, where classes must not be mixed up while the domains are aligned."
    paper: ClassVar[str] = "Long, Zhu, Wang, Jordan: Deep Transfer Learning with Joint Adaptation Networks. ICML 2017"

    name: Literal["jan"] = "jan"
