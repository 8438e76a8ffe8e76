"""Options of `reptile`."""

from typing import ClassVar, Literal

from core.contract.methods.inner_loop import InnerLoop


class Reptile(InnerLoop):
    """Moves the start towards where a few steps on each task lead; no second derivatives."""

    title: ClassVar[str] = "Reptile"
    summary: ClassVar[str] = "Moves the weights towards where gradient steps on each task lead them."
    when: ClassVar[str] = "As MAML, where its second derivatives cost too much time or memory."
    paper: ClassVar[str] = "Nichol, Achiam, Schulman: On First-Order Meta-Learning Algorithms. arXiv 2018"

    name: Literal["reptile"] = "reptile"
