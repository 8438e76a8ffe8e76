"""Health, measurements, and the message that wakes workers."""

import json
import socket
import threading
import time

import redis
from fastapi.testclient import TestClient

from app.wakeup import TIMEOUT_SECONDS, Wakeup
from core.settings import Settings
from core.store import workers
from core.store.store import Store
from core.wakeup import QUEUES, TASKS
from tests.app.conftest import neighbour
from tests.app.seed import add_dataset, add_job


def test_the_root_says_where_everything_is(sqlite_client: TestClient) -> None:
    found = sqlite_client.get("/").json()
    assert (found["name"], bool(found["version"])) == ("graft", True)
    assert {"datasets", "jobs", "models", "methods", "base_models", "docs"} <= set(found["links"])
    for link in found["links"].values():
        assert sqlite_client.get(link).status_code in (200, 503), link
    assert sqlite_client.get("/healthz").json() == {"status": "ok"}


def test_readiness_names_what_is_missing(app_settings: Settings, store: Store, valkey_url: str) -> None:
    settings = app_settings.model_copy(update={"broker_url": valkey_url})
    with neighbour(settings) as client:
        reply = client.get("/readyz")
        checks = reply.json()["checks"]
        assert reply.status_code == 503
        assert reply.headers["Retry-After"]
        assert {name for name, value in checks.items() if value == "ok"} == {"database", "schema", "broker", "blobs"}
        assert set(checks) == {"database", "schema", "broker", "blobs", "worker:jobs", "worker:ingest"}
        assert set(reply.json()["hints"]) == {"worker:jobs", "worker:ingest"}
        with store.db.write() as tx:
            for queue in QUEUES:
                workers.beat(tx, f"w-{queue}", queue, host="here", pid=1)
        assert client.get("/readyz").json()["status"] == "ready"
    with neighbour(app_settings) as client:  # nothing listens at the default broker's place
        checks = client.get("/readyz").json()["checks"]
        assert {name for name, value in checks.items() if value != "ok"} == {"broker"}


def test_metrics_count_by_route_and_show_the_queues(client: TestClient, store: Store) -> None:
    source = add_dataset(store)
    add_job(store, source)
    add_job(store, source)
    add_dataset(store, state="validating")
    client.get(f"/datasets/{source}")
    client.get("/datasets/nonsense")
    text = client.get("/metrics").text
    assert 'graft_http_requests_total{method="GET",route="/datasets/{dataset_id}",status="200"} 1.0' in text
    assert 'graft_http_requests_total{method="GET",route="/datasets/{dataset_id}",status="404"} 1.0' in text
    assert 'graft_queue_depth{queue="jobs"} 2.0' in text
    assert 'graft_queue_depth{queue="ingest"} 1.0' in text
    assert source not in text


def test_a_job_and_an_upload_wake_their_workers(app_settings: Settings, store: Store, valkey_url: str) -> None:
    broker = redis.Redis(unix_socket_path=valkey_url.removeprefix("redis+socket://"))
    with neighbour(app_settings.model_copy(update={"broker_url": valkey_url})) as client:
        assert client.post("/jobs", json={"source": add_dataset(store)}).status_code == 201
        zip_type = {"Content-Type": "application/zip"}
        assert client.post("/datasets", content=b"x", headers=zip_type).status_code == 201
        for queue in QUEUES:
            popped = broker.brpop([queue], timeout=30)
            assert popped is not None
            message = json.loads(popped[1])
            assert message["headers"]["task"] == TASKS[queue]
    broker.close()


def test_a_dead_broker_costs_requests_nothing(sqlite_store: Store, settings: Settings) -> None:
    # A broker that takes connections and never says a word is the worst kind.
    with socket.create_server(("127.0.0.1", 0), backlog=100) as mute:
        url = f"redis://127.0.0.1:{mute.getsockname()[1]}/0"
        source = add_dataset(sqlite_store)
        with neighbour(settings.model_copy(update={"broker_url": url})) as client:
            began = time.monotonic()
            for _ in range(20):
                assert client.post("/jobs", json={"source": source}).status_code == 201
            assert time.monotonic() - began < 20 * TIMEOUT_SECONDS  # what it would be if each waited for the broker
            began = time.monotonic()
            assert client.get("/readyz").json()["checks"]["broker"].startswith("unavailable")
            assert time.monotonic() - began < 8
        assert time.monotonic() - began < 15


def test_what_a_dead_broker_refused_is_forgotten_not_retried(valkey_url: str) -> None:
    folder = valkey_url.removeprefix("redis+socket://").rsplit("/", 1)[0]
    wakeup = Wakeup(f"redis+socket://{folder}/nobody.sock")
    wakeup.start()
    for _ in range(5000):
        wakeup.send("jobs")
    began = time.monotonic()
    wakeup.close()
    assert time.monotonic() - began < 10
    assert not [thread for thread in threading.enumerate() if thread.name == "wakeup"]
