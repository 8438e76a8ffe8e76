"""Queries on deliveries. The row is entered in the transaction that ends the job, so no word of an end is lost.

A delivery on its way is `sending` in the table and `pending` to its owner; while it is, `next_at` is a lease.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from core.contract.base import new_id, now
from core.contract.errors import ConflictError, NotFoundError
from core.contract.jobs import JobState
from core.contract.webhooks import Delivery
from core.store.database import clock
from core.store.tables import deliveries, jobs, tenants

T = deliveries.c
_OPEN = ("pending", "sending")


@dataclass(frozen=True)
class Due:
    """A delivery that this worker has to send; `attempt` (from 1) is the fence of what it writes afterwards."""

    id: str
    attempt: int
    tenant: str
    job_id: str
    url: str
    event: str
    generation: int


@dataclass(frozen=True)
class Outcome:
    """What came of an attempt: `again_in` seconds it is tried again; None after the last."""

    delivered: bool
    status: int | None = None
    error: str | None = None
    again_in: float | None = None


def enqueue(tx: Connection, job_id: str, state: JobState) -> None:
    """Enter the delivery that a job's end calls for, if the job has a webhook."""
    row = tx.execute(select(jobs.c.tenant, jobs.c.spec).where(jobs.c.id == job_id)).one()
    webhook = row.spec.get("webhook")
    if webhook is None:
        return
    tx.execute(
        insert(deliveries).values(
            id=new_id("whd"),
            tenant=row.tenant,
            job_id=job_id,
            url=webhook["url"],
            event=f"job.{state}",
            state="pending",
            next_at=clock(tx),
            created_at=now(),
        )
    )


def _record(row: Row[Any]) -> Delivery:
    return Delivery(
        id=row.id,
        job_id=row.job_id,
        url=row.url,
        event=row.event,
        state="pending" if row.state in _OPEN else row.state,
        attempts=row.attempts,
        last_status=row.last_status,
        last_error=row.last_error,
        next_at=datetime.fromtimestamp(row.next_at, UTC) if row.state == "pending" else None,
        created_at=row.created_at,
        delivered_at=row.delivered_at,
    )


def of_job(tx: Connection, tenant: str, job_id: str) -> list[Delivery]:
    """A job's deliveries, newest first."""
    query = select(deliveries).where(T.tenant == tenant, T.job_id == job_id).order_by(T.id.desc())
    return [_record(row) for row in tx.execute(query)]


def retry(tx: Connection, tenant: str, job_id: str, delivery_id: str) -> Delivery:
    """Send it (again) at once; `NotFoundError`, `ConflictError` while it is on its way."""
    query = select(deliveries).where(T.id == delivery_id, T.job_id == job_id, T.tenant == tenant)
    row = tx.execute(query.with_for_update()).one_or_none()
    if row is None:
        raise NotFoundError(
            f"Job {job_id} has no delivery {delivery_id}.",
            code="delivery_not_found",
            hint=f"GET /jobs/{job_id}/deliveries lists them.",
        )
    if row.state == "sending":
        raise ConflictError(
            f"Delivery {delivery_id} is on its way right now.",
            code="delivery_under_way",
            hint="Wait some seconds and look what came of it.",
        )
    tx.execute(update(deliveries).where(T.id == delivery_id).values(state="pending", next_at=clock(tx)))
    return _record(tx.execute(query).one())


def any_due(tx: Connection) -> bool:
    """Whether something waits to be sent: a cheap look that takes no lock."""
    return tx.execute(select(T.id).where(T.state.in_(_OPEN), T.next_at <= clock(tx)).limit(1)).first() is not None


def claim(
    tx: Connection, lease_seconds: float, *, busy_urls: Collection[str] = (), busy_tenants: Collection[str] = ()
) -> Due | None:
    """Claim what is due longest, except what would queue up behind a slow receiver; None if there is nothing."""
    oldest = (
        select(T.id)
        .where(T.state.in_(_OPEN), T.next_at <= clock(tx), T.url.not_in(busy_urls), T.tenant.not_in(busy_tenants))
        .order_by(T.next_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    values = {"state": "sending", "attempts": T.attempts + 1, "next_at": clock(tx) + lease_seconds}
    row = tx.execute(
        update(deliveries).where(T.id == oldest.scalar_subquery()).values(values).returning(deliveries)
    ).one_or_none()
    if row is None:
        return None
    return Due(row.id, row.attempts, row.tenant, row.job_id, row.url, row.event, generation(tx, row.tenant))


def finish(tx: Connection, due: Due, outcome: Outcome) -> bool:
    """Note what came of an attempt; False if the delivery is gone or somebody else has it by now."""
    again = outcome.again_in
    values: dict[str, Any] = {
        "state": "delivered" if outcome.delivered else "failed" if again is None else "pending",
        "last_status": outcome.status,
        "last_error": outcome.error and outcome.error[:512],
        "next_at": None if again is None else clock(tx) + again,
    }
    if outcome.delivered:
        values["delivered_at"] = now()
    owned = (T.id == due.id, T.state == "sending", T.attempts == due.attempt)
    return tx.execute(update(deliveries).where(*owned).values(values)).rowcount == 1


def generation(tx: Connection, tenant: str) -> int:
    """How often the tenant's secret was rotated."""
    return tx.scalar(select(tenants.c.webhook_generation).where(tenants.c.name == tenant)) or 0


def rotate(tx: Connection, tenant: str) -> int:
    """Begin a new generation and return it."""
    make = postgresql.insert if tx.dialect.name == "postgresql" else sqlite.insert
    entered = make(tenants).values(name=tenant, webhook_generation=1, created_at=now())
    query = entered.on_conflict_do_update(
        index_elements=["name"], set_={"webhook_generation": tenants.c.webhook_generation + 1}
    )
    return int(tx.execute(query.returning(tenants.c.webhook_generation)).scalar_one())
