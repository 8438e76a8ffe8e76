"""`/datasets`."""

from typing import Annotated, Any, get_args

from fastapi import APIRouter, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from app.datasets import service
from app.datasets.schemas import DatasetFilter, Sample, SampleFilter, ThumbnailSize, UploadFields, upload_fields
from app.datasets.service import Uploaded
from app.datasets.uploads import FORM, RAW, announced, receive
from app.dependencies import IdempotencyKey, ReadTenant, SettingsDep, StoreDep, WriteTenant
from app.replies import ListReply, errors
from app.wakeup import WakeupDep
from core.contract.base import DatasetId
from core.contract.datasets import Dataset, DatasetReport, Modality, Problem
from core.store import datasets

router = APIRouter(prefix="/datasets", tags=["data sets"])

_BINARY = {"schema": {"type": "string", "format": "binary", "minLength": 1}}
_COLUMN = {"type": "string", "minLength": 1, "maxLength": 256, "description": "Name of a table's column."}
_SAMPLE = {
    "image/jpeg": _BINARY,
    "text/plain": {"schema": {"type": "string"}},
    service.JSON: {"schema": {"type": "object"}},
}
_FORM: dict[str, Any] = {
    "schema": {
        "type": "object",
        "required": ["file"],
        "additionalProperties": False,
        "properties": {
            "file": {"type": "string", "format": "binary", "minLength": 1, "description": "A zip, tar or table."},
            "name": {"type": "string", "minLength": 1, "maxLength": 256},
            "seed": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1, "default": 0},
            "metadata": {"type": "string", "description": 'JSON text: {"team": "vision"}.'},
            "modality": {"type": "string", "enum": list(get_args(Modality))},
            "problem": {"type": "string", "enum": list(get_args(Problem))},
            **dict.fromkeys(("target", "text", "split"), _COLUMN),
        },
    }
}
_UPLOAD = {"requestBody": {"required": True, "content": {FORM: _FORM, **dict.fromkeys(RAW, _BINARY)}}}


@router.post(
    "",
    status_code=201,
    response_model=Dataset,
    operation_id="create_dataset",
    summary="Upload a data set",
    openapi_extra=_UPLOAD,
    responses=errors(400, 413, 415, 507),
)
async def create(
    *,
    request: Request,
    query: Annotated[UploadFields, Query()],
    store: StoreDep,
    settings: SettingsDep,
    tenant: WriteTenant,
    wakeup: WakeupDep,
    key: IdempotencyKey = None,
) -> Response:
    """Send a zip or tar of images in class folders, or a table of texts or rows (CSV, JSON lines, Parquet), as a form
    or as the body itself; it is checked in the background."""
    if (size := announced(request)) is not None:
        await run_in_threadpool(service.expect, store, settings, tenant, key, size)
    with store.blobs.writing() as blob:
        parts = await receive(request, store.blobs, blob, settings.max_upload_bytes)
        fields = upload_fields(query, parts.fields)
        sha256 = await run_in_threadpool(blob.finish)
        file = Uploaded(blob.path, sha256, blob.size, parts.filename)
        created = await run_in_threadpool(
            service.create,
            store,
            settings,
            tenant,
            file,
            fields=fields,
            key=key,
            request_id=request.state.request_id,
        )
    wakeup.send("ingest")
    return created.reply("datasets")


@router.get("", operation_id="list_datasets", summary="List data sets")
def list_all(store: StoreDep, tenant: ReadTenant, wanted: Annotated[DatasetFilter, Query()]) -> ListReply[Dataset]:
    """Your data sets, newest first."""
    with store.db.read() as tx:
        page = datasets.page(tx, tenant, state=wanted.state, cursor=wanted.cursor, limit=wanted.limit)
    return ListReply.of(page)


@router.get("/{dataset_id}", operation_id="get_dataset", summary="Get a data set", responses=errors(404))
def get(store: StoreDep, tenant: ReadTenant, dataset_id: DatasetId) -> Dataset:
    """One data set: its state, classes, sizes."""
    with store.db.read() as tx:
        return datasets.get(tx, tenant, dataset_id)


@router.get(
    "/{dataset_id}/report",
    operation_id="get_dataset_report",
    summary="Get what the check of a data set found",
    responses=errors(404, 409),
)
def report(store: StoreDep, tenant: ReadTenant, dataset_id: DatasetId) -> DatasetReport:
    """Every fault at once, with its remedy; classes, splits and sizes."""
    return service.report(store, tenant, dataset_id)


@router.get(
    "/{dataset_id}/samples", operation_id="list_samples", summary="List items of a data set", responses=errors(404, 409)
)
def samples(
    store: StoreDep, tenant: ReadTenant, dataset_id: DatasetId, wanted: Annotated[SampleFilter, Query()]
) -> ListReply[Sample]:
    """Items in the data set's own order: texts and rows as they are, and where to get a small picture of an image."""
    return ListReply.of(service.samples(store, tenant, dataset_id, wanted))


@router.get(
    "/{dataset_id}/samples/{index}",
    operation_id="get_sample",
    summary="Look at an item",
    response_class=Response,
    responses={200: {"content": _SAMPLE, "description": "The picture, text or row."}, **errors(404, 409)},
)
def sample(
    store: StoreDep,
    tenant: ReadTenant,
    dataset_id: DatasetId,
    index: Annotated[int, Path(ge=0, lt=2**31)],
    wanted: Annotated[ThumbnailSize, Query()],
) -> Response:
    """An image as a JPEG, shrunk to `size` pixels on its longest side; a text as it is; a row as JSON."""
    data, media = service.sample(store, tenant, dataset_id, index, wanted.size)
    return Response(data, media_type=media, headers={"Cache-Control": "private, max-age=86400, immutable"})


@router.delete(
    "/{dataset_id}",
    status_code=204,
    operation_id="delete_dataset",
    summary="Delete a data set",
    responses=errors(404, 409),
)
def delete(store: StoreDep, tenant: WriteTenant, dataset_id: DatasetId) -> None:
    """The data set and, where nothing else needs them, its files."""
    service.delete(store, tenant, dataset_id)
