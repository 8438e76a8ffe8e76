"""`POST /jobs?dry_run=true`: the same checks and errors, an estimate, nothing launched; what cannot fit is refused."""

import threading
import time
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.jobs import estimates
from core.estimating.rates import Observation
from core.store import measurements, profiles, workers
from core.store.store import Store
from core.store.tables import measurements as rows
from tests.app.seed import OTHER, TENANT, add_dataset

GIB = 1024**3
TUNE = {"name": "fine_tune", "epochs": 3, "batch_size": 16, "augmentation": "none"}


def ask(client: TestClient, **body: Any) -> Any:
    return client.post("/jobs?dry_run=true", json=body)


def worker(store: Store, *, memory_bytes: int = 64 * GIB) -> None:
    """A worker that lives, on a device of which that much is known."""
    facts = {"host": "here", "kind": "cpu", "threads": 2, "memory_bytes": memory_bytes}
    with store.db.write() as tx:
        workers.beat(tx, "w", "jobs", host="here", pid=1)
        profiles.add(tx, "cpu: x, 2 threads", [Observation("device", 1.0, facts=facts)], "measured")


def measured(tx: Any, network: str, data: str) -> None:
    """What a measurement would enter."""
    seen = {"embed": 0.01, "bytes.start": 0.5 * GIB, "graph": 3.0}
    some = [Observation(kind, value, network=network, data=data) for kind, value in seen.items()]
    some += [
        Observation("step", 0.05, "none+none|16", network, data),
        Observation("bytes.train", 2.0 * GIB, "none|16", network, data),
    ]
    profiles.add(tx, "cpu: x, 2 threads", some, "measured")


def manifest(store: Store, source: str) -> str:
    from core.store import datasets

    with store.db.read() as tx:
        found = datasets.blobs(tx, TENANT, source)
    assert found is not None
    return found.manifest_sha256


def test_a_dry_run_launches_nothing_and_says_what_it_assumes(client: TestClient, store: Store) -> None:
    source = add_dataset(store)
    reply = client.post("/jobs?dry_run=true", json={"source": source}, headers={"Idempotency-Key": "k"})
    found = reply.json()
    assert reply.status_code == 200
    assert (found["valid"], found["base_model"], found["estimate"]["basis"]) == (True, "efficientnet_lite0", "assumed")
    assert "No worker lives" in found["note"]
    for name in ("seconds", "memory_bytes", "disk_bytes"):
        figure = found["estimate"][name]
        assert 0 < figure["low"] <= figure["expected"] <= figure["high"]
        assert figure["actual"] is None
    assert client.get("/jobs").json()["data"] == []
    launched = client.post("/jobs", json={"source": source}, headers={"Idempotency-Key": "k"})
    assert (launched.status_code, "Idempotent-Replayed" in launched.headers) == (201, False)


def test_what_a_job_is_refused_for_a_dry_run_is_refused_for(client: TestClient, store: Store) -> None:
    ready, single = add_dataset(store), add_dataset(store, classes=("cat",))
    foreign = add_dataset(store, tenant=OTHER)
    wrong: list[dict[str, Any]] = [
        {"source": single},
        {"source": foreign},
        {"source": ready, "base_model": "resnet_18"},
        {"source": ready, "method": {"name": "fine_tune", "freeze": "nowhere"}, "base_model": "resnet18"},
        {"source": ready, "evaluation": ready},
        {"source": ready, "method": {"name": "nothing"}},
        {"source": ready, "webhook": {"url": "http://127.0.0.1/x"}},
    ]
    for body in wrong:
        dry, real = ask(client, **body), client.post("/jobs", json=body)
        errors = [reply.json()["error"] | {"request_id": None} for reply in (dry, real)]
        assert dry.status_code == real.status_code >= 400
        assert errors[0] == errors[1]
    assert client.post("/jobs?dry_runs=true", json={"source": ready}).status_code == 422
    assert client.post("/jobs?dry_run=perhaps", json={"source": ready}).status_code == 422


def test_a_worker_is_asked_to_measure_and_waited_for(
    client: TestClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimates, "_LOOK_SECONDS", 0.02)
    source = add_dataset(store)
    worker(store)

    def work() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with store.db.write() as tx:
                claim = measurements.claim_next(tx, "w", 60)
                if claim is not None:
                    measured(tx, "resnet18", manifest(store, source))
                    measurements.finish(tx, claim.fence)
                    return
            time.sleep(0.02)

    thread = threading.Thread(target=work)
    thread.start()
    body: dict[str, Any] = {"source": source, "base_model": "resnet18", "method": TUNE}
    found = ask(client, **body).json()
    thread.join()
    assert found["note"] == ""
    estimate = found["estimate"]
    assert (estimate["basis"], estimate["device"], estimate["fits"]) == ("measured", "cpu: x, 2 threads", True)
    assert estimate["memory_bytes"]["expected"] >= 2.5 * GIB
    assert {"features", "train", "export"} <= set(estimate["parts"])
    with store.db.read() as tx:
        before = len(list(tx.execute(rows.select())))
    assert ask(client, **body).json()["estimate"]["basis"] == "measured"
    with store.db.read() as tx:
        assert len(list(tx.execute(rows.select()))) == before  # what is known is not measured again


def test_a_busy_worker_is_not_waited_for_for_ever(
    client: TestClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimates, "QUEUED_SECONDS", 0.3)
    worker(store)
    begun = time.monotonic()
    found = ask(client, source=add_dataset(store)).json()
    assert found["estimate"]["basis"] == "assumed"
    assert "busy" in found["note"]
    assert time.monotonic() - begun < estimates.WAIT_SECONDS / 2


def test_a_measurement_that_is_under_way_is_waited_for_longer_and_not_for_ever(
    client: TestClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimates, "QUEUED_SECONDS", 0.3)
    monkeypatch.setattr(estimates, "WAIT_SECONDS", 1.5)
    worker(store)
    source = add_dataset(store)

    def take_up() -> None:
        while True:
            with store.db.write() as tx:
                if measurements.claim_next(tx, "w", 60) is not None:
                    return
            time.sleep(0.02)

    thread = threading.Thread(target=take_up)
    thread.start()
    begun = time.monotonic()
    found = ask(client, source=source).json()
    thread.join()
    assert found["estimate"]["basis"] == "assumed"
    assert "takes longer" in found["note"]
    assert time.monotonic() - begun >= 1.5


def test_what_cannot_fit_is_refused_with_what_would_fit(client: TestClient, store: Store) -> None:
    source = add_dataset(store)
    worker(store, memory_bytes=int(1.9 * GIB))
    with store.db.write() as tx:
        measured(tx, "resnet18", manifest(store, source))
    body: dict[str, Any] = {"source": source, "base_model": "resnet18", "method": TUNE}
    dry = ask(client, **body)
    assert dry.status_code == 200
    assert dry.json()["estimate"]["fits"] is False
    assert dry.json()["estimate"]["advice"]
    refused = client.post("/jobs", json=body)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (409, "does_not_fit", "method")
    assert error["details"]["limit_bytes"] == int(1.9 * GIB)
    ways = error["details"]["would_fit"]
    assert all(way["memory_bytes"] <= int(1.9 * GIB) for way in ways)
    changes = [set(way["change"]) for way in ways]
    assert {"method.batch_size"} in changes
    assert {"method.name"} in changes
    assert client.get("/jobs").json()["data"] == []
    size = next(way["change"]["method.batch_size"] for way in ways if "method.batch_size" in way["change"])
    assert client.post("/jobs", json=body | {"method": TUNE | {"batch_size": size}}).status_code == 201


def test_what_is_only_assumed_does_not_refuse_a_job(client: TestClient, store: Store) -> None:
    worker(store, memory_bytes=int(1.5 * GIB))
    assert client.post("/jobs", json={"source": add_dataset(store), "method": TUNE}).status_code == 201
