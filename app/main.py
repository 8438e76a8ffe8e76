"""The application: `uvicorn app.main:app`, or `create_app` with settings of one's own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from app import errors, logs
from app.health.metrics import Metrics
from app.limits import BodyLimit
from app.replies import errors as error_replies
from app.requests import RequestFrame
from core.settings import Settings
from core.store.store import Store

DESCRIPTION = "Adapts pretrained models to your own data: upload a data set, launch a job, call the model it made."


def service_version() -> str:
    """Version of the installed package."""
    try:
        return version("graft-server")
    except PackageNotFoundError:
        return "0+unknown"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open what the process shares, and close it in reverse order."""
    store = Store.open(app.state.settings)
    app.state.store = store
    app.state.metrics.watch(store)
    try:
        yield
    finally:
        store.close()


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the application; nothing is opened before it starts."""
    logs.configure()
    settings = settings or Settings()
    app: FastAPI = FastAPIOffline(
        redoc_url=None,
        title="Graft",
        description=DESCRIPTION,
        version=service_version(),
        lifespan=lifespan,
        redirect_slashes=False,
        responses=error_replies(422, 500, 503),
    )
    app.state.settings = settings
    app.state.metrics = Metrics()
    errors.install(app)
    _include_routers(app)
    app.add_middleware(BodyLimit, settings=settings)
    app.add_middleware(RequestFrame, metrics=app.state.metrics)
    return app


def _include_routers(app: FastAPI) -> None:
    pass


app = create_app()
