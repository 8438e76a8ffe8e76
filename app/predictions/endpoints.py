"""`POST /models/{id}/predict`."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from app.dependencies import ReadTenant, SettingsDep, StoreDep, known_query
from app.predictions import inputs, service
from app.predictions.dependencies import PredictorDep, lifespan
from app.replies import errors
from core.contract.base import ModelId
from core.contract.models import ImageItem, PredictionReply

router = APIRouter(tags=["models"], lifespan=lifespan)


def _json_schema() -> dict[str, Any]:
    schema = inputs.PredictRequest.model_json_schema()
    schema.pop("$defs")
    schema["properties"]["items"]["items"] = ImageItem.model_json_schema()
    return schema


_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {
                        "files": {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}},
                        "top_k": {"type": "integer", "minimum": 1, "maximum": 999_999_999},
                    },
                    "additionalProperties": False,
                }
            },
            "image/*": {"schema": {"type": "string", "format": "binary", "minLength": 1}},
            "application/json": {"schema": _json_schema()},
        },
    }
}


@router.post(
    "/models/{model_id}/predict",
    summary="Classify images",
    responses=errors(400, 404, 409, 413, 415),
    openapi_extra=_BODY,
    dependencies=[Depends(known_query)],
)
async def predict(
    model_id: ModelId,
    request: Request,
    *,
    store: StoreDep,
    settings: SettingsDep,
    tenant: ReadTenant,
    predictor: PredictorDep,
    top_k: Annotated[
        int | None,
        Query(ge=1, description="How many classes to name for each image, most probable first; 5 unless told."),
    ] = None,
) -> PredictionReply:
    """Classify one or more images: multipart files, one raw image, or JSON with base64.

    Probabilities are calibrated. An image that cannot be read gets an `error` of its own; the others are answered.
    """
    model = await service.find(store, tenant, model_id)
    with predictor.admission() as ticket:
        asked = await inputs.read(request, predictor.counted(request.stream(), ticket), settings)
        with predictor.measures.time("total"):
            return await service.predict(store, tenant, predictor, model=model, inputs=asked, top_k=top_k)
