"""Options of `meta_sgd`."""

from typing import ClassVar, Literal

from core.contract.methods.inner_loop import BodyLoop


class MetaSgd(BodyLoop):
    """MAML that learns a rate for every weight, too."""

    title: ClassVar[str] = "Meta-SGD"
    summary: ClassVar[str] = "MAML that learns, beside the start, direction and rate of the inner step for each weight."
    when: ClassVar[str] = "As MAML, with one inner step; it needs many classes to train on."
    paper: ClassVar[str] = "Li, Zhou, Chen, Li: Meta-SGD: Learning to Learn Quickly for Few-Shot Learning. arXiv 2017"

    name: Literal["meta_sgd"] = "meta_sgd"
