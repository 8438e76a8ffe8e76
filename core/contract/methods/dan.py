"""Options of `dan`."""

from typing import ClassVar, Literal

from pydantic import Field

from core.contract.methods.deep import Aligned, Weight


class Dan(Aligned):
    """Training with the maximum mean discrepancy between the domains as a penalty."""

    title: ClassVar[str] = "Deep adaptation network (MMD)"
    summary: ClassVar[str] = (
        "Trains so that source and target features have the same distribution, by a multi-kernel MMD."
    )
    when: ClassVar[str] = "For a moderate shift, where an adversary is too restless: it has nothing that can collapse."
    paper: ClassVar[str] = (
        "Long, Cao, Wang, Jordan: Learning Transferable Features with Deep Adaptation Networks. ICML 2015"
    )

    name: Literal["dan"] = "dan"
    weight: Weight = Field(default=5.0, description="How much the loss between the domains counts beside the task's.")
