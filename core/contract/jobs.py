"""Jobs: what a client asks for, and what it sees of the run."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from core.contract.base import Body, DatasetId, JobId, Metadata, ModelId, Record, Sha256
from core.contract.datasets import Modality
from core.contract.errors import ErrorBody
from core.contract.estimates import Estimate
from core.contract.methods import AnyMethod, Auto
from core.contract.verdicts import Verdict

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
StepName = Literal["prepare", "features", "shift", "train", "compare", "evaluate", "export", "store"]
Baselines = Literal["quick", "all", "none"]
Guard = Literal["on", "off"]
TargetLabels = Literal["evaluation", "few", "none"]
DEFAULT_BASE_MODELS: dict[Modality, str] = {
    "image": "efficientnet_lite0",
    "text": "minilm_l6",
    "tabular": "tabular_mlp",
}


class Budget(Body):
    """What a job may cost."""

    max_seconds: int | None = Field(
        default=None, ge=1, le=30 * 24 * 3600, description="Run no longer than this; then fail with `deadline`."
    )


class Webhook(Body):
    """Where to send word when a job has ended."""

    url: Annotated[str, StringConstraints(min_length=1, max_length=2048, pattern=r"^https?://[^\s]+$")] = Field(
        description="An http or https address; one that is not public is refused unless the service allows it."
    )


class JobSpec(Body):
    """Body of `POST /jobs`."""

    method: AnyMethod = Field(default=Auto(), description="Name and options; see `GET /methods`.")
    base_model: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = Field(
        default=None,
        description="A card's id (`GET /base-models`), `timm:<name>`, `hf:<name>`, or one of your models (`mdl_…`). "
        "Without one: the default of the data set's modality.",
    )
    source: DatasetId | None = Field(
        default=None,
        description="The labelled data set to learn from. `shot` can do without: it then adapts one of your own "
        "models, the `base_model`, whose classes stay, to the `target`.",
    )
    evaluation: DatasetId | None = Field(
        default=None,
        description="A data set to measure on, all of it; otherwise the source's frozen test split is used, or, with a "
        "`target`, those of its items that have labels. Without any of them nothing is measured.",
    )
    target: DatasetId | None = Field(
        default=None,
        description="Data of the new domain, for methods that adapt: unlabelled, labelled in part, or labelled. What "
        "its labels may be used for, `target_labels` says.",
    )
    target_labels: TargetLabels = Field(
        default="evaluation",
        description="What labels of the target may be used for. `evaluation`: only to measure the result; nothing is "
        "trained, chosen or served by them. `few`: a handful of them are audit labels, which also choose between "
        "what was trained; the rest measure. `none`: they are not read at all.",
    )
    target_base_model: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = Field(
        default=None,
        description="The base model of a `target` of another modality than the source, for methods that go across: a "
        "card's id, `timm:<name>` or `hf:<name>`. Without one: the default of its modality.",
    )
    budget: Budget = Budget()
    baselines: Baselines = Field(
        default="quick",
        description="What the method is compared with: `quick` takes those that cost next to nothing, `all` trains a "
        "network from scratch, too, `none` compares with nothing, and there is no verdict.",
    )
    guard: Guard = Field(
        default="on",
        description="`on` serves the best arm; `off` serves the method's own model even where a baseline is better.",
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="Seed of everything random in the job.")
    webhook: Webhook | None = Field(default=None, description="Told, with a signature, when the job has ended.")
    metadata: Metadata = Field(
        default={}, description="Your own labels: at most 64 names of up to 64 characters, texts of up to 512."
    )


class Progress(Record):
    """How far a running job is."""

    step: StepName
    fraction: float = Field(ge=0, le=1, description="Share of the whole job that is done.")
    epoch: int | None = None
    epochs: int | None = None
    eta_seconds: float | None = None


class Step(Record):
    """One step of a job and what it cost."""

    name: StepName
    state: Literal["running", "done"]
    seconds: float | None = None
    note: str = Field(default="", description="E.g. `from cache`.")


class Job(Record):
    """One run of one method."""

    id: JobId
    object: Literal["job"] = "job"
    state: JobState
    method: AnyMethod
    base_model: str
    source: DatasetId | None = Field(
        default=None, description="The labelled data it learns from; null where a model of yours knows the classes."
    )
    evaluation: DatasetId | None = None
    target: DatasetId | None = Field(default=None, description="Data of the new domain that it adapts to.")
    target_labels: TargetLabels = "evaluation"
    target_base_model: str | None = Field(
        default=None, description="The target's base model, where it was named: of another modality."
    )
    budget: Budget
    baselines: Baselines = "quick"
    guard: Guard = "on"
    seed: int
    webhook: Webhook | None = None
    metadata: Metadata
    progress: Progress | None = None
    steps: list[Step] = []
    metrics: dict[str, float] = Field(default={}, description="Headline figures, e.g. `accuracy`, once known.")
    verdict: Verdict | None = Field(default=None, description="Whether the transfer helped; the report says why.")
    resolved: dict[str, Any] | None = Field(
        default=None, description="The method's options as they were used: what `auto` became."
    )
    estimate: Estimate | None = Field(default=None, description="What it was expected to cost, and what it did cost.")
    attempt: int = Field(default=0, description="How many times a worker has started it.")
    lost: int = Field(default=0, description="How many of its workers were lost; too many, and it fails.")
    stop_requested: bool = Field(default=False, description="Finish now and keep the best so far.")
    cancel_requested: bool = Field(default=False, description="Discard it.")
    error: ErrorBody | None = None
    model_id: ModelId | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None


EventKind = Literal["state", "step", "progress", "metric", "message", "checkpoint", "resolved"]


class Checkpoint(Record):
    """The state of a running job from which another worker can go on."""

    sha256: Sha256
    bytes: int
    epoch: float = Field(description="Epochs done; a fraction within an epoch.")
    step: int = Field(description="Optimiser steps done.")


class Event(Record):
    """Something that happened to a job, numbered without gaps."""

    seq: int = Field(ge=1)
    job_id: JobId
    attempt: int
    at: datetime
    kind: EventKind
    data: dict[str, Any]


TERMINAL: frozenset[JobState] = frozenset({"succeeded", "failed", "cancelled"})
TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    "queued": frozenset({"running", "cancelled", "failed"}),
    "running": frozenset({"succeeded", "failed", "cancelled", "queued"}),
    "succeeded": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}
