"""Queries on jobs. Every change of state goes through `transition`.

`attempt` is the fence: it grows with every claim. `lost` counts the attempts whose worker or process was lost, and only
that count is compared with `max_attempts`: a job that was handed back by workers which ended in good order is not at
fault for it. `spent` adds up the seconds of all attempts.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, case, delete, func, insert, or_, select, update

from core.contract.base import now
from core.contract.errors import ConflictError, ErrorBody, JobError, NotFoundError
from core.contract.estimates import Estimate
from core.contract.jobs import TERMINAL, TRANSITIONS, Checkpoint, Job, JobSpec, JobState, Progress, Step
from core.store import events, fairness, webhooks
from core.store.database import clock
from core.store.events import NewEvent
from core.store.job_records import JobClaim as JobClaim  # noqa: PLC0414 -- also the name by which callers know it
from core.store.job_records import Wishes as Wishes  # noqa: PLC0414
from core.store.job_records import record_of
from core.store.leases import Fence, LostLeaseError, claim, renew
from core.store.paging import Page, fetch
from core.store.tables import jobs

T = jobs.c
RETRY_SECONDS = (0.0, 2.0, 8.0)
"""How long a job waits after its first, second, third loss (and all later ones) before a worker may claim it."""


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
        "base_model": spec.base_model or "",  # the API names it; without a name the engine takes the default
        "source_id": spec.source,
        "evaluation_id": spec.evaluation,
        "target_id": spec.target,
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
    return record_of(_row(tx, tenant, job_id))


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
    target: str | None = None,
    cursor: str | None = None,
    limit: int = 20,
) -> Page[Job]:
    """The tenant's jobs, newest first."""
    query = select(jobs).where(T.tenant == tenant)
    filters = ((T.state, state), (T.method, method), (T.source_id, source), (T.target_id, target))
    for column, value in filters:
        if value is not None:
            query = query.where(column == value)
    rows, more = fetch(tx, query, jobs, cursor=cursor, limit=limit)
    return Page([record_of(row) for row in rows], more, rows[-1].id if more else None)


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
        query = query.where(_own(fence))
    if to in TERMINAL:
        values |= {"finished_at": now(), "checkpoint": None, "checkpoint_sha256": None}
    if to != "running":
        values |= {"lease_until": None, "running_since": None, "spent": _spent(tx)}
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


def _spent(tx: Connection) -> ColumnElement[Any]:
    """Seconds spent once a run has ended; a worker that was lost has not worked longer than its lease."""
    until = case((T.lease_until < clock(tx), T.lease_until), else_=clock(tx))
    return case((T.running_since < until, T.spent + until - T.running_since), else_=T.spent)


def claim_next(
    tx: Connection,
    owner: str,
    seconds: float,
    *,
    quota_running: int | None = None,
    usable: Callable[[str], bool] = lambda _sha256: True,
) -> JobClaim | None:
    """Claim a job, fairly between tenants (`core.store.fairness`): it becomes `running`, its attempt number grows.

    `quota_running` is how many jobs of a tenant without a quota of its own may run at once. A checkpoint whose blob is
    not `usable` is forgotten.
    """
    free = [T.state == "queued", or_(T.not_before.is_(None), T.not_before <= clock(tx))]
    for job_id in fairness.order(tx, free, quota_running):
        row = claim(tx, jobs, (T.id == job_id) & free[0], state="running", owner=owner, seconds=seconds)
        if row is not None:
            return _claimed(tx, row, usable)
    return None


def _claimed(tx: Connection, row: Row[Any], usable: Callable[[str], bool]) -> JobClaim:
    values: dict[str, Any] = {"started_at": func.coalesce(T.started_at, now()), "steps": [], "not_before": None}
    data: dict[str, Any] = {"state": "running", "attempt": row.attempt}
    saved = None if row.checkpoint is None else Checkpoint.model_validate(row.checkpoint)
    if saved is not None and not usable(saved.sha256):
        saved, values["checkpoint"], values["checkpoint_sha256"] = None, None, None
    if saved is not None:
        data["resumed_from"] = {"epoch": saved.epoch, "step": saved.step}
    tx.execute(update(jobs).where(T.id == row.id).values(running_since=clock(tx), **values))
    events.append(tx, row.id, [NewEvent("state", data)])
    return JobClaim(
        fence=Fence(row.id, row.attempt),
        tenant=row.tenant,
        spec=JobSpec.model_validate(row.spec),
        created_at=row.created_at,
        lost=row.lost,
        spent=row.spent,
        checkpoint=saved,
        request_id=row.request_id,
        traceparent=row.traceparent,
    )


def due_in(tx: Connection) -> float | None:
    """Seconds until the next job that waits after a loss may be claimed; None if none waits."""
    seconds = tx.scalar(select(func.min(T.not_before) - clock(tx)).where(T.state == "queued", T.not_before > clock(tx)))
    return None if seconds is None else float(seconds)


def _own(fence: Fence) -> ColumnElement[bool]:
    """That very attempt runs the job."""
    return (T.id == fence.id) & (T.attempt == fence.attempt) & (T.state == "running")


def _held(tx: Connection, fence: Fence, *, lock: bool = False) -> Row[Any]:
    """The row, if the attempt still owns it; `LostLeaseError` for a late worker."""
    query = select(jobs).where(_own(fence))
    row = tx.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise LostLeaseError(f"{fence.id}: attempt {fence.attempt} no longer owns the job")
    return row


def heartbeat(tx: Connection, fence: Fence, seconds: float) -> Wishes:
    """Prolong the lease and learn whether the user wants the job stopped or cancelled."""
    row = renew(tx, jobs, fence, state="running", seconds=seconds)
    return Wishes(row.stop_requested, row.cancel_requested)


def wishes(tx: Connection, fence: Fence) -> Wishes:
    """What the user wants of a running job, without prolonging its lease; `LostLeaseError` for a late worker."""
    row = _held(tx, fence)
    return Wishes(row.stop_requested, row.cancel_requested)


def is_running(tx: Connection, fence: Fence) -> bool:
    """Whether that very attempt still runs the job."""
    return tx.execute(select(T.id).where(_own(fence))).first() is not None


def record(
    tx: Connection,
    fence: Fence,
    new: list[NewEvent],
    *,
    progress: Progress | None = None,
    steps: list[Step] | None = None,
    resolved: dict[str, Any] | None = None,
) -> None:
    """Write what a running job reported: its events, and the progress, steps and options they add up to."""
    events.append(tx, fence.id, new, fence=fence)
    values: dict[str, Any] = {}
    if progress is not None:
        values["progress"] = progress.model_dump(mode="json")
    if steps is not None:
        values["steps"] = [step.model_dump(mode="json") for step in steps]
    if resolved is not None:
        values["resolved"] = resolved
    if values:
        tx.execute(update(jobs).where(_own(fence)).values(values))


def set_estimate(tx: Connection, fence: Fence, found: Estimate) -> None:
    """What the job is expected to cost; `LostLeaseError` for a late worker."""
    _held(tx, fence)
    tx.execute(update(jobs).where(_own(fence)).values(estimate=found.model_dump(mode="json")))


def save_checkpoint(tx: Connection, fence: Fence, saved: Checkpoint) -> str | None:
    """Point the job to a checkpoint whose blob is there; returns the blob that it replaces, to be removed after `tx`.

    Its event tells how far the job had come, and neither the file's name nor its hash.
    """
    before: str | None = _held(tx, fence, lock=True).checkpoint_sha256
    values = {"checkpoint": saved.model_dump(mode="json"), "checkpoint_sha256": saved.sha256}
    tx.execute(update(jobs).where(_own(fence)).values(values))
    data = {"epoch": saved.epoch, "step": saved.step, "bytes": saved.bytes}
    events.append(tx, fence.id, [NewEvent("checkpoint", data)], fence=fence)
    return before if before != saved.sha256 else None


def checkpoint(tx: Connection, fence: Fence) -> Checkpoint | None:
    """What the job would go on from; `LostLeaseError` for a late worker."""
    saved = _held(tx, fence).checkpoint
    return None if saved is None else Checkpoint.model_validate(saved)


def retry(tx: Connection, fence: Fence, error: ErrorBody, max_attempts: int, *, delay: float | None = None) -> JobState:
    """Count a loss: the job is queued again, from `delay` seconds on, or `failed` with `error` after too many.

    Without a `delay` the pauses grow (`RETRY_SECONDS`). A job that was to be cancelled is cancelled.
    """
    row = _held(tx, fence, lock=True)
    lost = row.lost + 1
    if row.cancel_requested:
        transition(tx, fence.id, "cancelled", fence=fence, lost=lost)
        return "cancelled"
    if lost >= max_attempts:
        error = error.model_copy(update={"details": error.details | {"lost": lost}})
        transition(tx, fence.id, "failed", fence=fence, error=error, lost=lost)
        return "failed"
    pause = RETRY_SECONDS[min(lost, len(RETRY_SECONDS)) - 1] if delay is None else delay
    text = f"{error.message} The job is queued again: loss {lost} of at most {max_attempts}."
    events.append(tx, fence.id, [NewEvent("message", {"text": text})], fence=fence)
    _requeue(tx, fence, lost=lost, not_before=clock(tx) + pause if pause else None)
    return "queued"


def hand_back(tx: Connection, fence: Fence) -> JobState:
    """The worker ends in good order: the job is queued again at once and this does not count as a loss."""
    if _held(tx, fence, lock=True).cancel_requested:
        transition(tx, fence.id, "cancelled", fence=fence)
        return "cancelled"
    _requeue(tx, fence, not_before=None)
    return "queued"


def _requeue(tx: Connection, fence: Fence, **values: Any) -> None:
    transition(tx, fence.id, "queued", fence=fence, owner=None, progress=None, **values)


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


def remove(tx: Connection, tenant: str, job_id: str) -> list[str]:
    """Delete a finished job with its events and deliveries; returns its blobs, for `garbage.drop` after the commit.

    `ConflictError` while it is queued or running. The model it made stays.
    """
    tx.execute(select(T.id).where(T.id == job_id, T.tenant == tenant).with_for_update())
    row = _row(tx, tenant, job_id)
    if row.state not in TERMINAL:
        raise ConflictError(
            f"Job {job_id} is {row.state}.", code="job_not_finished", hint="Wait for its end, or cancel it first."
        )
    tx.execute(delete(jobs).where(T.id == job_id))
    return [sha256 for sha256 in (row.report_sha256, row.checkpoint_sha256) if sha256 is not None]


def queued(tx: Connection) -> int:
    """How many jobs wait for a worker."""
    return tx.scalar(select(func.count()).where(T.state == "queued")) or 0


def reconcile(tx: Connection, max_attempts: int) -> int:
    """Put right what lost workers left behind: queue again, or end what was cancelled or was tried often enough.

    Returns how many jobs were touched.
    """
    gone = select(T.id, T.attempt, T.lost).where(*_lost(tx)).with_for_update(skip_locked=True)
    lost = list(tx.execute(gone))
    for row in lost:
        retry(tx, Fence(row.id, row.attempt), _worker_lost(row.lost + 1), max_attempts)
    return len(lost)


def _lost(tx: Connection) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return T.state == "running", T.lease_until < clock(tx)


def _worker_lost(lost: int) -> ErrorBody:
    how_often = "" if lost == 1 else f" {lost} times"
    return JobError(
        f"The worker was lost{how_often} while it ran this job.",
        code="worker_lost",
        hint="Look for out-of-memory kills in the machine's log; a smaller batch_size or base model may help.",
    ).body()
