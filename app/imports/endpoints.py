"""`POST /models` and `/imports`."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from app.datasets.service import Uploaded
from app.datasets.uploads import FORM, receive
from app.dependencies import IdempotencyKey, ReadTenant, SettingsDep, StoreDep, WriteTenant
from app.imports import service
from app.imports.schemas import FIELDS, ImportFields, ImportFilter, import_fields
from app.replies import ListReply, errors
from app.wakeup import WakeupDep
from core.contract.base import ImportId
from core.contract.imports import Import
from core.store import imports

router = APIRouter(tags=["models"])

_BINARY = {"schema": {"type": "string", "format": "binary", "minLength": 1}}
_FORM: dict[str, Any] = {
    "schema": {
        "type": "object",
        "required": ["file"],
        "additionalProperties": False,
        "properties": {
            "file": {"type": "string", "format": "binary", "minLength": 1, "description": "A bundle or safetensors."},
            "name": {"type": "string", "minLength": 1, "maxLength": 256},
            "base_model": {"type": "string", "minLength": 1, "maxLength": 128},
            "classes": {"type": "string", "description": 'JSON text: ["cat", "dog"].'},
            "metadata": {"type": "string", "description": 'JSON text: {"team": "vision"}.'},
        },
    }
}
_RAW = ("application/zip", "application/octet-stream")
_UPLOAD = {"requestBody": {"required": True, "content": {FORM: _FORM, **dict.fromkeys(_RAW, _BINARY)}}}


@router.post(
    "/models",
    status_code=202,
    response_model=Import,
    operation_id="import_model",
    summary="Import a model",
    openapi_extra=_UPLOAD,
    responses=errors(400, 413, 415, 507),
)
async def create(
    *,
    request: Request,
    query: Annotated[ImportFields, Query()],
    store: StoreDep,
    settings: SettingsDep,
    tenant: WriteTenant,
    wakeup: WakeupDep,
    key: IdempotencyKey = None,
) -> Response:
    """Send the bundle of another Graft, or one safetensors file with the state dict of `base_model`.

    Names, shapes and values are checked in the background; the network is then exported anew and compared with PyTorch.
    """
    with store.blobs.writing() as blob:
        parts = await receive(request, store.blobs, blob, settings.max_upload_bytes, FIELDS)
        fields = import_fields(query, parts.fields)
        sha256 = await run_in_threadpool(blob.finish)
        file = Uploaded(blob.path, sha256, blob.size, parts.filename)
        create = partial(service.create, file=file, fields=fields, key=key, request_id=request.state.request_id)
        created = await run_in_threadpool(create, store, settings, tenant)
    wakeup.send("jobs")
    return created.reply("imports", 202)


@router.get("/imports", operation_id="list_imports", summary="List imports")
def list_all(store: StoreDep, tenant: ReadTenant, wanted: Annotated[ImportFilter, Query()]) -> ListReply[Import]:
    """Your imports, newest first."""
    with store.db.read() as tx:
        return ListReply.of(imports.page(tx, tenant, state=wanted.state, cursor=wanted.cursor, limit=wanted.limit))


@router.get("/imports/{import_id}", operation_id="get_import", summary="Get an import", responses=errors(404))
def get(store: StoreDep, tenant: ReadTenant, import_id: ImportId) -> Import:
    """One import: under way, the id of the model it has become, or why it was refused."""
    with store.db.read() as tx:
        return imports.get(tx, tenant, import_id)


@router.delete(
    "/imports/{import_id}",
    status_code=204,
    operation_id="delete_import",
    summary="Delete an import",
    responses=errors(404),
)
def delete(store: StoreDep, tenant: WriteTenant, import_id: ImportId) -> None:
    """Delete the entry; an import still under way is cancelled. A model that it has become stays."""
    service.delete(store, tenant, import_id)
