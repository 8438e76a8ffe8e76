"""Keys and callers for tests of access."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from core.contract.access import NewKey, Scope
from core.store import keys
from core.store.store import Store


def make_key(store: Store, tenant: str = "default", scope: Scope = "admin", **rest: Any) -> NewKey:
    """A key, as `graftd keys create` makes it."""
    with store.db.write() as tx:
        return keys.add(tx, tenant, "test", scope, **rest)


def bearer(key: NewKey) -> dict[str, str]:
    """The header that shows a key."""
    return {"Authorization": f"Bearer {key.secret}"}


def caller(app: FastAPI, key: NewKey | None = None, *, address: str = "127.0.0.1", **options: Any) -> TestClient:
    """A client at an address, with a key or without, of an application that runs already."""
    options = {"base_url": "http://127.0.0.1", "client": (address, 50000)} | options
    return TestClient(app, headers=bearer(key) if key else {}, raise_server_exceptions=False, **options)


@contextmanager
def running(app: FastAPI) -> Iterator[FastAPI]:
    """The application, started, and stopped at the end."""
    with caller(app):
        yield app


def api_routes(routes: Iterable[Any]) -> Iterator[APIRoute]:
    """Every route of our own, also of included routers."""
    for route in routes:
        if isinstance(route, APIRoute):
            yield route
        elif hasattr(route, "original_router"):
            yield from api_routes(route.original_router.routes)


def code(reply: Any) -> tuple[int, str]:
    """Status and code of an error reply."""
    return reply.status_code, reply.json()["error"]["code"]
