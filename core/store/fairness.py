"""Whose job is next: fair between tenants, however many jobs each has sent."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, select, text

from core.store.tables import jobs, tenants

T = jobs.c
_CLAIM_LOCK = 0x67726A6F  # key of the PostgreSQL advisory lock that lets one worker at a time choose a job
_NEVER = datetime.min.replace(tzinfo=UTC)


def order(tx: Connection, free: Sequence[ColumnElement[bool]], quota_running: int | None) -> list[str]:
    """The oldest `free` job of each tenant, that of the tenant with the fewest running jobs first.

    Among equals the tenant goes first whose last start is the longest ago: a single worker never sees a job running
    when it chooses one. A tenant at its quota of running jobs is passed over. Until `tx` ends no other worker
    chooses, so that two cannot overshoot a quota; if nothing waits, nothing is locked.
    """
    oldest = select(T.tenant, func.min(T.id)).where(*free).group_by(T.tenant)
    if not tx.execute(oldest.limit(1)).first():
        return []
    _take_turns(tx)
    waiting = _pairs(tx, oldest)
    running = _running(tx)
    quotas = _quotas(tx, list(waiting), quota_running)
    able = [tenant for tenant in waiting if quotas[tenant] is None or running.get(tenant, 0) < (quotas[tenant] or 0)]
    if len(able) > 1:
        able.sort(key=lambda tenant: (running.get(tenant, 0), _last_start(tx, tenant), waiting[tenant]))
    return [waiting[tenant] for tenant in able]


def _pairs(tx: Connection, query: Select[Any]) -> dict[str, Any]:
    return {row[0]: row[1] for row in tx.execute(query)}


def _take_turns(tx: Connection) -> None:
    if tx.dialect.name == "postgresql":  # on SQLite writers take turns anyway
        tx.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _CLAIM_LOCK})


def _running(tx: Connection) -> dict[str, int]:
    query = select(T.tenant, func.count()).where(T.state == "running").group_by(T.tenant)
    return _pairs(tx, query)


def _quotas(tx: Connection, names: Sequence[str], default: int | None) -> dict[str, int | None]:
    query = select(tenants.c.name, tenants.c.quota_running).where(
        tenants.c.name.in_(names), tenants.c.quota_running.is_not(None)
    )
    own = _pairs(tx, query)
    return {name: own.get(name, default) for name in names}


def _last_start(tx: Connection, tenant: str) -> datetime:
    """When the youngest of the tenant's jobs that ever ran was started: they are started in the order of their age."""
    query = select(T.started_at).where(T.tenant == tenant, T.started_at.is_not(None)).order_by(T.id.desc()).limit(1)
    return tx.scalar(query) or _NEVER
