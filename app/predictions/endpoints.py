"""`POST /models/{id}/predict`."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from app.dependencies import ReadTenant, SettingsDep, StoreDep, known_query
from app.predictions import inputs, service
from app.predictions.bodies import BODY
from app.predictions.dependencies import PredictorDep, lifespan
from app.replies import errors
from core.contract.base import ModelId
from core.contract.models import PredictionReply

router = APIRouter(tags=["models"], lifespan=lifespan)


@router.post(
    "/models/{model_id}/predict",
    summary="Predict images, texts or rows",
    responses=errors(400, 404, 409, 413, 415),
    openapi_extra=BODY,
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
        Query(ge=1, description="How many classes to name for each item, most probable first; 5 unless told."),
    ] = None,
) -> PredictionReply:
    """Predict one or more items, of the kind that the model takes.

    Images: multipart files, one raw image, or JSON with base64. Texts: JSON, one raw text, or multipart files. Rows:
    JSON, CSV with a header, or JSON lines; columns that are left out count as missing values and are told in
    `warnings`. The answer has a `label` with its calibrated `probability`, or `labels`, or a `value` between `low` and
    `high`, as the model's problem asks. An item that cannot be read gets an `error` of its own; the others are
    answered.
    """
    model = await service.find(store, tenant, model_id)
    with predictor.admission() as ticket:
        asked = await inputs.read(
            request, predictor.counted(request.stream(), ticket), model.manifest.modality, settings
        )
        with predictor.measures.time("total"):
            return await service.predict(store, tenant, predictor, model=model, inputs=asked, top_k=top_k)
