"""Readiness names the part that is missing, each for real, and answers in time whatever hangs."""

import shutil
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from app.health.checks import Checks
from core.settings import Settings
from core.store.store import Store
from migrations.run import upgrade


@pytest.fixture
def black_hole() -> Iterator[int]:
    """Port of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield server.getsockname()[1]


def test_whatever_hangs_the_answer_comes_in_time(settings: Settings, black_hole: int) -> None:
    urls = {
        "database_url": f"postgresql+psycopg://graft:hunter2@127.0.0.1:{black_hole}/x",
        "broker_url": f"redis://:hunter2@127.0.0.1:{black_hole}/0",
    }
    hanging = settings.model_copy(update=urls)
    checks = Checks(Store.open(hanging), hanging)
    for _ in range(3):
        began = time.monotonic()
        found = checks.readiness()
        assert time.monotonic() - began < 8
        assert {name for name, value in found.checks.items() if value == "ok"} == {"blobs"}
        assert found.checks["database"] == "unavailable (no answer within 1 s)"
        assert found.checks["broker"].startswith("unavailable")
        assert set(found.hints) == set(found.checks) - {"blobs"}
        assert "hunter2" not in found.model_dump_json()
    # However often it is asked, one thread per part waits for the database.
    names = [thread.name for thread in threading.enumerate() if thread.name.startswith("look-")]
    assert len(names) == len(set(names))


def test_a_database_that_is_gone(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    gone = settings.model_copy(update={"database_url": f"postgresql+psycopg://graft:hunter2@127.0.0.1:{port}/x"})
    found = Checks(Store.open(gone), gone).readiness()
    assert found.checks["database"] == "unavailable (OperationalError)"
    assert found.checks["schema"].startswith("unknown")
    assert "GRAFT_DATABASE_URL" in found.hints["database"]
    assert "hunter2" not in found.model_dump_json()


def test_blobs_that_cannot_be_written(settings: Settings, sqlite_store: Store) -> None:
    checks = Checks(sqlite_store, settings)
    assert checks.readiness().checks["blobs"] == "ok"
    pending = sqlite_store.blobs.root / "pending"
    shutil.rmtree(pending)
    pending.write_bytes(b"in the way")  # root may write into any folder, but not into a file
    assert checks.readiness().checks["blobs"] == "unavailable (NotADirectoryError)"


def test_a_schema_that_is_not_this_programs(settings: Settings, store: Store) -> None:
    checks = Checks(store, settings)
    assert checks.readiness().checks["schema"] == "ok"
    for revision, said in (("0001", "this program needs"), ("9999", "newer than this program")):
        with store.db.write() as tx:
            tx.execute(text("update alembic_version set version_num = :x"), {"x": revision})
        assert said in checks.readiness().checks["schema"]
        assert "graftd migrate" in checks.readiness().hints["schema"]


def test_tables_that_were_never_made(settings: Settings) -> None:
    store = Store.open(settings)
    found = Checks(store, settings).readiness()
    assert found.checks["database"] == "ok"
    assert found.checks["schema"].startswith(("unknown", "the database has no tables"))
    upgrade(store.db)
    assert Checks(store, settings).readiness().checks["schema"] == "ok"
    store.close()
