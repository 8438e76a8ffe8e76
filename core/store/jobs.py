"""Queries on jobs. Every change of state goes through `transition`."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, insert, select, update

from core.contract.base import now
from core.contract.errors import ConflictError, ErrorBody, JobError, NotFoundError
from core.contract.jobs import TERMINAL, TRANSITIONS, Job, JobSpec, JobState, Progress, Step
from core.store import events, webhooks
from core.store.database import clock
from core.store.events import NewEvent
from core.store.leases import Fence, LostLeaseError, claim, renew
from core.store.paging import Page, fetch
from core.store.tables import jobs

T = jobs.c


@dataclass(frozen=True)
class JobClaim:
    """A job that this worker has to run."""

    fence: Fence
    tenant: str
    spec: JobSpec
    created_at: datetime


@dataclass(frozen=True)
class Wishes:
    """What the user wants of a running job, as the heartbeat brings it."""

    stop: bool
    cancel: bool


def _record(row: Row[Any]) -> Job:
    spec = JobSpec.model_validate(row.spec)
    return Job(
        id=row.id,
        state=row.state,
        method=spec.method,
        base_model=spec.base_model,
        source=spec.source,
        evaluation=spec.evaluation,
        budget=spec.budget,
        seed=spec.seed,
        webhook=spec.webhook,
        metadata=spec.metadata,
        progress=row.progress,
        steps=row.steps,
        metrics=row.metrics,
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


def add(
    tx: Connection,
    tenant: str,
    job_id: str,
    spec: JobSpec,
    *,
    request_id: str | None = None,
    traceparent: str | None = None,
) -> Job:
    """Enter a new job as `queued`; the request that asked for it is named in the logs and traces of its run."""
    values: dict[str, Any] = {
        "id": job_id,
        "tenant": tenant,
        "state": "queued",
        "spec": spec.model_dump(mode="json"),
        "method": spec.method.name,
        "base_model": spec.base_model,
        "source_id": spec.source,
        "evaluation_id": spec.evaluation,
        "steps": [],
        "metrics": {},
        "request_id": request_id,
        "traceparent": traceparent,
        "created_at": now(),
    }
    tx.execute(insert(jobs).values(**values))
    events.append(tx, job_id, [NewEvent("state", {"state": "queued"})])
    return get(tx, tenant, job_id)


def _row(tx: Connection, tenant: str, job_id: str) -> Row[Any]:
    row = tx.execute(select(jobs).where(T.id == job_id, T.tenant == tenant)).one_or_none()
    if row is None:
        raise NotFoundError(f"There is no job {job_id}.", code="job_not_found", hint="GET /jobs lists yours.")
    return row


def get(tx: Connection, tenant: str, job_id: str) -> Job:
    """One job; `NotFoundError` if there is none of that id in the tenant."""
    return _record(_row(tx, tenant, job_id))


def report_blob(tx: Connection, tenant: str, job_id: str) -> str | None:
    """SHA-256 of the job's report; None while there is none."""
    value: str | None = _row(tx, tenant, job_id).report_sha256
    return value


def page(
    tx: Connection,
    tenant: str,
    *,
    state: JobState | None = None,
    method: str | None = None,
    source: str | None = None,
    cursor: str | None = None,
    limit: int = 20,
) -> Page[Job]:
    """The tenant's jobs, newest first."""
    query = select(jobs).where(T.tenant == tenant)
    for column, value in ((T.state, state), (T.method, method), (T.source_id, source)):
        if value is not None:
            query = query.where(column == value)
    rows, more = fetch(tx, query, jobs, cursor=cursor, limit=limit)
    return Page([_record(row) for row in rows], more, rows[-1].id if more else None)


def transition(
    tx: Connection,
    job_id: str,
    to: JobState,
    *,
    fence: Fence | None = None,
    error: ErrorBody | None = None,
    **values: Any,
) -> None:
    """The one function that changes a job's state: checks the table of transitions and the fence, writes an event.

    Raises `LostLeaseError` (with a fence) or `ConflictError` if the job is not in a state that leads to `to`.
    """
    sources = [state for state, targets in TRANSITIONS.items() if to in targets]
    query = update(jobs).where(T.id == job_id, T.state.in_(sources))
    if fence is not None:
        query = query.where(T.attempt == fence.attempt, T.state == "running")
    if to in TERMINAL:
        values |= {"finished_at": now(), "lease_until": None}
    data: dict[str, Any] = {"state": to}
    if error is not None:
        values["error"] = data["error"] = error.model_dump(mode="json")
    if "model_id" in values:
        data["model_id"] = values["model_id"]
    if tx.execute(query.values(state=to, **values)).rowcount != 1:
        if fence is not None:
            raise LostLeaseError(f"{job_id}: attempt {fence.attempt} no longer owns the job")
        raise ConflictError(f"Job {job_id} can no longer become {to}.", code="job_finished")
    events.append(tx, job_id, [NewEvent("state", data)])
    if to in TERMINAL:
        webhooks.enqueue(tx, job_id, to)


def claim_next(tx: Connection, owner: str, seconds: float) -> JobClaim | None:
    """Claim the oldest queued job; its state becomes `running` and its attempt number grows by one."""
    row = claim(tx, jobs, T.state == "queued", state="running", owner=owner, seconds=seconds)
    if row is None:
        return None
    tx.execute(update(jobs).where(T.id == row.id).values(started_at=func.coalesce(T.started_at, now()), steps=[]))
    events.append(tx, row.id, [NewEvent("state", {"state": "running", "attempt": row.attempt})])
    return JobClaim(Fence(row.id, row.attempt), row.tenant, JobSpec.model_validate(row.spec), row.created_at)


def heartbeat(tx: Connection, fence: Fence, seconds: float) -> Wishes:
    """Prolong the lease and learn whether the user wants the job stopped or cancelled."""
    row = renew(tx, jobs, fence, state="running", seconds=seconds)
    return Wishes(row.stop_requested, row.cancel_requested)


def wishes(tx: Connection, fence: Fence) -> Wishes:
    """What the user wants of a running job, without prolonging its lease; `LostLeaseError` for a late worker."""
    row = tx.execute(
        select(T.stop_requested, T.cancel_requested).where(
            T.id == fence.id, T.attempt == fence.attempt, T.state == "running"
        )
    ).one_or_none()
    if row is None:
        raise LostLeaseError(f"{fence.id}: attempt {fence.attempt} no longer owns the job")
    return Wishes(row.stop_requested, row.cancel_requested)


def is_running(tx: Connection, fence: Fence) -> bool:
    """Whether that very attempt still runs the job."""
    query = select(T.id).where(T.id == fence.id, T.attempt == fence.attempt, T.state == "running")
    return tx.execute(query).first() is not None


def record(
    tx: Connection,
    fence: Fence,
    new: list[NewEvent],
    *,
    progress: Progress | None = None,
    steps: list[Step] | None = None,
) -> None:
    """Write what a running job reported: its events, and the progress and steps they add up to."""
    events.append(tx, fence.id, new, fence=fence)
    values: dict[str, Any] = {}
    if progress is not None:
        values["progress"] = progress.model_dump(mode="json")
    if steps is not None:
        values["steps"] = [step.model_dump(mode="json") for step in steps]
    if values:
        tx.execute(
            update(jobs).where(T.id == fence.id, T.attempt == fence.attempt, T.state == "running").values(values)
        )


def request(tx: Connection, tenant: str, job_id: str, *, cancel: bool) -> Job:
    """Note the wish to stop or cancel; a queued job is cancelled at once, a finished one is `ConflictError`."""
    row = _row(tx, tenant, job_id)
    if row.state in TERMINAL:
        raise ConflictError(
            f"Job {job_id} is over: it {'was' if row.state == 'cancelled' else 'has'} {row.state}.",
            code="job_finished",
            hint="Nothing is left to stop.",
        )
    if row.state == "queued" and not cancel:
        raise ConflictError(
            f"Job {job_id} has not started: there is nothing to keep yet.",
            code="job_not_started",
            hint="Cancel it instead.",
        )
    wish = "cancel_requested" if cancel else "stop_requested"
    tx.execute(update(jobs).where(T.id == job_id).values({wish: True}))
    events.append(tx, job_id, [NewEvent("message", {"text": "cancel requested" if cancel else "stop requested"})])
    if row.state == "queued":
        transition(tx, job_id, "cancelled")
    return get(tx, tenant, job_id)


def queued(tx: Connection) -> int:
    """How many jobs wait for a worker."""
    return tx.scalar(select(func.count()).where(T.state == "queued")) or 0


def reconcile(tx: Connection, max_attempts: int) -> int:
    """Put right what lost workers left behind: queue again, or end what was cancelled or was tried often enough.

    Returns how many jobs were touched.
    """
    lost = list(
        tx.execute(select(T.id, T.attempt, T.cancel_requested).where(*_lost(tx)).with_for_update(skip_locked=True))
    )
    for row in lost:
        fence = Fence(row.id, row.attempt)
        if row.cancel_requested:
            transition(tx, row.id, "cancelled", fence=fence)
        elif row.attempt >= max_attempts:
            transition(tx, row.id, "failed", fence=fence, error=_worker_lost(row.attempt))
        else:
            transition(tx, row.id, "queued", fence=fence, lease_until=None, owner=None, progress=None)
    return len(lost)


def _lost(tx: Connection) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return T.state == "running", T.lease_until < clock(tx)


def _worker_lost(attempts: int) -> ErrorBody:
    return JobError(
        f"The worker was lost {attempts} times while it ran this job.",
        code="worker_lost",
        hint="Look for out-of-memory kills in the machine's log; a smaller batch_size or base model may help.",
    ).body()
