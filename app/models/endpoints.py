"""`/models`: list, download as a whole or file by file, delete."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse, Response

from app.dependencies import IdempotencyKey, ReadTenant, StoreDep, WriteTenant, known_query
from app.models import publishing, service
from app.models.downloads import answer
from app.models.schemas import ModelFilter, PublishRequest
from app.negotiation import preferred
from app.predictions.dependencies import PredictorDep
from app.replies import ListReply, errors
from core.contract.base import ModelId
from core.contract.models import Model

ZIP, JSON = "application/zip", "application/json"
_BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_DOWNLOAD: dict[int | str, dict[str, Any]] = {
    206: {"description": "The part that `Range` asks for."},
    304: {"description": "`If-None-Match` names the file as it is."},
}

router = APIRouter(tags=["models"])


@router.get("/models", summary="List models")
def list_models(store: StoreDep, tenant: ReadTenant, wanted: Annotated[ModelFilter, Query()]) -> ListReply[Model]:
    """Your models, newest first."""
    found = service.page(store, tenant, published=wanted.published, cursor=wanted.cursor, limit=wanted.limit)
    return ListReply[Model].of(found)


@router.head("/models/{model_id}", include_in_schema=False)
@router.get(
    "/models/{model_id}",
    summary="Download a model",
    response_model=Model,
    responses={200: {"description": "The bundle, or what is known of the model.", "content": {ZIP: _BINARY}}}
    | _DOWNLOAD
    | errors(404, 416),
)
def download_model(model_id: ModelId, request: Request, store: StoreDep, tenant: ReadTenant) -> Response:
    """The model's bundle as a zip; with `Accept: application/json` what is known of the model.

    The bundle's `ETag` is its SHA-256; `Range` and `If-Range` resume a download.
    """
    model = service.get(store, tenant, model_id)
    if preferred(request.headers.get("accept"), (ZIP, JSON)) == JSON:
        return JSONResponse(model.model_dump(mode="json"), headers={"Vary": "Accept"})
    headers = {"Vary": "Accept", "Content-Disposition": f'attachment; filename="{model.id}.zip"'}
    return answer(request, service.bundle(store, tenant, model), headers, ZIP)


@router.head("/models/{model_id}/files/{name:path}", include_in_schema=False)
@router.get(
    "/models/{model_id}/files/{name:path}",
    summary="Download one file of a model",
    response_class=Response,
    responses={200: {"description": "The file.", "content": {"application/octet-stream": _BINARY}}}
    | _DOWNLOAD
    | errors(404, 416),
)
def download_file(
    model_id: ModelId,
    name: Annotated[str, Path(description="A name out of the model's `files`.")],
    request: Request,
    store: StoreDep,
    tenant: ReadTenant,
) -> Response:
    """One file of the bundle, e.g. `model.onnx`. Its `ETag` is its SHA-256; `Range` and `If-Range` work."""
    model = service.get(store, tenant, model_id)
    return answer(request, service.member(store, tenant, model, name), {}, service.media_type(name))


@router.delete("/models/{model_id}", status_code=204, summary="Delete a model", responses=errors(404, 409))
def delete_model(model_id: ModelId, store: StoreDep, tenant: WriteTenant, predictor: PredictorDep) -> None:
    """Delete the model and its files; 409 `model_in_use` while a job starts from it, `model_published` while it is."""
    predictor.forget(service.remove(store, tenant, model_id))


@router.post(
    "/models/{model_id}/publish",
    summary="Publish a model",
    response_model=Model,
    responses=errors(400, 404, 409, 413, 415),
    dependencies=[Depends(known_query)],
)
def publish_model(
    model_id: ModelId,
    store: StoreDep,
    tenant: WriteTenant,
    asked: PublishRequest | None = None,
    key: IdempotencyKey = None,
) -> Response:
    """Say that the model may be used: it is listed with `published=true` and cannot be deleted until it is withdrawn.

    409 `model_harmful` for a model whose verdict is `harmful`, unless `override` says why; the text stays with it. A
    model that is published already stays as it is.
    """
    override = None if asked is None else asked.override
    return publishing.publish(store, tenant, model_id, override, key=key).reply("models", 200)


@router.delete(
    "/models/{model_id}/publish", status_code=204, summary="Withdraw a published model", responses=errors(404)
)
def withdraw_model(model_id: ModelId, store: StoreDep, tenant: WriteTenant) -> None:
    """Take the publication back, if there is one; the model stays."""
    publishing.withdraw(store, tenant, model_id)
