"""`/models/{id}/classes`."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import Response

from app.classes.bodies import BODY, read
from app.classes.service import Classes, check_few_shot
from app.dependencies import IdempotencyKey, SettingsDep, StoreDep, WriteTenant, known_query
from app.predictions import service as predictions
from app.predictions.dependencies import PredictorDep
from app.replies import errors
from core.contract.base import ModelId
from core.contract.models import Model

router = APIRouter(tags=["models"])


@router.post(
    "/models/{model_id}/classes",
    status_code=201,
    response_model=Model,
    summary="Add a class from a few items",
    responses=errors(400, 404, 409, 413, 415, 507),
    openapi_extra=BODY,
    dependencies=[Depends(known_query)],
)
async def add_class(
    model_id: ModelId,
    request: Request,
    *,
    store: StoreDep,
    settings: SettingsDep,
    tenant: WriteTenant,
    predictor: PredictorDep,
    key: IdempotencyKey = None,
) -> Response:
    """Make a new model that knows one more class, from a few items of it and without training; the old one stays.

    For few-shot models (`manifest.few_shot`); 409 `model_has_no_few_shot_head` for others. The items come as for a
    prediction: as JSON, or as files of a form with the class's `name`. One that cannot be read is a 422 that names it,
    and nothing is added.
    """
    model = await predictions.find(store, tenant, model_id)
    check_few_shot(model)
    with predictor.admission() as ticket:
        new = await read(request, predictor.counted(request.stream(), ticket), model.manifest.modality, settings)
        classes = Classes(store, settings, tenant, predictor, model, key)
        return (await predictor.alone(partial(classes.add, new))).reply("models")


@router.delete(
    "/models/{model_id}/classes/{name:path}",
    status_code=201,
    response_model=Model,
    summary="Take a class away",
    responses=errors(404, 409, 507),
    dependencies=[Depends(known_query)],
)
async def remove_class(
    model_id: ModelId,
    name: Annotated[str, Path(description="One of the model's `classes`; it may hold `/`.")],
    *,
    store: StoreDep,
    settings: SettingsDep,
    tenant: WriteTenant,
    predictor: PredictorDep,
    key: IdempotencyKey = None,
) -> Response:
    """Make a new model that knows this class no more, without training; the old one stays.

    409 `model_has_no_few_shot_head` for a model that is no few-shot model, `too_few_classes` where fewer than two would
    remain.
    """
    model = await predictions.find(store, tenant, model_id)
    check_few_shot(model)
    classes = Classes(store, settings, tenant, predictor, model, key)
    return (await predictor.alone(partial(classes.remove, name))).reply("models")
