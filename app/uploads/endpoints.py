"""`/uploads`: tus 1.0, and the same uploads as JSON."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from pydantic import Field

from app.dependencies import IdempotencyKey, Paging, ReadTenant, SettingsDep, StoreDep, WriteTenant
from app.limits import content_length
from app.replies import ListReply, errors
from app.uploads import headers
from app.uploads.service import Uploads
from app.wakeup import WakeupDep
from core.contract.base import UploadId
from core.contract.errors import UnsupportedMediaTypeError
from core.contract.uploads import Upload, UploadState
from core.store import uploads

router = APIRouter(prefix="/uploads", tags=["uploads"], route_class=headers.TusRoute)

_VERSION = "`1.0.0`, the version of tus that is spoken."
Version = Annotated[str | None, Header(alias="Tus-Resumable", description=_VERSION, examples=[headers.VERSION])]
_BODY: dict[str, Any] = {
    "requestBody": {"content": {headers.CHUNK: {"schema": {"type": "string", "format": "binary"}}}, "required": False}
}


class UploadFilter(Paging):
    """Parameters of `GET /uploads`."""

    state: UploadState | None = Field(default=None, description="Only uploads in this state.")


def _uploads(
    request: Request, store: StoreDep, settings: SettingsDep, tenant: WriteTenant, wakeup: WakeupDep
) -> Uploads:
    return Uploads(store, settings, tenant, lambda: wakeup.send("ingest"), request.state.request_id)


UploadsDep = Annotated[Uploads, Depends(_uploads)]


@router.options("", status_code=204, operation_id="describe_uploads", summary="Ask what the service can do of tus")
def describe(settings: SettingsDep) -> Response:
    """Version, extensions, the largest size and the checksums, as headers."""
    return Response(status_code=204, headers={**headers.CAPABILITIES, "Tus-Max-Size": str(settings.max_upload_bytes)})


@router.post(
    "",
    status_code=201,
    response_model=Upload,
    operation_id="create_upload",
    summary="Begin a resumable upload",
    dependencies=[Depends(headers.spoken)],
    openapi_extra=_BODY,
    responses=errors(400, 408, 412, 413, 415, 423, 460, 507),
)
async def create(
    *,
    request: Request,
    service: UploadsDep,
    _version: Version = None,
    _length: Annotated[
        str | None, Header(alias="Upload-Length", description="Size of the whole file in bytes.")
    ] = None,
    said: Annotated[
        str | None,
        Header(
            alias="Upload-Metadata",
            description="`key base64(value)`, …; keys: filename, name, seed, metadata (JSON text), sha256, "
            "modality, problem, target, text, split.",
        ),
    ] = None,
    key: IdempotencyKey = None,
) -> Response:
    """Creation of tus 1.0, with or without the first bytes as the body; `Location` is where to go on."""
    with_body = _has_body(request)
    if with_body:
        _check_type(request)
    size, checksum = headers.number(request, "Upload-Length"), headers.checksum(request)
    made = await run_in_threadpool(service.begin, size, said, headers.metadata(said), key)
    upload = Upload.model_validate(made.body)
    if with_body and not made.replayed:
        upload = await service.take(upload.id, 0, request.stream(), checksum, content_length(request.scope))
        made = type(made)(upload.model_dump(mode="json"))
    elif made.replayed:
        upload = (await run_in_threadpool(service.find, upload.id)).upload
    reply = made.reply("uploads")
    reply.headers.update(headers.progress(upload))
    return reply


@router.get("", operation_id="list_uploads", summary="List uploads")
def list_all(store: StoreDep, tenant: ReadTenant, wanted: Annotated[UploadFilter, Query()]) -> ListReply[Upload]:
    """Your resumable uploads, newest first, as long as they have not expired."""
    with store.db.read() as tx:
        page = uploads.page(tx, tenant, state=wanted.state, cursor=wanted.cursor, limit=wanted.limit)
    return ListReply.of(page)


@router.get("/{upload_id}", operation_id="get_upload", summary="Get an upload", responses=errors(404, 410))
def get(service: UploadsDep, upload_id: UploadId) -> Upload:
    """One upload: how far it has come, the data set it has become, or why it failed."""
    return service.settled(upload_id).upload


@router.head(
    "/{upload_id}",
    operation_id="get_upload_offset",
    summary="Ask how far an upload has come",
    dependencies=[Depends(headers.spoken)],
    response_class=Response,
    responses=errors(404, 410, 412),
)
def offset(service: UploadsDep, upload_id: UploadId, _version: Version = None) -> Response:
    """`Upload-Offset` counts the bytes that are safe; go on from there."""
    return Response(headers=headers.of(service.settled(upload_id)))


@router.patch(
    "/{upload_id}",
    status_code=204,
    operation_id="append_upload",
    summary="Send the next bytes of an upload",
    dependencies=[Depends(headers.spoken)],
    openapi_extra=_BODY,
    responses=errors(400, 404, 408, 409, 410, 412, 413, 415, 423, 460, 507),
)
async def append(
    *,
    request: Request,
    service: UploadsDep,
    upload_id: UploadId,
    _version: Version = None,
    _start: Annotated[
        str | None, Header(alias="Upload-Offset", description="Where the body's first byte belongs.")
    ] = None,
    _checksum: Annotated[
        str | None, Header(alias="Upload-Checksum", description="`sha1` or `sha256`, a space, the digest in base64.")
    ] = None,
) -> Response:
    """The last byte makes the upload a data set; the reply's header `Graft-Dataset` names it."""
    _check_type(request)
    begin, checksum = headers.number(request, "Upload-Offset"), headers.checksum(request)
    upload = await service.take(upload_id, begin, request.stream(), checksum, content_length(request.scope))
    return Response(status_code=204, headers=headers.progress(upload))


@router.delete(
    "/{upload_id}",
    status_code=204,
    operation_id="delete_upload",
    summary="Give up an upload",
    dependencies=[Depends(headers.spoken)],
    responses=errors(404, 410, 412),
)
def delete(service: UploadsDep, upload_id: UploadId, _version: Version = None) -> None:
    """What it has received is removed; a data set that it has become stays."""
    service.end(upload_id)


def _has_body(request: Request) -> bool:
    return content_length(request.scope) not in (None, 0) or "transfer-encoding" in request.headers


def _check_type(request: Request) -> None:
    media = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media != headers.CHUNK:
        raise UnsupportedMediaTypeError(
            f"The bytes of an upload cannot have the Content-Type {media[:100] or 'none'}.",
            param="Content-Type",
            hint=f"Send the header `Content-Type: {headers.CHUNK}`.",
        )
