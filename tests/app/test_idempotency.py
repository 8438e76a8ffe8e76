"""One Idempotency-Key, fifty requests at once over real HTTP, and two API processes: one job."""

import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, update

from core.contract.base import now
from core.settings import Settings
from core.store.store import Store
from core.store.tables import idempotency_keys, jobs
from tests.app.conftest import neighbour
from tests.app.seed import add_dataset

ROOT = Path(__file__).parents[2]


@contextmanager
def api_process(settings: Settings) -> Iterator[str]:
    """An API process as graftd starts it; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GRAFT_")}
    environment |= {"GRAFT_DATA_DIR": str(settings.root), "GRAFT_DATABASE_URL": settings.resolved_database_url}
    environment |= {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-m", "graftd", "api", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                if httpx2.get(f"http://127.0.0.1:{port}/healthz").status_code == 200:
                    break
            except httpx2.TransportError:
                assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def test_fifty_posts_with_one_key_to_two_processes_make_one_job(store: Store, app_settings: Settings) -> None:
    source = add_dataset(store)
    with api_process(app_settings) as one, api_process(app_settings) as two:

        def post(i: int) -> httpx2.Response:
            address = (one, two)[i % 2]
            headers = {"Idempotency-Key": "the-same"}
            return httpx2.post(f"{address}/jobs", json={"source": source}, headers=headers, timeout=90)

        with ThreadPoolExecutor(50) as pool:
            replies = list(pool.map(post, range(50)))
    assert Counter(reply.status_code for reply in replies) == {201: 50}
    assert len({reply.json()["id"] for reply in replies}) == 1
    assert sum("idempotent-replayed" not in reply.headers for reply in replies) == 1
    with store.db.read() as tx:
        assert tx.scalar(select(func.count()).select_from(jobs)) == 1


@pytest.mark.parametrize("path", ["/jobs"])
def test_an_expired_key_makes_a_second_one(store: Store, app_settings: Settings, path: str) -> None:
    source = add_dataset(store)
    with neighbour(app_settings.model_copy(update={"idempotency_seconds": 60.0})) as client:

        def post(client: TestClient) -> str:
            reply = client.post(path, json={"source": source}, headers={"Idempotency-Key": "k"})
            assert reply.status_code == 201
            return str(reply.json()["id"])

        first = post(client)
        assert post(client) == first
        with store.db.write() as tx:
            tx.execute(update(idempotency_keys).values(created_at=now() - timedelta(seconds=61)))
        second = post(client)
        assert second != first
        assert post(client) == second
