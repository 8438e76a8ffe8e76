"""Options of `domain_shift`."""

from typing import ClassVar, Literal

from pydantic import Field

from core.contract.methods.common import LabelSpace, MethodOptions


class DomainShift(MethodOptions):
    """Measures how far a target lies from the source, without adapting to it."""

    title: ClassVar[str] = "Domain shift"
    summary: ClassVar[str] = (
        "Measures how far source and target lie apart (MMD and a classifier two-sample test, both by permutation), "
        "whether class shares or classes have moved, of which kind the shift is and what fits it; makes a report and "
        "no model."
    )
    when: ClassVar[str] = "Before adapting: which methods help depends on the kind of shift, and without one none does."
    paper: ClassVar[str] = (
        "Gretton, Borgwardt, Rasch, Schölkopf, Smola: A Kernel Two-Sample Test. JMLR 2012; "
        "Lopez-Paz, Oquab: Revisiting Classifier Two-Sample Tests. ICLR 2017; "
        "Lipton, Wang, Smola: Detecting and Correcting for Label Shift with Black Box Predictors. ICML 2018"
    )
    makes_model: ClassVar[bool] = False
    needs_labels: ClassVar[bool] = False
    adapts: ClassVar[bool] = True
    label_spaces: ClassVar[tuple[LabelSpace, ...]] = ("closed", "partial")

    name: Literal["domain_shift"] = "domain_shift"
    max_items: int = Field(
        default=1000, ge=10, le=5000, description="Items of each side that are looked at, at most; more are sampled."
    )
    permutations: int = Field(
        default=500, ge=100, le=10_000, description="Relabellings that each test compares with what was found."
    )
    level: float = Field(
        default=0.05,
        gt=0,
        le=0.5,
        description="Level of significance of both tests together; each alone is held to half of it.",
    )
