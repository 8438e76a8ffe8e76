"""Decisions on keys."""

from datetime import timedelta

from app.access.gate import Gate
from core.contract.access import Caller, KeyRequest, NewKey
from core.contract.errors import ConflictError
from core.store import keys
from core.store.store import Store


def create(store: Store, caller: Caller, wanted: KeyRequest) -> NewKey:
    """Make a key of the caller's own tenant; the very first one has to be an admin's."""
    lifetime = None if wanted.expires_in_days is None else timedelta(days=wanted.expires_in_days)
    with store.db.write() as tx:
        if caller.key_id is None and wanted.scope != "admin":
            raise ConflictError(
                "The first key closes the door: without the scope `admin` nobody here could make another one.",
                code="first_key_must_be_admin",
                param="scope",
                hint='Send {"name": "admin", "scope": "admin"} first.',
            )
        return keys.add(tx, caller.tenant, wanted.name, wanted.scope, lifetime=lifetime)


def rotate(store: Store, gate: Gate, tenant: str, key_id: str, grace_seconds: int) -> NewKey:
    """A new secret; the old one ends after the grace."""
    with store.db.write() as tx:
        made = keys.rotate(tx, tenant, key_id, grace=timedelta(seconds=grace_seconds))
    gate.forget(key_id)
    return made


def revoke(store: Store, gate: Gate, tenant: str, key_id: str) -> None:
    """End a key: at once in this process, within seconds in others."""
    with store.db.write() as tx:
        keys.revoke(tx, tenant, key_id)
    gate.forget(key_id)
