"""Queries on imports of models."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, insert, or_, select, update

from core.contract.base import now
from core.contract.errors import ErrorBody, NotFoundError
from core.contract.imports import Import, ImportState
from core.contract.models import Model
from core.store import leases, models
from core.store.database import clock
from core.store.leases import Fence, claim, renew
from core.store.paging import Page, fetch
from core.store.tables import imports

T = imports.c


@dataclass(frozen=True)
class ImportClaim:
    """An upload that this worker has to check and export."""

    fence: Fence
    tenant: str
    name: str
    upload_sha256: str
    base_model: str | None
    classes: list[str] | None
    request_id: str | None = None
    lost: int = 0


def _record(row: Row[Any]) -> Import:
    return Import(
        id=row.id,
        state=row.state,
        name=row.name,
        base_model=row.base_model,
        classes=row.classes,
        bytes=row.bytes,
        model_id=row.model_id,
        error=row.error,
        metadata=row.metadata,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )


def add(tx: Connection, tenant: str, entry: Import, *, upload_sha256: str, request_id: str | None = None) -> None:
    """Enter a new import; its upload must be stored already."""
    values = entry.model_dump(exclude={"object"}, mode="python")
    tx.execute(insert(imports).values(**values, tenant=tenant, upload_sha256=upload_sha256, request_id=request_id))


def _row(tx: Connection, tenant: str, import_id: str) -> Row[Any]:
    row = tx.execute(select(imports).where(T.id == import_id, T.tenant == tenant)).one_or_none()
    if row is None:
        message = f"There is no import {import_id}."
        raise NotFoundError(message, code="import_not_found", hint="GET /imports lists yours.")
    return row


def get(tx: Connection, tenant: str, import_id: str) -> Import:
    """One import; `NotFoundError` if there is none of that id in the tenant."""
    return _record(_row(tx, tenant, import_id))


def page(
    tx: Connection, tenant: str, *, state: ImportState | None = None, cursor: str | None = None, limit: int = 20
) -> Page[Import]:
    """The tenant's imports, newest first."""
    query = select(imports).where(T.tenant == tenant)
    if state is not None:
        query = query.where(T.state == state)
    rows, more = fetch(tx, query, imports, cursor=cursor, limit=limit)
    return Page([_record(row) for row in rows], more, rows[-1].id if more else None)


def claim_next(tx: Connection, owner: str, seconds: float) -> ImportClaim | None:
    """Claim the next upload that has to be checked."""
    free = and_(T.state == "validating", or_(T.lease_until.is_(None), T.lease_until < clock(tx)))
    row = claim(tx, imports, free, state="validating", owner=owner, seconds=seconds)
    return row and ImportClaim(
        Fence(row.id, row.attempt),
        row.tenant,
        row.name,
        row.upload_sha256,
        row.base_model,
        row.classes,
        row.request_id,
        row.lost,
    )


def heartbeat(tx: Connection, fence: Fence, seconds: float) -> None:
    """Prolong the lease; `LostLeaseError` if the import is somebody else's by now, or was deleted."""
    renew(tx, imports, fence, state="validating", seconds=seconds)


def is_validating(tx: Connection, fence: Fence) -> bool:
    """Whether that very attempt still works on the import."""
    query = select(T.id).where(T.id == fence.id, T.attempt == fence.attempt, T.state == "validating")
    return tx.execute(query).first() is not None


def mark_ready(tx: Connection, fence: Fence, tenant: str, model: Model) -> None:
    """The upload has become a model: `validating -> ready`, and the model's row; `LostLeaseError` for a late worker."""
    renew(tx, imports, fence, state="validating", seconds=0)
    models.add(tx, tenant, model)
    _finish(tx, fence, state="ready", model_id=model.id)


def mark_rejected(tx: Connection, fence: Fence, error: ErrorBody) -> None:
    """The upload was refused: `validating -> rejected`; `LostLeaseError` for a late worker."""
    renew(tx, imports, fence, state="validating", seconds=0)
    _finish(tx, fence, state="rejected", error=error.model_dump(mode="json"))


def _finish(tx: Connection, fence: Fence, **values: Any) -> None:
    tx.execute(update(imports).where(T.id == fence.id).values(**values, lease_until=None, finished_at=now()))


def release(tx: Connection, fence: Fence, *, lost: bool = False) -> None:
    """Hand an import back so that another worker takes it at once; `lost` counts it as a loss."""
    leases.release(tx, imports, fence, state="validating", lost=lost)


def remove(tx: Connection, tenant: str, import_id: str) -> str:
    """Delete an import's row, which ends the work on it; returns its upload. A model it has become stays."""
    row = _row(tx, tenant, import_id)
    tx.execute(delete(imports).where(T.id == import_id))
    sha256: str = row.upload_sha256
    return sha256
