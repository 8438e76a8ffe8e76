"""The process's predictor: made when the service starts, closed when it ends."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from prometheus_client import Histogram

from app.predictions.predictor import Predictor

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the predictor and its measurements for as long as the service runs."""
    registry = app.state.metrics.registry
    app.state.predict_seconds = Histogram(
        "graft_predict_seconds",
        "Time to decode, prepare and infer one request, after its body was read.",
        buckets=BUCKETS,
        registry=registry,
    )
    app.state.predictor = Predictor(app.state.settings)
    try:
        yield
    finally:
        app.state.predictor.close()
        registry.unregister(app.state.predict_seconds)


async def get_predictor(request: Request) -> Predictor:
    """The process's predictor."""
    predictor: Predictor = request.app.state.predictor
    return predictor


async def get_timer(request: Request) -> Histogram:
    """Where the time of predictions is noted."""
    timer: Histogram = request.app.state.predict_seconds
    return timer


PredictorDep = Annotated[Predictor, Depends(get_predictor)]
TimerDep = Annotated[Histogram, Depends(get_timer)]
