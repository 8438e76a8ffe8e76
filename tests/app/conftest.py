"""The API over a real store; behind a real server where streams matter."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient

from app.main import create_app
from app.server.run import configuration
from core.settings import Settings
from core.store.store import Store

LOCAL = "http://127.0.0.1"


def neighbour(settings: Settings) -> TestClient:
    """A client of the API on this very machine, which needs no key as long as there is none.

    Nothing raises through it, as nothing does through a server.
    """
    local = ("127.0.0.1", 50000)
    return TestClient(create_app(settings), LOCAL, raise_server_exceptions=False, client=local)


@pytest.fixture
def app_settings(settings: Settings, store: Store) -> Settings:
    """Settings of an API over `store`, so that a test can reach behind it."""
    url = store.db.url.render_as_string(hide_password=False)
    return settings.model_copy(update={"database_url": url, "max_upload_bytes": 32 * 1024 * 1024})


@pytest.fixture
def client(app_settings: Settings) -> Iterator[TestClient]:
    """A client of the API."""
    with neighbour(app_settings) as client:
        yield client


@pytest.fixture
def sqlite_client(settings: Settings, sqlite_store: Store) -> Iterator[TestClient]:
    """The same over SQLite alone, for what no database has a say in."""
    with neighbour(settings) as client:
        yield client


@contextmanager
def serving(settings: Settings, **limits: Any) -> Iterator[str]:
    """A real server in a thread, as the API's program sets it up; yields its address."""
    config = configuration(create_app(settings), settings, host="127.0.0.1", port=0, **limits)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 60
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture
def server(app_settings: Settings) -> Iterator[str]:
    """Address of a real server over `store`."""
    with serving(app_settings) as url:
        yield url


@pytest.fixture
def sqlite_server(settings: Settings, sqlite_store: Store) -> Iterator[str]:
    """Address of a real server over SQLite."""
    with serving(settings.model_copy(update={"max_upload_bytes": 32 * 1024 * 1024})) as url:
        yield url
