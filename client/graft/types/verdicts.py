"""The verdict of a job, and what it rests on."""

from typing import Any

from graft.types.base import Resource
from graft.types.rankings import Difference


class Arm(Resource):
    """The method itself (`role` is `method`), or a `baseline` that it is compared with."""

    name: str
    role: str
    state: str
    metric: str = "accuracy"
    value: float | None = None
    low: float | None = None
    high: float | None = None
    validation: float | None = None
    seconds: float | None = None
    difference: Difference | None = None
    served: bool = False
    options: dict[str, Any] = {}
    note: str = ""


class ClassChange(Resource):
    """A class that is worse than with the best baseline."""

    name: str
    support: int
    baseline: float
    method: float


class Forgetting(Resource):
    """The figure on the data that the parent model learnt from, before and after."""

    dataset_id: str
    items: int
    before: float
    after: float


class GuardCheck(Resource):
    """One question that the guard asks of an adapted classifier, without labels of the target."""

    name: str
    value: float | None = None
    threshold: str
    passed: bool
    meaning: str = ""


class GuardReport(Resource):
    """Whether an adapted classifier may be served, as far as that can be known without labels of its domain."""

    verdict: str
    confidence: float
    accepted: bool
    reasons: list[str] = []
    checks: list[GuardCheck] = []
    audit_items: int = 0


class Judgement(Resource):
    """Whether the transfer helped: `improved`, `not_improved`, `harmful` or `undetermined`."""

    verdict: str
    sentence: str
    metric: str
    baseline: str | None = None
    difference: Difference | None = None
    items: int
    margin: float
    lost_classes: list[ClassChange] = []
    forgetting: Forgetting | None = None
    served: str
    overridden: bool = False
    guard: GuardReport | None = None
