"""Queries on measurements: a few timed steps on a worker's device, asked for by an estimate."""

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from sqlalchemy import Connection, Row, and_, delete, insert, or_, select, update

from core.contract.base import new_id, now
from core.contract.errors import ErrorBody
from core.contract.jobs import JobSpec
from core.store import leases
from core.store.database import clock
from core.store.leases import Fence, claim, renew
from core.store.tables import measurements

T = measurements.c
State = Literal["queued", "running", "done", "failed"]
_OPEN = ("queued", "running")
_KEPT_DAYS = 1
WAIT_SECONDS = 120.0
"""A measurement that no worker has taken for so long is of no use to anybody."""


@dataclass(frozen=True)
class Measurement:
    """Where one stands."""

    id: str
    state: State
    error: ErrorBody | None


@dataclass(frozen=True)
class MeasurementClaim:
    """What this worker has to measure."""

    fence: Fence
    tenant: str
    spec: JobSpec
    lost: int


def ask(tx: Connection, tenant: str, spec: JobSpec) -> str:
    """Ask for a measurement of what the job would do, unless the same one is under way; returns its id."""
    named = {"method", "base_model", "source", "evaluation", "target", "target_base_model"}
    said = spec.model_dump_json(include=named)
    key = hashlib.sha256(f"{tenant}:{said}".encode()).hexdigest()
    open_one = tx.scalar(select(T.id).where(T.key == key, T.state.in_(_OPEN)).limit(1))
    if open_one is not None:
        return str(open_one)
    tx.execute(delete(measurements).where(T.created_at < now() - timedelta(days=_KEPT_DAYS)))
    made = new_id("mea")
    values = {"id": made, "tenant": tenant, "state": "queued", "key": key, "spec": spec.model_dump(mode="json")}
    tx.execute(insert(measurements).values(**values, created_at=now()))
    return made


def get(tx: Connection, measurement_id: str) -> Measurement | None:
    """One measurement; None where it was forgotten."""
    row: Row[Any] | None = tx.execute(select(measurements).where(T.id == measurement_id)).one_or_none()
    if row is None:
        return None
    return Measurement(row.id, row.state, None if row.error is None else ErrorBody.model_validate(row.error))


def claim_next(tx: Connection, owner: str, seconds: float) -> MeasurementClaim | None:
    """Claim the next one that somebody may still wait for."""
    recent = T.created_at > now() - timedelta(seconds=WAIT_SECONDS)
    free = and_(T.state.in_(_OPEN), or_(T.lease_until.is_(None), T.lease_until < clock(tx)), recent)
    row = claim(tx, measurements, free, state="running", owner=owner, seconds=seconds)
    if row is None:
        return None
    return MeasurementClaim(Fence(row.id, row.attempt), row.tenant, JobSpec.model_validate(row.spec), row.lost)


def heartbeat(tx: Connection, fence: Fence, seconds: float) -> None:
    """Prolong the lease; `LostLeaseError` if it is somebody else's by now."""
    renew(tx, measurements, fence, state="running", seconds=seconds)


def is_running(tx: Connection, fence: Fence) -> bool:
    """Whether that very attempt still measures."""
    query = select(T.id).where(T.id == fence.id, T.attempt == fence.attempt, T.state == "running")
    return tx.execute(query).first() is not None


def finish(tx: Connection, fence: Fence, error: ErrorBody | None = None) -> None:
    """`running -> done`, or `failed` with why; `LostLeaseError` for a late worker."""
    renew(tx, measurements, fence, state="running", seconds=0)
    state: State = "done" if error is None else "failed"
    body = None if error is None else error.model_dump(mode="json")
    values = {"state": state, "error": body, "lease_until": None, "finished_at": now()}
    tx.execute(update(measurements).where(T.id == fence.id).values(**values))


def release(tx: Connection, fence: Fence) -> None:
    """Hand it back so that another worker takes it at once."""
    leases.release(tx, measurements, fence, state="running", lost=False)
