"""The application: `uvicorn app.main:app`, or `create_app` with settings of one's own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from fastapi_offline import FastAPIOffline

from app import errors
from app.access.endpoints import router as access_router
from app.access.gate import Gate
from app.access.middleware import Access
from app.catalogue.endpoints import router as catalogue_router
from app.classes.endpoints import router as classes_router
from app.datasets.endpoints import router as datasets_router
from app.health.endpoints import router as health_router
from app.health.metrics import Metrics
from app.imports.endpoints import router as imports_router
from app.jobs.endpoints import router as jobs_router
from app.jobs.tailer import Tailer
from app.limits import BodyLimit
from app.models.endpoints import router as models_router
from app.openapi import Description, operation_id
from app.predictions.endpoints import router as predictions_router
from app.replies import errors as error_replies
from app.reports.endpoints import router as reports_router
from app.requests import RequestFrame
from app.signals import before_exit
from app.uploads.endpoints import router as uploads_router
from app.wakeup import Wakeup
from app.webhooks.endpoints import router as webhooks_router
from core import logs, tracing
from core.settings import Settings
from core.store.store import Store

DESCRIPTION = "Adapts pretrained models to your own data: upload a data set, launch a job, call the model it made."
ROUTERS = (
    health_router,
    datasets_router,
    jobs_router,
    reports_router,
    models_router,
    predictions_router,
    classes_router,
    catalogue_router,
    uploads_router,
    imports_router,
    webhooks_router,
    access_router,
)
# Newer FastAPI makes spans of its own, with the texts of exceptions in them; older ones take no notice of this.
OWN_TRACES_ONLY = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


def service_version() -> str:
    """Version of the installed package."""
    try:
        return version("graft-server")
    except PackageNotFoundError:
        return "0+unknown"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open what the process shares, and close it in reverse order."""
    settings: Settings = app.state.settings
    tracing.start("graft-api", settings)
    store = Store.open(settings)
    app.state.store = store
    app.state.wakeup = Wakeup(settings.resolved_broker_url)
    app.state.tailer = Tailer(store)
    app.state.metrics.watch(store, app.state.tailer, settings)
    await app.state.gate.warn_if_exposed(settings)
    app.state.wakeup.start()
    app.state.tailer.start()
    try:
        with before_exit(app.state.tailer.hang_up):
            yield
    finally:
        await app.state.tailer.close()
        app.state.wakeup.close()
        app.state.gate.close()
        store.close()
        await run_in_threadpool(tracing.stop)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the application; nothing is opened before it starts."""
    settings = settings or Settings()
    app: FastAPI = FastAPIOffline(
        redoc_url=None,
        title="Graft",
        description=DESCRIPTION,
        version=service_version(),
        lifespan=lifespan,
        redirect_slashes=False,
        responses=error_replies(401, 403, 422, 429, 500, 503),
        generate_unique_id_function=operation_id,
        telemetry=OWN_TRACES_ONLY,
    )
    app.state.settings = settings
    app.state.metrics = Metrics()
    app.state.gate = Gate(lambda: app.state.store)
    errors.install(app)
    for router in ROUTERS:
        app.include_router(router)
    app.openapi = Description(app)  # type: ignore[method-assign]
    app.add_middleware(BodyLimit, settings=settings)
    app.add_middleware(Access, settings=settings, gate=app.state.gate)
    app.add_middleware(RequestFrame, metrics=app.state.metrics)
    return app


def __getattr__(name: str) -> Any:
    """Build `app` when a server asks for it, so that importing `create_app` alone reads and configures nothing."""
    if name != "app":
        raise AttributeError(name)
    logs.configure("api")
    return globals().setdefault("app", create_app())
