"""What the queries on jobs give back."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from core.contract.jobs import Checkpoint, Job, JobSpec
from core.store.leases import Fence


@dataclass(frozen=True)
class JobClaim:
    """A job that this worker has to run."""

    fence: Fence
    tenant: str
    spec: JobSpec
    created_at: datetime
    lost: int = 0
    spent: float = 0.0
    """Seconds that earlier attempts ran; the budget counts them."""
    checkpoint: Checkpoint | None = None
    """What an earlier attempt saved last."""
    request_id: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True)
class Wishes:
    """What the user wants of a running job, as the heartbeat brings it."""

    stop: bool
    cancel: bool


def record_of(row: Row[Any]) -> Job:
    """A row as its owner sees it."""
    spec = JobSpec.model_validate(row.spec)
    return Job(
        id=row.id,
        state=row.state,
        method=spec.method,
        base_model=row.base_model,
        source=spec.source,
        evaluation=spec.evaluation,
        target=spec.target,
        target_labels=spec.target_labels,
        target_base_model=spec.target_base_model,
        budget=spec.budget,
        baselines=spec.baselines,
        guard=spec.guard,
        seed=spec.seed,
        webhook=spec.webhook,
        metadata=spec.metadata,
        progress=row.progress,
        steps=row.steps,
        metrics=row.metrics,
        verdict=row.verdict,
        resolved=row.resolved,
        estimate=row.estimate,
        attempt=row.attempt,
        lost=row.lost,
        stop_requested=row.stop_requested,
        cancel_requested=row.cancel_requested,
        error=row.error,
        model_id=row.model_id,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )
