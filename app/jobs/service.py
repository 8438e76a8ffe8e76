"""Decisions on jobs."""

from app.idempotency import Created, once
from app.jobs.checks import check
from core import tracing
from core.contract.base import new_id
from core.contract.jobs import Event, Job, JobSpec
from core.forecasting import forecast
from core.settings import Settings
from core.store import events, garbage, jobs, tenants
from core.store.paging import Page
from core.store.store import Store


def create(
    store: Store, settings: Settings, tenant: str, spec: JobSpec, *, key: str | None, request_id: str | None = None
) -> Created:
    """Check the job against the state of things and enter it as `queued`, all in one transaction."""
    said = {"call": "POST /jobs", "spec": spec.model_dump(mode="json")}
    with store.db.write() as tx:

        def enter() -> Job:
            checked = check(tx, tenant, spec)
            tenants.admit_job(tx, tenant, settings)
            refusal = forecast(tx, settings, tenant, checked).refusal()
            if refusal is not None:
                raise refusal
            at = tracing.current_traceparent()
            return jobs.add(tx, tenant, new_id("job"), checked, request_id=request_id, traceparent=at)

        return once(tx, tenant, key, said, enter, seconds=store.key_seconds)


def request_end(store: Store, tenant: str, job_id: str, *, cancel: bool) -> Job:
    """Note the wish to stop (keep the best so far) or cancel (discard); the worker hears of it by its heartbeat."""
    with store.db.write() as tx:
        return jobs.request(tx, tenant, job_id, cancel=cancel)


def remove(store: Store, tenant: str, job_id: str) -> None:
    """Delete a finished job; `NotFoundError`, `ConflictError` while it is not over."""
    with store.db.write() as tx:
        blobs = jobs.remove(tx, tenant, job_id)
    garbage.drop(store, blobs)  # only now: a crash in between leaves files without a row, never the reverse


def events_page(store: Store, tenant: str, job_id: str, seq: int, limit: int) -> Page[Event]:
    """Events after `seq`, oldest first; the cursor is always the last number seen, so that a poller can go on."""
    with store.db.read() as tx:
        jobs.get(tx, tenant, job_id)
        found = events.after(tx, job_id, seq, limit + 1)
    page = found[:limit]
    return Page(page, len(found) > limit, str(page[-1].seq if page else seq))
