"""Queries on the audit log: rows are added, read and, when they are old, forgotten; never changed."""

from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from core.contract.access import AuditEntry
from core.store.paging import Page, fetch
from core.store.tables import audit

T = audit.c


def add(tx: Connection, tenant: str, entry: AuditEntry) -> None:
    """Write down what somebody did."""
    tx.execute(insert(audit).values(**entry.model_dump(), tenant=tenant))


def page(
    tx: Connection,
    tenant: str,
    *,
    action: str | None = None,
    key_id: str | None = None,
    cursor: str | None = None,
    limit: int = 20,
) -> Page[AuditEntry]:
    """What was done in the tenant, newest first."""
    query = select(audit).where(T.tenant == tenant)
    for column, value in ((T.action, action), (T.key_id, key_id)):
        if value is not None:
            query = query.where(column == value)
    rows, more = fetch(tx, query, audit, cursor=cursor, limit=limit)
    found = [AuditEntry(**{name: getattr(row, name) for name in AuditEntry.model_fields}) for row in rows]
    return Page(found, more, rows[-1].id if more else None)


def forget(tx: Connection, before: datetime) -> int:
    """Delete entries older than `before`, of every tenant; returns how many."""
    return tx.execute(delete(audit).where(T.at < before)).rowcount
