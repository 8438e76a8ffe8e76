"""`/`, `/healthz`, `/readyz`, `/metrics`."""

from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from app.dependencies import SettingsDep, StoreDep
from app.health.checks import Readiness, readiness
from core.contract.base import Record

router = APIRouter(tags=["service"])

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
def readyz(store: StoreDep, settings: SettingsDep) -> Response:
    """Database, broker, blobs, and a live worker for each queue."""
    found = readiness(store, settings)
    ready = found.status == "ready"
    return JSONResponse(found.model_dump(), 200 if ready else 503, None if ready else {"Retry-After": "2"})


@router.get("/metrics", operation_id="get_metrics", summary="Measurements", response_class=Response, responses=_METRICS)
def metrics(request: Request) -> Response:
    """Requests, times and queue depths, for Prometheus."""
    return Response(request.app.state.metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})
