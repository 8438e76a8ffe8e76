"""Jobs and what happens in them."""

from datetime import datetime
from typing import Any

from graft.types.base import Resource
from graft.types.errors import ErrorBody
from graft.types.estimates import Estimate

FINISHED = frozenset({"succeeded", "failed", "cancelled"})


class MethodSpec(Resource):
    """A method with its options, which are attributes too: `job.method.epochs`."""

    name: str

    @property
    def options(self) -> dict[str, Any]:
        """The options without the name."""
        return self.model_dump(exclude={"name"})


class Progress(Resource):
    """How far a running job is; `fraction` in [0, 1] of the whole."""

    step: str
    fraction: float
    epoch: int | None = None
    epochs: int | None = None
    eta_seconds: float | None = None


class Step(Resource):
    """One step of a job and what it cost; `state` is `running` or `done`."""

    name: str
    state: str
    seconds: float | None = None
    note: str = ""


class Job(Resource):
    """One run of one method; `state` is `queued`, `running`, `succeeded`, `failed` or `cancelled`.

    `verdict` is `improved`, `not_improved`, `harmful` or `undetermined`, once it is known; the report says why.
    """

    id: str
    object: str = "job"
    state: str
    method: MethodSpec
    base_model: str
    source: str | None = None
    evaluation: str | None = None
    target: str | None = None
    target_labels: str = "evaluation"
    target_base_model: str | None = None
    budget: dict[str, Any] = {}
    seed: int = 0
    metadata: dict[str, str] = {}
    progress: Progress | None = None
    steps: list[Step] = []
    metrics: dict[str, float] = {}
    verdict: str | None = None
    baselines: str = "quick"
    guard: str = "on"
    resolved: dict[str, Any] | None = None
    estimate: Estimate | None = None
    attempt: int = 0
    lost: int = 0
    webhook: dict[str, Any] | None = None
    stop_requested: bool = False
    cancel_requested: bool = False
    error: ErrorBody | None = None
    model_id: str | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def finished(self) -> bool:
        """Whether nothing will happen to the job any more."""
        return self.state in FINISHED


class DryRun(Resource):
    """A job that was checked and not launched, with what it is expected to cost; `note` says what that lacks."""

    valid: bool = True
    method: MethodSpec
    base_model: str | None = None
    estimate: Estimate
    note: str = ""


class Event(Resource):
    """Something that happened to a job; `kind` is `state`, `step`, `progress`, `metric` or `message`."""

    seq: int
    job_id: str
    attempt: int = 0
    at: datetime
    kind: str
    data: dict[str, Any] = {}
