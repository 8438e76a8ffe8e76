"""`/keys`, `/usage`, `/audit`."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response

from app.access import service
from app.access.gate import Gate
from app.access.schemas import AuditFilter, RotateRequest
from app.dependencies import AdminTenant, CallerDep, Paging, ReadTenant, SettingsDep, StoreDep
from app.replies import ListReply, errors
from core.contract.access import AuditEntry, Key, KeyRequest, NewKey, Usage
from core.contract.base import KeyId
from core.store import audit, keys, tenants

router = APIRouter(tags=["access"])


async def get_gate(request: Request) -> Gate:
    """The process's gate."""
    gate: Gate = request.app.state.gate
    return gate


GateDep = Annotated[Gate, Depends(get_gate)]


def _made(key: NewKey) -> Response:
    """The reply with a secret: nothing on the way may keep it."""
    body: dict[str, Any] = key.model_dump(mode="json")
    return JSONResponse(body, 201, {"Location": f"/keys/{key.id}", "Cache-Control": "no-store"})


@router.post(
    "/keys", status_code=201, response_model=NewKey, summary="Make an access key", responses=errors(400, 409, 413, 415)
)
def create_key(store: StoreDep, _tenant: AdminTenant, caller: CallerDep, wanted: KeyRequest) -> Response:
    """A key of your own tenant. The reply alone shows the secret: there is no way to see it again.

    There is no Idempotency-Key here: to give the same reply twice, the secret would have to be kept. From the first key
    on, every call needs a key.
    """
    return _made(service.create(store, caller, wanted))


@router.get("/keys", summary="List access keys")
def list_keys(store: StoreDep, tenant: AdminTenant, paging: Annotated[Paging, Query()]) -> ListReply[Key]:
    """Your tenant's keys, newest first, revoked ones too; never their secrets."""
    with store.db.read() as tx:
        return ListReply[Key].of(keys.page(tx, tenant, cursor=paging.cursor, limit=paging.limit))


@router.get("/keys/{key_id}", summary="Get an access key", responses=errors(404))
def get_key(store: StoreDep, tenant: AdminTenant, key_id: KeyId) -> Key:
    """One key: its scope, when it ends, when it was last used."""
    with store.db.read() as tx:
        return keys.get(tx, tenant, key_id)


@router.post(
    "/keys/{key_id}/rotate",
    status_code=201,
    response_model=NewKey,
    summary="Replace an access key",
    responses=errors(400, 404, 409, 413, 415),
)
def rotate_key(
    store: StoreDep, gate: GateDep, tenant: AdminTenant, key_id: KeyId, wanted: RotateRequest | None = None
) -> Response:
    """A new key with the same name, scope and lifetime. The old one ends at once, or after `grace_seconds`."""
    grace = wanted.grace_seconds if wanted else 0
    return _made(service.rotate(store, gate, tenant, key_id, grace))


@router.delete("/keys/{key_id}", status_code=204, summary="Revoke an access key", responses=errors(404))
def revoke_key(store: StoreDep, gate: GateDep, tenant: AdminTenant, key_id: KeyId) -> None:
    """The key lets nobody in any more, within 5 seconds everywhere. Revoking the last key leaves the door closed."""
    service.revoke(store, gate, tenant, key_id)


@router.get("/usage", summary="See what is used")
def get_usage(store: StoreDep, settings: SettingsDep, tenant: ReadTenant) -> Usage:
    """Bytes and jobs of your tenant, beside its quotas."""
    with store.db.read() as tx:
        return tenants.usage(tx, tenant, settings)


@router.get("/audit", summary="See who did what")
def list_audit(store: StoreDep, tenant: AdminTenant, wanted: Annotated[AuditFilter, Query()]) -> ListReply[AuditEntry]:
    """Every call in your tenant that changes something, or tried to, newest first."""
    with store.db.read() as tx:
        page = audit.page(
            tx, tenant, action=wanted.action, key_id=wanted.key_id, cursor=wanted.cursor, limit=wanted.limit
        )
    return ListReply[AuditEntry].of(page)
