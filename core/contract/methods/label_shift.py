"""Options of `label_shift`."""

from typing import ClassVar, Literal

from pydantic import Field

from core.contract.methods.common import LabelSpace, MethodOptions, Shift


class LabelShift(MethodOptions):
    """How often each class comes in the target, estimated without labels, and a classifier that reckons with it."""

    title: ClassVar[str] = "Label shift"
    summary: ClassVar[str] = (
        "Estimates the classes' shares in the target from what a linear classifier says there, with an interval, and "
        "moves its bias accordingly."
    )
    when: ClassVar[str] = (
        "Classes come more or less often than in the source, or not at all, and each looks as it did there."
    )
    paper: ClassVar[str] = (
        "Lipton, Wang, Smola: Detecting and Correcting for Label Shift with Black Box Predictors. ICML 2018; Saerens, "
        "Latinne, Decaestecker: Adjusting the Outputs of a Classifier to New a Priori Probabilities. Neural "
        "Computation 2002; Zhang, Schoelkopf, Muandet, Wang: Domain Adaptation under Target and Conditional Shift. "
        "ICML 2013"
    )
    adapts: ClassVar[bool] = True
    label_spaces: ClassVar[tuple[LabelSpace, ...]] = ("closed", "partial")
    shifts: ClassVar[tuple[Shift, ...]] = ("label",)

    name: Literal["label_shift"] = "label_shift"
    estimator: Literal["mlls", "bbse", "tars"] = Field(
        default="mlls",
        description="`mlls`: most likely shares under calibrated probabilities; `bbse`: from the confusion matrix; "
        "`tars`: kernel mean matching of the classes.",
    )
    components: int = Field(
        default=30, ge=1, le=512, description="Principal components of both domains that `tars` compares them in."
    )
