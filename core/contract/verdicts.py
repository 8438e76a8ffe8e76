"""The verdict: whether the transfer helped, and against what."""

from typing import Literal

from pydantic import Field

from core.contract.base import Record

Verdict = Literal["improved", "not_improved", "harmful", "undetermined"]
ArmRole = Literal["method", "baseline"]
ArmState = Literal["measured", "skipped", "failed"]


class Difference(Record):
    """The method's figure minus an arm's on the same held-out items; above 0 the method is better.

    For an error (regression) the sign is turned, so that more is better here, too.
    """

    effect: float
    low: float = Field(description="Lower end of the 95 % interval.")
    high: float
    p_value: float | None = None
    test: Literal["mcnemar", "paired_bootstrap", "paired_t"]


class Arm(Record):
    """One thing that was trained or measured in the job: the method itself, or what it is compared with."""

    name: str = Field(
        description="E.g. `fine_tune`, `linear_probe`, `nearest_class_mean`, `from_scratch`, `previous_model`."
    )
    role: ArmRole
    state: ArmState
    metric: str = Field(default="accuracy", description="Which figure `value` is.")
    value: float | None = Field(default=None, description="On the held-out items.")
    low: float | None = None
    high: float | None = None
    validation: float | None = Field(default=None, description="The same on validation items: what arms are chosen by.")
    seconds: float | None = Field(default=None, description="What it took beyond what all arms share.")
    difference: Difference | None = Field(default=None, description="The method's arm against this one.")
    served: bool = Field(default=False, description="Whether the job's model is this arm.")
    options: dict[str, object] = {}
    note: str = Field(default="", description="Why it was skipped, or how it failed.")


class ClassChange(Record):
    """A class on which the method and the best baseline differ."""

    name: str
    support: int
    baseline: float = Field(description="Share of its held-out items that the best baseline gets right.")
    method: float


class Forgetting(Record):
    """Accuracy on the data that the parent model learnt from, before and after."""

    dataset_id: str
    items: int
    before: float
    after: float


class GuardCheck(Record):
    """One question that the guard asks of an adapted classifier, without labels of the target."""

    name: str
    value: float | None = Field(description="What was measured; nothing where it could not be.")
    threshold: str = Field(description="What it has to be, e.g. `>= 0.5`.")
    passed: bool
    meaning: str = Field(default="", description="What is asked, in plain words.")


class GuardReport(Record):
    """Whether an adapted classifier may be served, as far as that can be known without labels of its domain."""

    verdict: Verdict
    confidence: float = Field(ge=0, le=1, description="How sure the guard is of the verdict.")
    accepted: bool = Field(description="Whether the adapted classifier may be served in place of the source-only one.")
    reasons: list[str] = Field(description="Why, in plain words.")
    checks: list[GuardCheck]
    audit_items: int = Field(default=0, description="Labels of the target that were used, as the job allowed.")


class Judgement(Record):
    """The verdict and what it rests on."""

    verdict: Verdict
    sentence: str = Field(description="The verdict in plain words.")
    metric: str
    baseline: str | None = Field(default=None, description="The best baseline, by name.")
    difference: Difference | None = None
    items: int = Field(description="Held-out items that it rests on.")
    margin: float = Field(description="A difference below this is of no use to anybody.")
    lost_classes: list[ClassChange] = Field(default=[], description="Classes that are worse than with the baseline.")
    forgetting: Forgetting | None = None
    served: str = Field(description="Name of the arm that became the model.")
    overridden: bool = Field(default=False, description="`guard` was off, so a better baseline was passed over.")
    guard: GuardReport | None = Field(default=None, description="Of a job that adapts: what is known without labels.")
