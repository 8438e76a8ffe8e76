"""Queries on access keys. Rows are never deleted: that a key was ever made is what closes the open door.

A secret is 256 random bits: nobody can guess it, so its SHA-256 is as good as a slow password hash and costs a
microsecond. It is looked up by that hash in an index: how long this takes says nothing about any secret.
"""

import hashlib
import secrets
import string
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, insert, or_, select, update

from core.contract.access import Key, NewKey, Scope
from core.contract.base import new_id, now
from core.contract.errors import ConflictError, NotFoundError
from core.store.paging import Page, fetch
from core.store.tables import api_keys

T = api_keys.c
USED_SECONDS = 60.0
_SHOWN = string.ascii_lowercase + string.digits


@dataclass(frozen=True)
class KnownKey:
    """A key that lets its holder in until `expires_at`."""

    id: str
    tenant: str
    scope: Scope
    expires_at: datetime | None


def hashed(secret: str) -> str:
    """What is kept of a secret: its SHA-256, in hexadecimal."""
    return hashlib.sha256(secret.encode()).hexdigest()


def has_ended(key: KnownKey) -> bool:
    """Whether the key has expired since it was looked up."""
    return key.expires_at is not None and key.expires_at <= now()


def _new_secret() -> tuple[str, str]:
    """A secret and how it begins: `graft_`, 8 characters that may be shown, then 43 that carry 256 bits."""
    prefix = "graft_" + "".join(secrets.choice(_SHOWN) for _ in range(8))
    return f"{prefix}_{secrets.token_urlsafe(32)}", prefix


def _active(at: datetime) -> ColumnElement[bool]:
    return and_(T.revoked_at.is_(None), or_(T.expires_at.is_(None), T.expires_at > at))


def _record(row: Row[Any]) -> Key:
    return Key(**{name: getattr(row, name) for name in Key.model_fields if name != "object"})


def add(tx: Connection, tenant: str, name: str, scope: Scope, *, lifetime: timedelta | None = None) -> NewKey:
    """Make a key; the reply is the only place where its secret ever stands."""
    secret, prefix = _new_secret()
    at = now()
    values: dict[str, Any] = {
        "id": new_id("key"),
        "name": name,
        "scope": scope,
        "prefix": prefix,
        "created_at": at,
        "expires_at": None if lifetime is None else at + lifetime,
    }
    tx.execute(insert(api_keys).values(**values, tenant=tenant, secret_sha256=hashed(secret)))
    return NewKey(**values, secret=secret)


def find(tx: Connection, secret_sha256: str) -> KnownKey | None:
    """The key with that hash, if it is neither revoked nor expired."""
    query = select(T.id, T.tenant, T.scope, T.expires_at).where(T.secret_sha256 == secret_sha256, _active(now()))
    row = tx.execute(query).one_or_none()
    return None if row is None else KnownKey(*row)


def any_ever(tx: Connection) -> bool:
    """Whether a key was ever made, for any tenant; revoked and expired ones count."""
    return tx.execute(select(T.id).limit(1)).first() is not None


def any_active(tx: Connection) -> bool:
    """Whether somebody could get in with a key."""
    return tx.execute(select(T.id).where(_active(now())).limit(1)).first() is not None


def _row(tx: Connection, tenant: str, key_id: str, *, hold: bool = False) -> Row[Any]:
    query = select(api_keys).where(T.id == key_id, T.tenant == tenant)
    row = tx.execute(query.with_for_update() if hold else query).one_or_none()
    if row is None:
        raise NotFoundError(f"There is no key {key_id}.", code="key_not_found", hint="GET /keys lists yours.")
    return row


def get(tx: Connection, tenant: str, key_id: str) -> Key:
    """One key; `NotFoundError` if there is none of that id in the tenant."""
    return _record(_row(tx, tenant, key_id))


def page(tx: Connection, tenant: str, *, cursor: str | None = None, limit: int = 20) -> Page[Key]:
    """The tenant's keys, newest first, revoked ones too."""
    rows, more = fetch(tx, select(api_keys).where(T.tenant == tenant), api_keys, cursor=cursor, limit=limit)
    return Page([_record(row) for row in rows], more, rows[-1].id if more else None)


def owner(tx: Connection, key_id: str) -> str | None:
    """The tenant of a key, for the command line on the server, which stands above tenants."""
    found: str | None = tx.scalar(select(T.tenant).where(T.id == key_id))
    return found


def everybodys(tx: Connection, tenant: str | None = None) -> list[tuple[str, Key]]:
    """Keys of every tenant (or of one) with the tenant's name, newest first, for the command line on the server."""
    query = select(api_keys).order_by(T.id.desc())
    rows = tx.execute(query if tenant is None else query.where(T.tenant == tenant))
    return [(row.tenant, _record(row)) for row in rows]


def revoke(tx: Connection, tenant: str, key_id: str) -> None:
    """Make a key worthless; doing so again changes nothing."""
    if _row(tx, tenant, key_id, hold=True).revoked_at is None:
        tx.execute(update(api_keys).where(T.id == key_id).values(revoked_at=now()))


def rotate(tx: Connection, tenant: str, key_id: str, *, grace: timedelta) -> NewKey:
    """A key with the same name, scope and lifetime (from its making to its end) in place of this one.

    This one ends after `grace`. `ConflictError` for a key that has ended already.
    """
    row = _row(tx, tenant, key_id, hold=True)
    at = now()
    if row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= at):
        raise ConflictError(f"Key {key_id} has ended.", code="key_ended", hint="Make a new one with POST /keys.")
    lifetime = None if row.expires_at is None else row.expires_at - row.created_at
    ends = at + grace if row.expires_at is None else min(at + grace, row.expires_at)
    values = {"revoked_at": at} if not grace else {"expires_at": ends}
    tx.execute(update(api_keys).where(T.id == key_id).values(**values))
    return add(tx, tenant, row.name, row.scope, lifetime=lifetime)


def note_use(tx: Connection, key_id: str) -> None:
    """Write down that a key was used, unless that was done within the last minute."""
    at = now()
    stale = or_(T.last_used_at.is_(None), T.last_used_at < at - timedelta(seconds=USED_SECONDS))
    tx.execute(update(api_keys).where(T.id == key_id, stale).values(last_used_at=at))
