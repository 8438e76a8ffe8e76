"""Options of `domain_weights`."""

from typing import ClassVar, Literal

from core.contract.methods.reweighting import Reweighting


class DomainWeights(Reweighting):
    """Source items weighed by the odds at which a classifier takes them for the target's."""

    title: ClassVar[str] = "Domain-classifier weights"
    summary: ClassVar[str] = (
        "Learns to tell the domains apart and weighs each source item by the odds of its being the target's, said by "
        "a classifier that has not seen it; then a linear classifier on frozen features."
    )
    when: ClassVar[str] = (
        "Inputs are drawn otherwise than in the source, but each kind occurs there, and there are many items."
    )
    paper: ClassVar[str] = (
        "Bickel, Brueckner, Scheffer: Discriminative Learning Under Covariate Shift. Journal of Machine Learning "
        "Research 2009"
    )

    name: Literal["domain_weights"] = "domain_weights"
