"""Finds the model, checks its bytes once, and lets the predictor answer."""

import os
from functools import partial

from anyio import to_thread

from app.models import service as models
from app.models.blobs import CorruptBlobError, check
from app.predictions.answers import DEFAULT_TOP
from app.predictions.items import Inputs
from app.predictions.predictor import Predictor
from app.predictions.sessions import Parts
from core.contract.errors import ConflictError
from core.contract.models import Model, PredictionReply
from core.store.store import Store


async def find(store: Store, tenant: str, model_id: str) -> Model:
    """The model; `NotFoundError`."""
    return await to_thread.run_sync(models.get, store, tenant, model_id)


async def predict(
    store: Store, tenant: str, predictor: Predictor, *, model: Model, inputs: Inputs, top_k: int | None
) -> PredictionReply:
    """Answer every item; `CorruptBlobError` if the model's own bytes are damaged, `ConflictError` if it has no head."""
    if not model.classes and model.manifest.problem != "regression":
        raise ConflictError(
            f"Model {model.id} has no classifier: it was imported as a base model.",
            code="model_has_no_head",
            hint=f'Get one on your own classes: POST /jobs with "base_model": "{model.id}".',
        )
    load = partial(parts, store, tenant, model)
    wanted = inputs.top_k or top_k or DEFAULT_TOP
    return PredictionReply(model=model.id, predictions=await predictor.predict(model, load, inputs, wanted))


def parts(store: Store, tenant: str, model: Model) -> Parts:
    """What the model's session is made of; `CorruptBlobError`."""
    tokenizer = member(store, tenant, model, "tokenizer.json") if model.manifest.modality == "text" else None
    return Parts(member(store, tenant, model, _graph_file(model)), model.manifest.prepare, tokenizer)


def member(store: Store, tenant: str, model: Model, name: str) -> bytes:
    """A file of the bundle, read at its place and checked."""
    if name not in {file.name for file in model.files}:
        raise CorruptBlobError(f"Model {model.id}", f"its bundle holds no {name}")
    stretch = models.member(store, tenant, model, name)
    with stretch.file:
        data = os.pread(stretch.file.fileno(), stretch.size, stretch.offset)
    check(data, stretch.sha256, f"{name} of model {model.id}")
    return data


def _graph_file(model: Model) -> str:
    for file in model.files:
        if file.name.endswith(".onnx"):
            return file.name
    raise CorruptBlobError(f"Model {model.id}", "its bundle holds no ONNX graph")
