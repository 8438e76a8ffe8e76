"""Events of jobs: numbered without gaps by a counter in the job's row, which also carries the fence."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from core.contract.base import now
from core.contract.jobs import Event, EventKind, JobState
from core.store.leases import Fence, LostLeaseError
from core.store.tables import events, jobs


@dataclass(frozen=True)
class NewEvent:
    """An event that has no number yet."""

    kind: EventKind
    data: dict[str, Any]
    at: datetime = field(default_factory=now)


def append(tx: Connection, job_id: str, new: Sequence[NewEvent], *, fence: Fence | None = None) -> int:
    """Append events and return the last number; with a fence only while that attempt runs the job."""
    if not new:
        return 0
    query = update(jobs).where(jobs.c.id == job_id)
    if fence is not None:
        query = query.where(jobs.c.attempt == fence.attempt, jobs.c.state == "running")
    query = query.values(last_seq=jobs.c.last_seq + len(new))
    row = tx.execute(query.returning(jobs.c.last_seq, jobs.c.attempt)).one_or_none()
    if row is None:
        raise LostLeaseError(f"{job_id}: the attempt no longer owns the job")
    first = row.last_seq - len(new) + 1
    tx.execute(
        insert(events),
        [
            {"job_id": job_id, "seq": first + i, "attempt": row.attempt, "at": e.at, "kind": e.kind, "data": e.data}
            for i, e in enumerate(new)
        ],
    )
    return int(row.last_seq)


def after(tx: Connection, job_id: str, seq: int, limit: int = 500) -> list[Event]:
    """Events with a number above `seq`, oldest first."""
    query = select(events).where(events.c.job_id == job_id, events.c.seq > seq).order_by(events.c.seq).limit(limit)
    return [Event(**row._mapping) for row in tx.execute(query)]


def of_kind(tx: Connection, job_id: str, kind: EventKind, *, before_attempt: int) -> list[dict[str, Any]]:
    """The data of a kind of event as earlier attempts at the job wrote it, oldest first."""
    query = select(events.c.data).where(
        events.c.job_id == job_id, events.c.kind == kind, events.c.attempt < before_attempt
    )
    return list(tx.scalars(query.order_by(events.c.seq)))


@dataclass(frozen=True)
class Tail:
    """How far a job's events have come."""

    last_seq: int
    state: JobState


def tails(tx: Connection, job_ids: Sequence[str]) -> dict[str, Tail]:
    """The tails of several jobs in one query; a job that is gone is left out."""
    query = select(jobs.c.id, jobs.c.last_seq, jobs.c.state).where(jobs.c.id.in_(job_ids))
    return {row.id: Tail(row.last_seq, row.state) for row in tx.execute(query)}
