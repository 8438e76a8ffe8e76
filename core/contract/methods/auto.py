"""Options of `auto`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from core.contract.methods.common import LabelSpace, MethodOptions, Shift

RaceArm = Literal["linear_probe", "fine_tune", "lora"]


class Auto(MethodOptions):
    """A race of the methods that are worth running, within the budget."""

    title: ClassVar[str] = "Auto"
    summary: ClassVar[str] = (
        "Picks the methods that are worth running on the data within the budget, races them, and serves the best."
    )
    when: ClassVar[str] = "Whenever you do not know better: it is what runs when no method is named."
    paper: ClassVar[str] = (
        "Kumar, Raghunathan, Jones, Ma, Liang: Fine-Tuning can Distort Pretrained Features and Underperform "
        "Out-of-Distribution. ICLR 2022 (probe first, then fine-tune from it)"
    )
    target_optional: ClassVar[bool] = True
    label_spaces: ClassVar[tuple[LabelSpace, ...]] = ("closed", "partial")
    shifts: ClassVar[tuple[Shift, ...]] = ("covariate", "label", "conditional", "general")

    name: Literal["auto"] = "auto"
    arms: Annotated[list[RaceArm], Field(min_length=1, max_length=3)] | Literal["auto"] = Field(
        default="auto",
        description="What may run. `auto`: a linear probe first; fine-tuning from it, if the probe leaves something to "
        "gain; for texts low-rank additions (LoRA), if time is left. With a `target` it stays `auto`: then methods "
        "that adapt are raced (label shift, centring, pseudo-labels, prototypes, mixtures of them, also "
        "as they are passed on among neighbours).",
    )
    seconds: Annotated[int, Field(ge=1, le=30 * 24 * 3600)] | Literal["auto"] = Field(
        default="auto",
        description="How long the race may take: training ends then, no further arm is begun, and the best so far is "
        "served. `auto`: four fifths of `budget.max_seconds`, or ten minutes without one.",
    )
