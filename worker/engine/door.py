"""The engine's one door: what goes in and what comes out."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from core.contract.jobs import EventKind, JobSpec
from core.contract.models import ModelManifest
from core.contract.reports import Report
from core.estimating.observing import Spent


@dataclass(frozen=True)
class DataRef:
    """A ready data set on disk."""

    id: str
    manifest: Path
    manifest_sha256: str
    content: Path


@dataclass(frozen=True)
class Inputs:
    """Everything a job reads."""

    job_id: str
    model_id: str
    source: DataRef | None
    """Labelled data to learn from; None where the parent knows the classes, and there is a target."""
    evaluation: DataRef | None = None
    parent: Path | None = None
    """Bundle (zip) of the user's own model that the job starts from, if it does."""
    former: DataRef | None = None
    """What that model was measured on, where it is still there: how much of it is forgotten is told."""
    checkpoint: Path | None = None
    """What an earlier attempt saved; the run goes on from there and ends as if it had never been broken."""
    parents: dict[str, Path] = field(default_factory=dict)
    """Bundles of the user's own models that a ranking looks at, by their ids."""
    target: DataRef | None = None
    """Data of the new domain, where the method adapts to one."""


@dataclass(frozen=True)
class Places:
    """Where the engine may write and look."""

    out: Path
    """A folder of the job's own."""
    cache: Path
    """Folder of the artifact cache: features and exported backbones, shared by all jobs."""
    weights: Path | None = None
    """GRAFT_WEIGHTS_DIR."""
    cache_bytes: int = 10 * 1024**3
    features: Literal["fp32", "fp16"] = "fp32"
    """How features are kept in the cache."""
    device: str = "auto"
    threads: int = 0
    checkpoint_seconds: float = 30.0
    """How often training saves its state."""


@dataclass(frozen=True)
class Result:
    """What a job made. `bundle` is a stored (not compressed) zip of the model's files; None where there is no model."""

    manifest: ModelManifest | None
    report: Report
    bundle: Path | None
    costs: Spent | None = None
    """What the run took: what the next ones are reckoned by."""


class Sink(Protocol):
    """Takes events as they happen."""

    def __call__(self, kind: EventKind, data: dict[str, Any]) -> None:
        """Take one event.

        `step`: the fields of `Step`; `progress`: those of `Progress`; `metric`: {epoch?, <name>: value};
        `message`: {text}; `resolved`: {method: its options as used}; `checkpoint`: {file, sha256, bytes, epoch, step},
        `file` being a finished, fsynced file in `places.out` that the taker owns from then on.
        """


Wish = Literal["go_on", "stop", "cancel", "suspend"]
ShouldStop = Callable[[], Wish]


class Engine(Protocol):
    """Signature of `worker.engine.run`."""

    def __call__(self, spec: JobSpec, inputs: Inputs, places: Places, *, sink: Sink, should_stop: ShouldStop) -> Result:
        """Run one job.

        Raises `JobError` with a code and a remedy, `CancelledError` when `should_stop` says `cancel`, `SuspendedError`
        when it says `suspend` (after a last checkpoint, where there is something to save).
        """


class CancelledError(Exception):
    """The user does not want the job any more."""


class SuspendedError(Exception):
    """The worker has to end; the job goes on elsewhere, from its last checkpoint."""
