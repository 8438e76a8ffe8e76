"""The process's predictor: made when the service starts, closed when it ends."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Request

from app.predictions.predictor import Predictor


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the predictor and its measurements for as long as the service runs."""
    registry = app.state.metrics.registry
    predictor = app.state.predictor = Predictor(app.state.settings)
    predictor.measures.register(registry)
    try:
        yield
    finally:
        predictor.close()
        predictor.measures.unregister(registry)


async def get_predictor(request: Request) -> Predictor:
    """The process's predictor."""
    predictor: Predictor = request.app.state.predictor
    return predictor


PredictorDep = Annotated[Predictor, Depends(get_predictor)]
