"""What is written down of a request that may change something: who, what, to what, with which result."""

from typing import Any

import structlog
from fastapi.routing import APIRoute
from starlette.types import Scope

from app.access.origins import SAFE_METHODS, address
from core.contract.access import AuditEntry, Caller
from core.contract.base import new_id, now
from core.store import audit
from core.store.store import Store

log = structlog.get_logger(__name__)


def action(scope: Scope) -> str | None:
    """The operation to write down; None for one that changes nothing, or was not found.

    Predictions change nothing, and the pieces of an upload would bury everything else.
    """
    route: Any = scope.get("route")
    method = scope["method"]
    if method in SAFE_METHODS or not isinstance(route, APIRoute) or method not in (route.methods or ()):
        return None
    if route.path.endswith("/predict") or (method == "PATCH" and route.path.startswith("/uploads")):
        return None
    return route.operation_id or route.unique_id


def entry(scope: Scope, action: str, status: int, location: str | None) -> AuditEntry:
    """The entry for a request that is being answered; `location` is where a new thing stands."""
    caller: Caller = scope["state"]["caller"]
    return AuditEntry(
        id=new_id("aud"),
        at=now(),
        key_id=caller.key_id,
        action=action[:64],
        target=_target(scope, location if 200 <= status < 300 else None),
        status=status,
        request_id=scope["state"].get("request_id"),
        address=_plain(address(scope)),
    )


def write(store: Store, tenant: str, done: AuditEntry) -> None:
    """Write it down. What was done is done: where that cannot be written, it stands in the log as an error."""
    try:
        with store.db.write() as tx:
            audit.add(tx, tenant, done)
    except Exception as error:  # whatever it is, it must not undo the reply
        said = done.model_dump(mode="json", exclude={"details", "request_id"})
        log.error("audit_not_written", error=type(error).__name__, tenant=tenant, **said)  # noqa: TRY400


def _target(scope: Scope, location: str | None) -> str | None:
    if location is not None:
        return _plain(location.rstrip("/").rpartition("/")[2])
    values = scope.get("path_params", {}).values()
    return _plain(str(next(iter(values)))) if values else None


def _plain(text: str | None) -> str | None:
    """Text from outside as the log takes it: printable ASCII, at most 64 characters."""
    if text is None:
        return None
    return "".join(letter for letter in text[:64] if letter.isascii() and letter.isprintable()) or None
