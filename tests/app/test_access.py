"""Who is let in: without keys whoever sits at this machine, from the first key on whoever holds one."""

import base64
import io
import logging
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx2
import pytest
import structlog
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from app.access.public import is_public
from app.dependencies import Needs
from app.main import create_app
from core import logs
from core.contract.access import SCOPES, Scope
from core.settings import Settings
from core.store import keys
from core.store.store import Store
from core.store.tables import api_keys
from tests.app.conftest import serving
from tests.app.doors import api_routes, bearer, caller, code, make_key, running
from tests.app.seed import add_dataset, add_job

FOREIGN = [
    {"host": "evil.example"},
    {"host": "evil.example:8000"},
    {"host": "localhost.evil.example"},
    {"host": "127.0.0.1.evil.example"},
    {"host": "10.0.0.1"},
]


@pytest.fixture
def app(app_settings: Settings) -> Iterator[FastAPI]:
    with running(create_app(app_settings)) as app:
        yield app


@pytest.fixture
def small(settings: Settings, sqlite_store: Store) -> Iterator[FastAPI]:
    """The same over SQLite alone."""
    with running(create_app(settings)) as app:
        yield app


def test_without_keys_this_machine_alone_is_let_in(small: FastAPI) -> None:
    assert caller(small).get("/keys").json()["data"] == []
    assert caller(small, address="::1").get("/jobs").status_code == 200
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "testclient"):
        assert code(caller(small, address=address).get("/jobs")) == (401, "missing_key")
    for name in ("X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"):  # a proxy makes everybody look local
        assert code(caller(small).get("/jobs", headers={name: "127.0.0.1"})) == (401, "missing_key")
    assert code(caller(small, client=("", 0)).get("/jobs")) == (401, "missing_key")  # a unix socket


def test_without_keys_a_service_that_listens_to_all_lets_nobody_in(settings: Settings, sqlite_store: Store) -> None:
    with running(create_app(settings.model_copy(update={"host": "0.0.0.0"}))) as app:
        assert code(caller(app).get("/jobs")) == (401, "missing_key")
        assert caller(app).get("/healthz").status_code == 200


@pytest.mark.parametrize("headers", FOREIGN)
def test_without_keys_a_foreign_host_name_is_refused(small: FastAPI, headers: dict[str, str]) -> None:
    assert code(caller(small).get("/jobs", headers=headers)) == (403, "host_not_allowed")


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "[::1]:8000", "127.0.0.1:1", "graft.test:80"])
def test_without_keys_own_and_allowed_host_names_are_answered(
    settings: Settings, sqlite_store: Store, host: str
) -> None:
    with running(create_app(settings.model_copy(update={"allowed_hosts": "other, Graft.test"}))) as app:
        assert caller(app).get("/jobs", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:3000"},
        {"Origin": "http://["},
    ],
)
def test_a_page_of_another_site_changes_nothing(small: FastAPI, sqlite_store: Store, headers: dict[str, str]) -> None:
    body = {"source": add_dataset(sqlite_store)}
    client = caller(small)
    assert code(client.post("/jobs", json=body, headers=headers)) == (403, "cross_site")
    assert client.get("/jobs", headers=headers).json()["data"] == []
    own = {"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1"}
    assert client.post("/jobs", json=body, headers=own).status_code == 201
    key = make_key(sqlite_store)
    basic = {"Authorization": "Basic " + base64.b64encode(f"me:{key.secret}".encode()).decode()}
    assert code(client.post("/jobs", json=body, headers=headers | basic)) == (403, "cross_site")
    assert client.post("/jobs", json=body, headers=headers | bearer(key)).status_code == 201


def test_the_first_key_closes_the_door_and_revoking_it_does_not_open_it(app: FastAPI, store: Store) -> None:
    anybody = caller(app)
    refused = anybody.post("/keys", json={"name": "mine"})
    assert code(refused) == (409, "first_key_must_be_admin")  # nobody could make another one
    assert anybody.get("/jobs").status_code == 200
    made = anybody.post("/keys", json={"name": "mine", "scope": "admin"})
    assert made.status_code == 201
    assert made.headers["Cache-Control"] == "no-store"
    assert code(anybody.get("/jobs")) == (401, "missing_key")
    mine = {"Authorization": f"Bearer {made.json()['secret']}"}
    assert anybody.get("/jobs", headers=mine).status_code == 200
    assert anybody.delete(made.headers["Location"], headers=mine).status_code == 204
    assert code(anybody.get("/jobs", headers=mine)) == (401, "invalid_key")
    assert code(anybody.get("/jobs")) == (401, "missing_key")
    with running(create_app(app.state.settings)) as again:
        assert code(caller(again).get("/jobs")) == (401, "missing_key")


def test_only_a_hash_of_the_secret_is_kept(app: FastAPI, store: Store) -> None:
    made = caller(app).post("/keys", json={"name": "mine", "scope": "admin", "expires_in_days": 7}).json()
    assert made["secret"].startswith(made["prefix"] + "_")
    assert len(made["secret"]) == len("graft_") + 8 + 1 + 43
    with store.db.read() as tx:
        row = tx.execute(api_keys.select()).one()
    assert made["secret"] not in str(row)
    assert made["secret"][15:] not in str(row)
    assert row.secret_sha256 == keys.hashed(made["secret"])
    mine = {"Authorization": f"Bearer {made['secret']}"}
    shown = caller(app).get("/keys", headers=mine).json()["data"]
    assert [key["id"] for key in shown] == [made["id"]]
    assert "secret" not in str(shown)
    assert made["secret"] not in repr(make_key(store)) + str(shown)


def test_every_kind_of_wrong_key_reads_the_same(app: FastAPI, store: Store) -> None:
    revoked, expired, good = (make_key(store, lifetime=timedelta(seconds=s)) for s in (60, -1, 60))
    with store.db.write() as tx:
        keys.revoke(tx, "default", revoked.id)
    unknown = good.secret[:-1] + ("a" if good.secret[-1] != "a" else "b")
    wrong: list[Any] = [f"Bearer {secret}" for secret in (revoked.secret, expired.secret, unknown, "x", "", good.id)]
    wrong += ["Bearer " + "x" * 100_000, f"Token {good.secret}", good.secret, "Basic !!!", "Basic " + good.secret]
    wrong += [b"Bearer \xff\xfe\x00", f"Bearer {good.secret} {good.secret}", f"Bearer {good.secret}\u00e9".encode()]
    answers = [
        caller(app, address=f"10.0.{i}.1").get("/jobs", headers={"Authorization": w}) for i, w in enumerate(wrong)
    ]
    assert {code(reply) for reply in answers} == {(401, "invalid_key")}
    assert {reply.headers["WWW-Authenticate"] for reply in answers} == {'Bearer realm="graft"'}
    bodies = [{**reply.json()["error"], "request_id": ""} for reply in answers]
    assert bodies.count(bodies[0]) == len(wrong)
    assert caller(app, good).get("/jobs").status_code == 200


def test_two_authorization_headers_are_refused(small: FastAPI, sqlite_store: Store) -> None:
    one, other = bearer(make_key(sqlite_store)), bearer(make_key(sqlite_store, "other"))
    both = [*one.items(), *other.items()]
    assert code(caller(small).get("/jobs", headers=both)) == (401, "invalid_key")
    assert code(caller(small).get("/jobs", headers=[*one.items(), *one.items()])) == (401, "invalid_key")


def test_a_browser_is_asked_for_a_password_and_may_send_the_key_as_one(small: FastAPI, sqlite_store: Store) -> None:
    key = make_key(sqlite_store)
    asked = caller(small).get("/jobs", headers={"Accept": "text/html,*/*;q=0.8"})
    assert "Basic " in asked.headers["WWW-Authenticate"]
    assert asked.json()["error"]["request_id"] == asked.headers["X-Request-ID"]
    for user in ("", "me"):
        assert caller(small).get("/jobs", auth=(user, key.secret)).status_code == 200


def test_what_is_public_and_what_is_not(small: FastAPI, sqlite_store: Store) -> None:
    make_key(sqlite_store)
    stranger = caller(small, address="10.0.0.9")
    for path in ("/", "/healthz", "/docs", "/openapi.json", "/static-offline-docs/swagger-ui-bundle.js"):
        assert stranger.get(path).status_code == 200, path
    assert stranger.get("/readyz").status_code in (200, 503)
    closed = ["/metrics", "/methods", "/base-models", "/jobs", "/nowhere", "/healthz/", "/docs/", "/Docs"]
    closed += ["/static-offline-docs", "/jobs/", "/healthz/../jobs", "/docs/..%2fjobs", "/%2e%2e/jobs"]
    for path in closed:
        for method in ("GET", "HEAD", "POST", "OPTIONS"):
            assert stranger.request(method, path).status_code == 401, (method, path)
    for path in (
        "/static-offline-docs/../jobs",
        "/static-offline-docs/%2e%2e/jobs",
        "/static-offline-docs//etc/passwd",
    ):
        assert stranger.get(path).status_code in (401, 404), path


def test_nothing_on_disk_can_be_reached_by_a_path(small: FastAPI, sqlite_store: Store) -> None:
    with serving(small.state.settings.model_copy()) as url:
        host, port = url.removeprefix("http://").split(":")
        for path in ("/static-offline-docs/../../app/main.py", "/static-offline-docs/..%2f..%2fapp/main.py"):
            with httpx2.Client(base_url=f"http://{host}:{port}") as client:
                reply = client.get(httpx2.URL(url).copy_with(raw_path=path.encode()))
            assert reply.status_code in (401, 404), path
            assert b"import" not in reply.content


def test_every_route_is_public_or_names_its_scope(small: FastAPI) -> None:
    checked: dict[str, int] = {"public": 0} | dict.fromkeys(SCOPES, 0)
    for route in _routes(small):
        for method in route.methods or ():
            scopes = _scopes(route.dependant)
            if is_public(route.path, method):
                checked["public"] += 1
                continue
            assert scopes, f"{method} {route.path} asks for no scope"
            checked[max(scopes, key=SCOPES.index)] += 1
            if method in ("POST", "PUT", "PATCH", "DELETE") and not route.path.endswith("/predict"):
                assert scopes != {"read"}, f"{method} {route.path} changes something with the scope read"
    assert checked["public"] >= 4
    assert checked["read"] >= 15
    assert checked["write"] >= 5
    assert checked["admin"] >= 6


def _routes(app: FastAPI) -> list[APIRoute]:
    found = list(api_routes(app.routes))
    others = {getattr(route, "path", "") for route in app.routes if not isinstance(route, APIRoute)}
    assert others <= {"", "/openapi.json", "/static-offline-docs"}
    described = {(path, method) for path, calls in app.openapi()["paths"].items() for method in calls}
    walked = {(route.path_format, method.lower()) for route in found for method in route.methods or ()}
    assert described <= walked
    return found


def _scopes(dependant: Any) -> set[Scope]:
    found = {dependant.call.scope} if isinstance(dependant.call, Needs) else set()
    return found.union(*(_scopes(one) for one in dependant.dependencies))


@pytest.mark.parametrize("held", SCOPES)
def test_a_scope_covers_those_below_it(app: FastAPI, store: Store, held: Scope) -> None:
    job = add_job(store, add_dataset(store))
    client = caller(app, make_key(store, scope=held))
    calls = {"read": ("GET", f"/jobs/{job}", 200), "write": ("POST", f"/jobs/{job}/cancel", 202)}
    calls["admin"] = ("GET", "/keys", 200)
    for needed, (method, path, status) in calls.items():
        reply = client.request(method, path)
        if SCOPES.index(held) >= SCOPES.index(needed):
            assert reply.status_code == status
        else:
            assert code(reply) == (403, "scope_too_small")
            assert f"`{needed}`" in reply.json()["error"]["hint"]


def test_an_admin_makes_keys_of_its_own_tenant_alone(app: FastAPI, store: Store) -> None:
    client = caller(app, make_key(store, "blue"))
    made = client.post("/keys", json={"name": "n", "scope": "read"}).json()
    with store.db.read() as tx:
        assert keys.owner(tx, made["id"]) == "blue"
    assert code(client.post("/keys", json={"name": "n", "tenant": "default"})) == (422, "unknown_field")
    elsewhere = make_key(store, "green")
    for method, path in (("GET", ""), ("POST", "/rotate"), ("DELETE", "")):
        assert code(client.request(method, f"/keys/{elsewhere.id}{path}")) == (404, "key_not_found")
    assert caller(app, elsewhere).get("/keys").status_code == 200


def test_rotation_gives_the_old_key_a_grace(app: FastAPI, store: Store) -> None:
    admin, old = make_key(store), make_key(store, scope="read", lifetime=timedelta(days=10))
    client = caller(app, admin)
    new = client.post(f"/keys/{old.id}/rotate", json={"grace_seconds": 3600}).json()
    assert (new["name"], new["scope"]) == (old.name, "read")
    assert caller(app, old).get("/jobs").status_code == 200
    assert client.get("/jobs", headers={"Authorization": f"Bearer {new['secret']}"}).status_code == 200
    with store.db.read() as tx:
        found = keys.get(tx, "default", old.id)
        assert found.expires_at is not None
        assert timedelta(minutes=59) < found.expires_at - old.created_at < timedelta(minutes=62)
        fresh = keys.get(tx, "default", new["id"])
        assert fresh.expires_at is not None
        assert abs(fresh.expires_at - fresh.created_at - timedelta(days=10)) < timedelta(seconds=1)
    assert client.post(f"/keys/{new['id']}/rotate").status_code == 201
    assert code(client.get("/jobs", headers={"Authorization": f"Bearer {new['secret']}"})) == (401, "invalid_key")
    assert code(client.post(f"/keys/{new['id']}/rotate")) == (409, "key_ended")


def test_a_key_revoked_elsewhere_is_refused_within_five_seconds(app: FastAPI, store: Store) -> None:
    key = make_key(store)
    client = caller(app, key)
    assert client.get("/jobs").status_code == 200
    with store.db.write() as tx:
        keys.revoke(tx, "default", key.id)  # as another process does
    revoked_at = time.monotonic()
    asked_at = revoked_at
    while client.get("/jobs").status_code == 200:
        assert asked_at - revoked_at < 5
        time.sleep(0.1)
        asked_at = time.monotonic()
    assert code(client.get("/jobs")) == (401, "invalid_key")


def test_an_event_stream_ends_when_its_key_does(
    settings: Settings, sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.jobs.stream.KEEP_ALIVE_SECONDS", 1.0)  # the key is looked at when something is sent
    key = make_key(sqlite_store)
    job = add_job(sqlite_store, add_dataset(sqlite_store))
    headers = bearer(key) | {"Accept": "text/event-stream"}
    with serving(settings) as url, httpx2.Client(base_url=url, headers=headers, timeout=60) as client:
        with client.stream("GET", f"/jobs/{job}/events") as reply:
            lines = reply.iter_lines()
            assert next(lines)
            with sqlite_store.db.write() as tx:
                keys.revoke(tx, "default", key.id)
            rest = list(lines)  # ends by itself
        assert not any("event: end" in line for line in rest)
        assert client.get(f"/jobs/{job}").status_code == 401


def test_use_is_noted_once_a_minute(app: FastAPI, store: Store) -> None:
    key = make_key(store)
    assert caller(app, key).get("/jobs").status_code == 200
    deadline = time.monotonic() + 60
    while (used := _used(store, key.id)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    app.state.gate._used.clear()  # as another process, which does not know
    assert caller(app, key).get("/jobs").status_code == 200
    app.state.gate.close()
    assert _used(store, key.id) == used


def _used(store: Store, key_id: str) -> Any:
    with store.db.read() as tx:
        return keys.get(tx, "default", key_id).last_used_at


def test_a_database_that_is_away_lets_nobody_in(app: FastAPI, store: Store) -> None:
    key = make_key(store)
    live = app.state.store.db
    broken = type(live)("postgresql+psycopg://nobody@127.0.0.1:1/none")
    object.__setattr__(app.state.store, "db", broken)
    try:
        replies = [caller(app).get("/jobs"), caller(app, key).get("/methods")]
    finally:
        object.__setattr__(app.state.store, "db", live)
        broken.close()
    for reply in replies:
        assert code(reply) == (503, "database_unavailable")
        assert reply.headers["Retry-After"]
    assert caller(app, key).get("/methods").status_code == 200


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What the process writes into its log, set up as in the real program."""
    root, text = logging.getLogger(), io.StringIO()
    before, level = root.handlers[:], root.level
    monkeypatch.setattr("sys.stderr", text)
    logs.configure("test")
    yield text
    root.handlers = before
    root.setLevel(level)
    structlog.reset_defaults()


def test_no_secret_gets_into_the_log(
    log: io.StringIO, small: FastAPI, sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = make_key(sqlite_store)
    client = caller(small, key)
    client.get("/jobs")
    client.get(f"/{key.secret}")
    client.get(f"/jobs?api_key={key.secret}")
    client.get("/jobs", headers={"X-Request-ID": key.secret})
    client.post("/keys", json={"name": key.secret, "nonsense": key.secret})
    caller(small, address="10.0.0.1").get("/jobs", headers={"Authorization": f"Bearer x{key.secret}"})
    monkeypatch.setattr("core.store.jobs.page", lambda *_, **__: {}[key.secret])
    assert client.get("/jobs").status_code == 500
    made = client.post(f"/keys/{key.id}/rotate").json()["secret"]
    written = log.getvalue()
    assert "unexpected_error" in written
    assert key.secret[15:] not in written
    assert made not in written


def test_a_web_socket_is_turned_away(small: FastAPI, sqlite_store: Store) -> None:
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect), caller(small).websocket_connect("/jobs"):
        pass


def test_the_client_of_the_tests_is_a_neighbour(client: TestClient) -> None:
    assert client.get("/usage").json()["tenant"] == "default"
