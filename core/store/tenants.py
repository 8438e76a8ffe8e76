"""Queries on tenants: what they may use and what they use. `default` exists without a row."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Table, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from core.contract.access import DEFAULT_TENANT, Quotas, Usage
from core.contract.base import now
from core.contract.errors import ConflictError, NotFoundError, RateLimitedError, TooLargeError
from core.settings import Settings
from core.store.tables import datasets, imports, jobs, models, tenants, uploads

T = tenants.c
RETRY_SECONDS = 10.0
_KEPT: tuple[tuple[Table, tuple[str, ...] | None], ...] = (
    (datasets, ("uploading", "validating", "ready")),
    (models, None),
    (uploads, ("open",)),
    (imports, ("validating",)),
)
"""What counts as kept bytes: tables, and the states that count (None: every row)."""


@dataclass(frozen=True)
class Tenant:
    """A tenant with quotas of its own; None means what the settings say."""

    name: str
    quotas: Quotas


def _own(row: Row[Any] | None) -> Quotas:
    if row is None:
        return Quotas()
    return Quotas(bytes=row.quota_bytes, queued=row.quota_queued, running=row.quota_running)


def _row(tx: Connection, name: str) -> Row[Any] | None:
    return tx.execute(select(tenants).where(T.name == name)).one_or_none()


def add(tx: Connection, name: str, own: Quotas) -> None:
    """Enter a tenant; `ConflictError` if there is one of that name."""
    if _row(tx, name) is not None:
        raise ConflictError(
            f"There is a tenant {name} already.", code="tenant_exists", hint="Change it with `graftd tenants set`."
        )
    tx.execute(insert(tenants).values(name=name, created_at=now(), **_columns(own)))


def change(tx: Connection, name: str, given: dict[str, int | None]) -> Tenant:
    """Set the quotas that are `given` (by their names in `Quotas`); None takes a quota of its own away."""
    require(tx, name)
    _enter(tx, name)
    if given:
        values = {f"quota_{quota}": value for quota, value in given.items()}
        tx.execute(update(tenants).where(T.name == name).values(**values))
    return Tenant(name, _own(_row(tx, name)))


def require(tx: Connection, name: str) -> None:
    """`NotFoundError`, with the way to make it, unless there is such a tenant."""
    if name != DEFAULT_TENANT and _row(tx, name) is None:
        raise NotFoundError(
            f"There is no tenant {name}.",
            code="tenant_not_found",
            hint=f"Make it with: graftd tenants create {name}",
        )


def all_of(tx: Connection) -> list[Tenant]:
    """Every tenant by name, `default` among them."""
    found = {row.name: Tenant(row.name, _own(row)) for row in tx.execute(select(tenants).order_by(T.name))}
    return list(({DEFAULT_TENANT: Tenant(DEFAULT_TENANT, Quotas())} | found).values())


def quotas(tx: Connection, tenant: str, settings: Settings) -> Quotas:
    """What the tenant may use: its own quotas, else those of the settings."""
    own = _own(_row(tx, tenant))
    return Quotas(
        bytes=settings.quota_bytes if own.bytes is None else own.bytes,
        queued=settings.quota_queued if own.queued is None else own.queued,
        running=settings.quota_running if own.running is None else own.running,
    )


def usage(tx: Connection, tenant: str, settings: Settings) -> Usage:
    """What the tenant uses now, beside what it may."""
    return Usage(
        tenant=tenant,
        bytes=_bytes(tx, tenant),
        queued=_jobs(tx, tenant, "queued"),
        running=_jobs(tx, tenant, "running"),
        quotas=quotas(tx, tenant, settings),
    )


def check_bytes(tx: Connection, tenant: str, settings: Settings, extra: int) -> None:
    """`TooLargeError` if `extra` bytes more are too many as things stand; good for a look ahead, see `admit_bytes`."""
    limit = quotas(tx, tenant, settings).bytes
    if limit is None or (used := _bytes(tx, tenant)) + extra <= limit:
        return
    raise TooLargeError(
        f"{extra:,} bytes more would go over the storage quota: {used:,} of {limit:,} bytes are used.",
        code="storage_quota_exceeded",
        hint="Delete data sets or models that you no longer need, or have the quota raised.",
        details={"limit": limit, "used": used, "asked": extra},
    )


def admit_bytes(tx: Connection, tenant: str, settings: Settings, extra: int) -> None:
    """The same as `check_bytes`, exact: until `tx` (which writes) ends, nobody else is admitted in this tenant.

    Call it in the transaction that enters the rows which count.
    """
    if quotas(tx, tenant, settings).bytes is not None:
        _hold(tx, tenant)
        check_bytes(tx, tenant, settings, extra)


def admit_job(tx: Connection, tenant: str, settings: Settings) -> None:
    """`RateLimitedError` if as many jobs wait as may; exact, like `admit_bytes`."""
    limit = quotas(tx, tenant, settings).queued
    if limit is None:
        return
    _hold(tx, tenant)
    waiting = _jobs(tx, tenant, "queued")
    if waiting >= limit:
        raise RateLimitedError(
            f"{waiting} of your jobs wait already; the quota is {limit}.",
            code="job_quota_exceeded",
            hint="Wait until some have started, cancel some, or have the quota raised.",
            details={"limit": limit, "used": waiting},
            retry_after=RETRY_SECONDS,
        )


def _columns(own: Quotas) -> dict[str, int | None]:
    return {f"quota_{name}": value for name, value in own.model_dump().items()}


def _enter(tx: Connection, name: str) -> None:
    insert_into = postgresql.insert if tx.dialect.name == "postgresql" else sqlite.insert
    tx.execute(insert_into(tenants).values(name=name, created_at=now()).on_conflict_do_nothing())


def _hold(tx: Connection, tenant: str) -> None:
    """Take the tenant's row until the transaction ends (SQLite's writers take turns anyway)."""
    if tx.dialect.name == "postgresql":
        _enter(tx, tenant)
        tx.execute(select(T.name).where(T.name == tenant).with_for_update())


def _bytes(tx: Connection, tenant: str) -> int:
    total = 0
    for table, states in _KEPT:
        query = select(func.coalesce(func.sum(table.c.bytes), 0)).where(table.c.tenant == tenant)
        total += int(tx.scalar(query if states is None else query.where(table.c.state.in_(states))) or 0)
    return total


def _jobs(tx: Connection, tenant: str, state: str) -> int:
    return tx.scalar(select(func.count()).where(jobs.c.tenant == tenant, jobs.c.state == state)) or 0
