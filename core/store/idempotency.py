"""Idempotency keys: the first reply to a creating request is kept and replayed."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from core.contract.base import now
from core.contract.errors import ConflictError, InvalidRequestError
from core.store.tables import idempotency_keys

T = idempotency_keys.c
KEPT_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class Replay:
    """A reply that was given before."""

    status: int
    body: dict[str, Any]


def begin(tx: Connection, tenant: str, key: str, fingerprint: str, seconds: float = KEPT_SECONDS) -> Replay | None:
    """Take the key for this request, or return the reply it got before; safe against any number of takers at once.

    A key that was taken more than `seconds` ago is as good as new.

    `InvalidRequestError` if the key was used with another body, `ConflictError` while the first request is under way.
    """
    values: dict[str, Any] = {"tenant": tenant, "key": key, "fingerprint": fingerprint, "created_at": now()}
    insert = postgresql.insert if tx.dialect.name == "postgresql" else sqlite.insert
    # On a conflict PostgreSQL waits for the transaction that took the key, so the row read below is final.
    taken = (
        insert(idempotency_keys)
        .values(**values)
        .on_conflict_do_update(
            index_elements=[T.tenant, T.key],
            set_={"fingerprint": fingerprint, "status": None, "reply": None, "created_at": values["created_at"]},
            where=T.created_at < now() - timedelta(seconds=seconds),
        )
        .returning(T.key)
    )
    if tx.execute(taken).first() is not None:
        return None
    row = tx.execute(select(idempotency_keys).where(T.tenant == tenant, T.key == key)).one()
    if row.fingerprint != fingerprint:
        raise InvalidRequestError(
            "This Idempotency-Key was used with another request.",
            code="idempotency_key_reused",
            param="Idempotency-Key",
            hint="Use a new key for a new request.",
        )
    if row.status is None:
        raise ConflictError(
            "The first request with this Idempotency-Key is still under way.",
            code="idempotency_in_progress",
            hint="Wait a moment and send it again.",
        )
    return Replay(row.status, row.reply)


def is_known(tx: Connection, tenant: str, key: str) -> bool:
    """Whether a request with that key was answered, or is about to be."""
    return tx.execute(select(T.key).where(T.tenant == tenant, T.key == key)).first() is not None


def finish(tx: Connection, tenant: str, key: str, status: int, body: dict[str, Any]) -> None:
    """Keep the reply (in the transaction that creates the thing, so that both exist or neither does)."""
    tx.execute(update(idempotency_keys).where(T.tenant == tenant, T.key == key).values(status=status, reply=body))


def forget(tx: Connection, tenant: str, key: str) -> None:
    """Give the key back after a failed request, so that it can be tried again."""
    tx.execute(delete(idempotency_keys).where(T.tenant == tenant, T.key == key, T.status.is_(None)))
