"""The same programs apart, on PostgreSQL and a real Valkey: `graftd migrate`, `graftd api`, `graftd worker`."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest

from benchmarks.common import free_port
from graft import Graft
from tests.builders import folder_zip

GRAFTD = str(Path(sys.executable).parent / "graftd")


@contextmanager
def program(name: str, env: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("wb") as out:
        process = subprocess.Popen([GRAFTD, name], env=env, stdout=out, stderr=out)
    try:
        yield
        assert process.poll() is None, log.read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.fixture
def production(postgres_url: str, valkey_url: str, tmp_path: Path) -> Iterator[Graft]:
    """A client of a service whose parts run apart."""
    port = free_port()
    env = os.environ | {
        "GRAFT_DATABASE_URL": postgres_url,
        "GRAFT_BROKER_URL": valkey_url,
        "GRAFT_DATA_DIR": str(tmp_path / "data"),
        "GRAFT_PORT": str(port),
    }
    subprocess.run([GRAFTD, "migrate"], env=env, check=True)
    with (
        program("api", env, tmp_path / "api.log"),
        program("worker", env, tmp_path / "worker.log"),
        Graft(f"http://127.0.0.1:{port}") as client,
    ):
        deadline = time.monotonic() + 60
        while not ready(client):
            assert time.monotonic() < deadline, (tmp_path / "worker.log").read_text()
            time.sleep(0.2)
        yield client


def ready(client: Graft) -> bool:
    try:
        return client.health().ready
    except Exception:
        return False


def test_job_runs_on_postgresql_and_valkey(production: Graft) -> None:
    data = production.datasets.upload(BytesIO(folder_zip({"a": 20, "b": 20})), name="two")
    production.datasets.wait(data, timeout=60)
    job = production.jobs.wait(production.jobs.create(source=data.id).id, timeout=180)
    assert job.state == "succeeded"
    assert job.metrics["accuracy"] > 0.8
