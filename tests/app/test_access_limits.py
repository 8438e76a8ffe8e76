"""Rates, quotas, and what is written down."""

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.access.gate import Gate
from app.access.windows import MovingWindow
from app.main import create_app
from core.contract.access import Quotas
from core.contract.base import new_id, now
from core.contract.errors import RateLimitedError, TooLargeError
from core.contract.jobs import JobSpec
from core.settings import Settings
from core.store import audit, jobs, tenants
from core.store.store import Store
from core.store.tables import datasets, imports, uploads
from tests.app.bundles import make_bundle, put
from tests.app.conftest import serving
from tests.app.doors import bearer, caller, code, make_key, running
from tests.app.seed import add_dataset, add_job, start_job

ZIP = {"Content-Type": "application/zip"}


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_window_moves_and_a_refused_hit_does_not_count() -> None:
    clock = Clock()
    window = MovingWindow(3, 60.0, clock=clock)
    standings = []
    for clock.now in (1000.0, 1010.0, 1020.0, 1030.0, 1059.9, 1060.0, 1060.1, 1070.0):
        standings.append(window.hit("a"))
    assert [one.allowed for one in standings] == [True, True, True, False, False, True, False, True]
    assert [one.remaining for one in standings[:4]] == [2, 1, 0, 0]
    assert standings[3].reset == pytest.approx(30.0)
    assert window.hit("b").remaining == 2


def test_no_crowd_fills_the_memory() -> None:
    window = MovingWindow(5, names=100)
    window.hit("first")
    for number in range(5000):
        window.hit(f"10.0.{number // 256}.{number % 256}")
        window.hit("loyal")
    assert len(window) == 100
    assert not window.hit("loyal").allowed


@pytest.mark.parametrize("address", ["10.0.0.1", "2001:db8:1:2::%x"])
def test_too_many_wrong_keys_are_told_so(settings: Settings, sqlite_store: Store, address: str) -> None:
    key = make_key(sqlite_store)
    with running(create_app(settings)) as app:

        def guess(number: int) -> Any:
            sender = address % number if "%" in address else address
            return caller(app, address=sender).get("/jobs", headers={"Authorization": f"Bearer {number}"})

        assert {code(guess(number)) for number in range(30)} == {(401, "invalid_key")}
        refused = guess(31)
        assert code(refused) == (429, "rate_limited")
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        assert caller(app, key, address=address.replace("%x", "1")).get("/jobs").status_code == 200
        assert code(caller(app, address="10.9.9.9").get("/jobs", headers={"Authorization": "Bearer x"}))[0] == 401


def test_a_key_has_a_rate_of_its_own(settings: Settings, sqlite_store: Store) -> None:
    one, other = make_key(sqlite_store), make_key(sqlite_store)
    with running(create_app(settings.model_copy(update={"rate_per_minute": 5}))) as app:
        replies = [caller(app, one).get("/jobs") for _ in range(5)]
        assert [reply.headers["RateLimit-Remaining"] for reply in replies] == ["4", "3", "2", "1", "0"]
        refused = caller(app, one).get("/jobs")
        assert code(refused) == (429, "rate_limited")
        assert (refused.headers["RateLimit-Limit"], refused.headers["RateLimit-Remaining"]) == ("5", "0")
        assert 0 < int(refused.headers["RateLimit-Reset"]) <= int(refused.headers["Retry-After"]) <= 60
        assert caller(app, other).get("/jobs").status_code == 200
        assert caller(app).get("/healthz").status_code == 200


def test_neither_owners_nor_unlimited_keys_are_counted(settings: Settings, sqlite_store: Store) -> None:
    with running(create_app(settings.model_copy(update={"rate_per_minute": 1}))) as app:
        assert {caller(app).get("/jobs").status_code for _ in range(5)} == {200}
    key = make_key(sqlite_store)
    with running(create_app(settings.model_copy(update={"rate_per_minute": 0}))) as app:
        replies = [caller(app, key).get("/jobs") for _ in range(5)]
        assert {reply.status_code for reply in replies} == {200}
        assert "RateLimit-Limit" not in replies[0].headers


def test_kept_keys_are_few_and_young(sqlite_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    import anyio

    clock = Clock()
    monkeypatch.setattr("app.access.gate.KEPT_KEYS", 3)
    gate = Gate(lambda: sqlite_store, clock=clock)
    made = [make_key(sqlite_store) for _ in range(6)]
    asked: list[str] = []
    look_up = gate._look_up
    monkeypatch.setattr(gate, "_look_up", lambda sha256: asked.append(sha256) or look_up(sha256))

    async def find(number: int) -> bool:
        return await gate.find(made[number].secret) is not None

    for number in (0, 1, 2, 3, 4, 5):
        assert anyio.run(find, number)
    assert len(gate._found) == 3
    anyio.run(find, 5)
    assert len(asked) == 6
    clock.now += 5.0
    anyio.run(find, 5)
    assert len(asked) == 7


# Quotas


def _allow(store: Store, tenant: str = "default", **own: int) -> None:
    with store.db.write() as tx:
        tenants.change(tx, tenant, dict(own))


def test_usage_counts_what_is_kept_and_what_is_on_its_way(store: Store, settings: Settings) -> None:
    for state in ("ready", "validating", "rejected"):
        add_dataset(store, state=state)  # type: ignore[arg-type]
    bundle = put(store, make_bundle())
    add_dataset(store, tenant="other")
    with store.db.write() as tx:
        for state, size in (("open", 100), ("done", 1_000_000), ("failed", 1_000_000)):
            _upload(tx, state, size)
        for state, size in (("validating", 30), ("ready", 1_000_000)):
            _import(tx, state, size)
    add_job(store, add_dataset(store))
    add_job(store, add_dataset(store))
    start_job(store)
    with store.db.read() as tx:
        found = tenants.usage(tx, "default", settings)
    assert found.bytes == 4 * 1000 + bundle.model.bytes + 100 + 30
    assert (found.queued, found.running) == (1, 1)
    assert found.quotas == Quotas()


def _upload(tx: Any, state: str, size: int) -> None:
    row = {"id": new_id("upl"), "tenant": "default", "state": state, "bytes": size, "metadata": {}}
    tx.execute(uploads.insert().values(**row, created_at=now(), expires_at=now()))


def _import(tx: Any, state: str, size: int) -> None:
    row = {"id": new_id("imp"), "tenant": "default", "state": state, "bytes": size, "metadata": {}, "name": "x"}
    tx.execute(imports.insert().values(**row, upload_sha256="0" * 64, created_at=now()))


def test_a_tenants_own_quota_stands_before_the_settings(store: Store, settings: Settings) -> None:
    all_of_us = settings.model_copy(update={"quota_bytes": 10, "quota_queued": 2})
    with store.db.write() as tx:
        tenants.add(tx, "blue", Quotas(bytes=0, running=3))
        assert tenants.quotas(tx, "blue", all_of_us) == Quotas(bytes=0, queued=2, running=3)
        assert tenants.quotas(tx, "default", all_of_us) == Quotas(bytes=10, queued=2)
        assert tenants.change(tx, "blue", {"bytes": None}).quotas == Quotas(running=3)
        assert [one.name for one in tenants.all_of(tx)] == ["default", "blue"]


def _at_once(count: int, act: Callable[[int], None]) -> list[BaseException | None]:
    barrier = threading.Barrier(count)

    def run(number: int) -> None:
        barrier.wait(30)
        act(number)

    with ThreadPoolExecutor(count) as pool:
        return [future.exception() for future in [pool.submit(run, number) for number in range(count)]]


def test_a_quota_of_jobs_is_exact_under_a_crowd(store: Store, settings: Settings) -> None:
    _allow(store, queued=5)
    source = add_dataset(store)

    def enter(_: int) -> None:
        with store.db.write() as tx:
            tenants.admit_job(tx, "default", settings)
            jobs.add(tx, "default", new_id("job"), JobSpec(source=source))

    errors = [error for error in _at_once(12, enter) if error is not None]
    assert len(errors) == 7
    assert all(isinstance(error, RateLimitedError) and error.code == "job_quota_exceeded" for error in errors)
    with store.db.read() as tx:
        assert tenants.usage(tx, "default", settings).queued == 5


def test_a_quota_of_bytes_is_exact_under_a_crowd(store: Store, settings: Settings) -> None:
    _allow(store, bytes=1000)

    def enter(_: int) -> None:
        with store.db.write() as tx:
            tenants.admit_bytes(tx, "default", settings, 300)
            _upload(tx, "open", 300)

    errors = [error for error in _at_once(10, enter) if error is not None]
    assert len(errors) == 7
    assert all(isinstance(error, TooLargeError) for error in errors)
    last = errors[0]
    assert isinstance(last, TooLargeError)
    assert last.details["limit"] == 1000
    assert last.details["asked"] == 300


def test_a_full_queue_is_429_and_a_repeated_request_is_not(client: TestClient, store: Store) -> None:
    _allow(store, queued=1)
    body = {"source": add_dataset(store)}
    first = client.post("/jobs", json=body, headers={"Idempotency-Key": "k"})
    assert first.status_code == 201
    refused = client.post("/jobs", json=body)
    assert code(refused) == (429, "job_quota_exceeded")
    assert refused.headers["Retry-After"] == "10"
    assert refused.json()["error"]["details"] == {"limit": 1, "used": 1}
    again = client.post("/jobs", json=body, headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.json()["id"]) == (201, first.json()["id"])
    assert client.get("/usage").json()["queued"] == 1
    assert client.get("/usage").json()["quotas"] == {"bytes": None, "queued": 1, "running": None}


@pytest.mark.parametrize("form", [False, True])
def test_a_full_store_is_413_and_a_repeated_upload_is_not(client: TestClient, store: Store, form: bool) -> None:
    _allow(store, bytes=1500)

    def send(size: int, **headers: str) -> Any:
        if form:
            return client.post("/datasets", files={"file": ("a.zip", b"x" * size)}, headers=headers)
        return client.post("/datasets", content=b"x" * size, headers=ZIP | headers)

    kept = send(1000, **{"Idempotency-Key": "k"})
    assert kept.status_code == 201
    refused = send(501)
    assert code(refused) == (413, "storage_quota_exceeded")
    assert refused.json()["error"]["details"] == {"limit": 1500, "used": 1000, "asked": 501}
    again = send(1000, **{"Idempotency-Key": "k"})
    assert (again.status_code, again.json()["id"]) == (201, kept.json()["id"])
    assert send(500).status_code == 201
    assert list((store.blobs.root / "pending").iterdir()) == []
    with store.db.read() as tx:
        assert len(list(tx.execute(datasets.select()))) == 2


def _pieces(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield b"x" * 100_000


def test_an_upload_over_the_quota_is_refused_before_it_is_sent(settings: Settings, sqlite_store: Store) -> None:
    _allow(sqlite_store, bytes=1000)
    with serving(settings) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            head = "POST /datasets HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/zip\r\n"
            connection.sendall(f"{head}Content-Length: 1001\r\n\r\n".encode())  # and not a byte more
            answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 413"), answer
        with httpx2.Client(base_url=url, timeout=30) as client:  # without a length only its end can tell
            assert code(client.post("/datasets", content=_pieces(3), headers=ZIP)) == (413, "storage_quota_exceeded")
    assert list((sqlite_store.blobs.root / "pending").iterdir()) == []


# Audit


@pytest.fixture
def app(app_settings: Settings) -> Iterator[FastAPI]:
    with running(create_app(app_settings)) as app:
        yield app


def test_what_changes_something_is_written_down(app: FastAPI, store: Store) -> None:
    admin, reader, stranger = make_key(store), make_key(store, scope="read"), make_key(store, "other")
    source, never = add_dataset(store), new_id("ds")
    put(store, bundle := make_bundle())
    client = caller(app, admin, address="10.0.0.7")
    job = client.post("/jobs", json={"source": source}, headers={"X-Request-ID": "mine"}).json()["id"]
    client.get(f"/jobs/{job}")
    client.post(f"/models/{bundle.model.id}/predict", content=b"x", headers={"Content-Type": "image/png"})
    client.delete(f"/datasets/{source}")
    client.delete(f"/datasets/{never}")
    client.delete("/datasets/non%00sense%01%C3%A9" + "x" * 200)
    client.post("/jobs", json={"source": 1})
    client.delete("/jobs")
    client.delete("/nowhere/x")
    caller(app, reader).post(f"/jobs/{job}/cancel")
    caller(app).post(f"/jobs/{job}/cancel")
    caller(app, stranger).post(f"/jobs/{job}/cancel")
    found = client.get("/audit").json()["data"]
    told = [(entry["action"], entry["target"], entry["status"], entry["key_id"]) for entry in reversed(found)]
    assert told == [
        ("create_job", job, 201, admin.id),
        ("delete_dataset", source, 409, admin.id),
        ("delete_dataset", never, 404, admin.id),
        ("delete_dataset", ("nonsense" + "x" * 200)[:61], 404, admin.id),
        ("create_job", None, 422, admin.id),
        ("cancel_job", job, 403, reader.id),
    ]
    assert (found[-1]["request_id"], found[-1]["address"]) == ("mine", "10.0.0.7")
    assert {entry["id"] for entry in client.get("/audit?action=create_job").json()["data"]} == {
        entry["id"] for entry in found if entry["action"] == "create_job"
    }
    assert len(client.get(f"/audit?key_id={reader.id}").json()["data"]) == 1
    assert len(client.get("/audit?limit=2").json()["data"]) == 2
    elsewhere = caller(app, stranger).get("/audit").json()["data"]
    assert [(entry["action"], entry["status"]) for entry in elsewhere] == [("cancel_job", 404)]
    assert code(caller(app, reader).get("/audit")) == (403, "scope_too_small")


def test_it_is_written_down_before_the_reply_starts(app: FastAPI, store: Store) -> None:
    for number in range(20):
        made = caller(app).post("/jobs", json={"source": add_dataset(store)}).json()["id"]
        with store.db.read() as tx:
            newest = audit.page(tx, "default").data[0]
        assert (newest.target, newest.key_id) == (made, None), number


def test_an_error_of_ours_is_written_down_too(app: FastAPI, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    job = add_job(store, add_dataset(store))
    monkeypatch.setattr("core.store.jobs.request", lambda *_, **__: 1 / 0)
    assert caller(app).post(f"/jobs/{job}/cancel").status_code == 500
    entry = caller(app).get("/audit").json()["data"][0]
    assert (entry["action"], entry["target"], entry["status"]) == ("cancel_job", job, 500)


def test_a_log_that_cannot_be_written_fails_no_request(
    app: FastAPI, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from structlog.testing import capture_logs

    body = {"source": add_dataset(store)}

    def full(*_: Any, **__: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("core.store.audit.add", full)
    with capture_logs() as lines:
        assert caller(app).post("/jobs", json=body).status_code == 201
    told = [line for line in lines if line["event"] == "audit_not_written"]
    assert [(line["log_level"], line["action"], line["status"]) for line in told] == [("error", "create_job", 201)]


def test_old_entries_are_forgotten(app: FastAPI, store: Store) -> None:
    caller(app).delete(f"/datasets/{new_id('ds')}")
    with store.db.write() as tx:
        assert audit.forget(tx, now() - timedelta(days=1)) == 0
        assert audit.forget(tx, now() + timedelta(seconds=1)) == 1
        assert audit.page(tx, "default").data == []


def test_keys_are_asked_for_on_a_real_server(settings: Settings, sqlite_store: Store) -> None:
    key = make_key(sqlite_store)
    with serving(settings) as url, httpx2.Client(base_url=url, timeout=30) as client:
        assert client.get("/jobs").status_code == 401
        assert client.get("/jobs", headers=bearer(key)).status_code == 200
        assert client.post("/jobs", content=_pieces(100)).status_code == 401
