"""Another tenant's things read like things that never were: every route, every method, every way to name an id."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.main import create_app
from core.contract.base import IdPrefix, new_id, now
from core.settings import Settings
from core.store.store import Store
from core.store.tables import deliveries, imports, uploads
from tests.app.bundles import make_bundle, put
from tests.app.doors import api_routes, caller, make_key, running
from tests.app.seed import add_dataset, add_job

Make = Callable[[Store, str], str]
KEPT = {"fields": {}, "header": None, "sha256": None}


def _insert(store: Store, table: Any, row: dict[str, Any]) -> str:
    with store.db.write() as tx:
        tx.execute(table.insert().values(**row, created_at=now()))
    return str(row["id"])


def _upload(store: Store, tenant: str) -> str:
    row = {"id": new_id("upl"), "tenant": tenant, "state": "open", "bytes": 10, "metadata": KEPT}
    return _insert(store, uploads, row | {"expires_at": now() + timedelta(days=1)})


def _import(store: Store, tenant: str) -> str:
    row = {"id": new_id("imp"), "tenant": tenant, "state": "rejected", "name": "x", "bytes": 10, "metadata": {}}
    return _insert(store, imports, row | {"upload_sha256": "0" * 64})


def _job(store: Store, tenant: str) -> str:
    return add_job(store, add_dataset(store, tenant=tenant), tenant=tenant)


def _delivery(store: Store, tenant: str, job_id: str | None = None) -> str:
    row = {"id": new_id("whd"), "tenant": tenant, "job_id": job_id or _job(store, tenant), "state": "failed"}
    return _insert(store, deliveries, row | {"url": "https://example.com/", "event": "job.failed", "attempts": 1})


def _bundle(store: Store, tenant: str) -> str:
    return put(store, make_bundle(), tenant).model.id


THINGS: dict[str, tuple[IdPrefix, Make]] = {
    "dataset_id": ("ds", lambda store, tenant: add_dataset(store, tenant=tenant)),
    "job_id": ("job", _job),
    "model_id": ("mdl", _bundle),
    "key_id": ("key", lambda store, tenant: make_key(store, tenant).id),
    "upload_id": ("upl", _upload),
    "import_id": ("imp", _import),
    "delivery_id": ("whd", _delivery),
}
"""How to make what each parameter of a path names. A new kind of thing belongs in here."""
PLAIN = {"index": "0", "name": "model.onnx"}
"""Parameters that name something within a thing."""
SHARED = {"/methods/{name}", "/base-models/{id}"}
"""What all tenants share: it belongs to nobody."""
TUS = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
EMPTY = ("/datasets", "/jobs", "/models", "/uploads", "/imports")


@pytest.fixture
def app(app_settings: Settings) -> Iterator[FastAPI]:
    with running(create_app(app_settings)) as app:
        yield app


def calls(app: FastAPI) -> list[tuple[str, str, list[str]]]:
    """Every method and path with parameters, hidden ones too, and the parameters' names."""
    found = []
    for route in api_routes(app.routes):
        names = re.findall(r"\{(\w+)", route.path)
        if names and route.path not in SHARED:
            found += [(method, route.path_format, names) for method in sorted(route.methods or ())]
    described = {(path, method.upper()) for path, calls in app.openapi()["paths"].items() for method in calls}
    for path, method in described:
        assert "{" not in path or path in SHARED or any((method, path) == call[:2] for call in found), path
    return found


def ask(client: TestClient, method: str, path: str, ids: dict[str, str]) -> tuple[Any, Any]:
    """The reply's status and body, without the ids that stood in the request."""
    headers = TUS if path.startswith("/uploads") else {}
    reply = client.request(method, path.format(**PLAIN | ids), headers=headers)
    text = reply.text.replace(reply.headers["X-Request-ID"], "")
    for value in ids.values():
        text = text.replace(value, "")
    return reply.status_code, text


def test_a_foreign_thing_reads_like_one_that_never_was(app: FastAPI, store: Store) -> None:
    ours, theirs = caller(app, make_key(store, "a")), caller(app, make_key(store, "b"))
    checked = set()
    for method, path, names in calls(app):
        unknown = [name for name in names if name not in THINGS and name not in PLAIN]
        assert not unknown, f"{path}: say in THINGS how to make {unknown}"
        named = [name for name in names if name in THINGS]
        foreign = {name: THINGS[name][1](store, "a") for name in named}
        if "delivery_id" in named:
            foreign["delivery_id"] = _delivery(store, "a", foreign["job_id"])
        never = {name: new_id(THINGS[name][0]) for name in named}
        refused = ask(theirs, method, path, foreign)
        assert refused[0] == 404, (method, path, refused)
        assert refused == ask(theirs, method, path, never), (method, path)
        ill_formed = ask(theirs, method, path, dict.fromkeys(named, "nonsense"))
        assert ill_formed[0] == 404, (method, path)
        assert refused == ill_formed or "delivery_id" in named, (method, path)
        thing = path.split("}")[0] + "}"  # it was there all the time, and still is
        assert ask(ours, "GET", thing, foreign)[0] in (200, 409, 410), (method, path)
        if method in ("GET", "HEAD"):
            assert ask(ours, method, path, foreign)[0] in (200, 204, 409, 410), (method, path)
        checked.add((method, path))
    assert len(checked) >= 25
    assert {name for _, path in checked for name in re.findall(r"\{(\w+)", path)} >= THINGS.keys()


def test_a_foreign_delivery_below_a_job_of_ones_own(app: FastAPI, store: Store) -> None:
    client, job = caller(app, make_key(store, "b")), _job(store, "b")
    path = "/jobs/{job_id}/deliveries/{delivery_id}/retry"
    foreign = ask(client, "POST", path, {"job_id": job, "delivery_id": _delivery(store, "a")})
    assert foreign[0] == 404
    assert foreign == ask(client, "POST", path, {"job_id": job, "delivery_id": new_id("whd")})


def test_lists_show_nothing_of_another_tenant(app: FastAPI, store: Store) -> None:
    mine = make_key(store, "b")
    for _, make in THINGS.values():
        make(store, "a")
    ours, theirs = caller(app, make_key(store, "a")), caller(app, mine)
    ours.delete(f"/datasets/{new_id('ds')}")
    lists = {
        route.path
        for route in api_routes(app.routes)
        if "{" not in route.path and "ListReply" in str(route.response_model)
    }
    assert lists >= {*EMPTY, "/keys", "/audit"}
    for path in lists - {"/methods", "/base-models"}:
        assert ours.get(path).json()["data"], path
        found = theirs.get(path).json()["data"]
        assert [thing["id"] for thing in found] == ([mine.id] if path == "/keys" else []), path
    assert theirs.get("/usage").json()["bytes"] == 0
    assert ours.get("/webhooks/secret").json() != theirs.get("/webhooks/secret").json()


def test_an_idempotency_key_is_a_tenants_own(app: FastAPI, store: Store) -> None:
    made = []
    for tenant in ("a", "b"):
        client, source = caller(app, make_key(store, tenant)), add_dataset(store, tenant=tenant)
        reply = client.post("/jobs", json={"source": source}, headers={"Idempotency-Key": "same"})
        assert reply.status_code == 201, reply.text
        made.append(reply.json()["id"])
        upload = client.post(
            "/datasets", content=b"x", headers={"Idempotency-Key": "too", "Content-Type": "application/zip"}
        )
        assert (upload.status_code, "Idempotent-Replayed" in upload.headers) == (201, False)
    assert made[0] != made[1]


def test_a_job_cannot_name_foreign_things(app: FastAPI, store: Store) -> None:
    client, own = caller(app, make_key(store, "b")), add_dataset(store, tenant="b")
    data, model = add_dataset(store, tenant="a"), _bundle(store, "a")
    wishes = [
        ({"source": data}, {"source": new_id("ds")}),
        ({"source": own, "evaluation": data}, {"source": own, "evaluation": new_id("ds")}),
        ({"source": own, "target": data}, {"source": own, "target": new_id("ds")}),
        ({"source": own, "base_model": model}, {"source": own, "base_model": new_id("mdl")}),
    ]
    for foreign, never in wishes:
        replies = [client.post("/jobs", json=spec) for spec in (foreign, never)]
        assert replies[0].status_code in (404, 422), replies[0].text
        bodies = []
        for reply, spec in zip(replies, (foreign, never), strict=True):
            text = reply.text.replace(reply.headers["X-Request-ID"], "")
            for value in spec.values():
                text = text.replace(value, "")
            bodies.append((reply.status_code, text))
        assert bodies[0] == bodies[1], foreign
    assert client.get("/jobs").json()["data"] == []


def test_the_same_bytes_are_each_tenants_own(app: FastAPI, store: Store) -> None:
    first, second = (caller(app, make_key(store, tenant)) for tenant in ("a", "b"))
    zip_type = {"Content-Type": "application/zip"}
    ids = [client.post("/datasets", content=b"same", headers=zip_type).json()["id"] for client in (first, second)]
    assert ids[0] != ids[1]
    assert second.get(f"/datasets/{ids[0]}").status_code == 404
