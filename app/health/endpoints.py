"""`/`, `/healthz`, `/readyz`, `/metrics`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from app.dependencies import ReadTenant
from app.health.checks import Checks, Readiness
from core.contract.base import Record


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Threads of our own: requests that keep all others busy must not keep these replies from being made."""
    app.state.checks = Checks(app.state.store, app.state.settings)
    app.state.health_threads = CapacityLimiter(4)
    yield


router = APIRouter(tags=["service"], lifespan=lifespan)

_METRICS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus' text format."}
}


class Service(Record):
    """Reply of `/`."""

    name: Literal["graft"] = "graft"
    version: str
    description: str
    links: dict[str, str]


class Health(Record):
    """Reply of `/healthz`."""

    status: Literal["ok"] = "ok"


@router.get("/", operation_id="get_service", summary="What this is")
async def root(request: Request) -> Service:
    """Name, version, and where everything is."""
    nouns = ("datasets", "jobs", "models", "methods", "base-models", "docs", "openapi.json", "readyz", "metrics")
    links = {noun.removesuffix(".json").replace("-", "_"): f"/{noun}" for noun in nouns}
    return Service(version=request.app.version, description=request.app.description, links=links)


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", operation_id="get_health", summary="Is the process alive?")
async def healthz() -> Health:
    """Always `ok` from a process that answers; looks at nothing else."""
    return Health()


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    response_model=Readiness,
    operation_id="get_readiness",
    summary="Can the service do its work?",
    responses={503: {"model": Readiness, "description": "Something is missing; `checks` names it."}},
)
async def readyz(request: Request) -> Response:
    """Database and its schema, broker, blobs, and a live worker for each queue; answers within seconds in any case."""
    state = request.app.state
    found: Readiness = await to_thread.run_sync(state.checks.readiness, limiter=state.health_threads)
    ready = found.status == "ready"
    return JSONResponse(found.model_dump(), 200 if ready else 503, None if ready else {"Retry-After": "2"})


@router.get("/metrics", operation_id="get_metrics", summary="Measurements", response_class=Response, responses=_METRICS)
async def metrics(request: Request, _tenant: ReadTenant) -> Response:
    """Requests, queues, jobs, steps, predictions, workers and disk, for Prometheus."""
    state = request.app.state
    text = await to_thread.run_sync(state.metrics.text, limiter=state.health_threads)
    return Response(text, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})
