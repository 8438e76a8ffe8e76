"""Bodies and queries in hostile shapes: each is told what is wrong with it, quickly and at flat memory."""

import http.client
import json
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from app.shapes import check
from core.contract.errors import InvalidRequestError
from core.settings import Settings
from core.store.store import Store
from migrations.run import upgrade
from tests.app.bundles import make_bundle, put
from tests.app.conftest import serving

SOURCE = "ds_" + "0" * 26
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "multipart/form-data; boundary=b"}
SECONDS = 15.0  # each takes far below one second on a machine that is not busy
MEMORY = 50_000_000


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shapes") / "data"


@pytest.fixture(scope="module")
def hostile(root: Path) -> Iterator[httpx2.Client]:
    """A client of a real server that all attacks of this module share."""
    settings = Settings(data_dir=root)
    store = Store.open(settings)
    upgrade(store.db)
    store.close()
    with serving(settings) as url, httpx2.Client(base_url=url, timeout=30) as client:
        client.post("/jobs", json={})  # what is loaded on first use is not the attack's
        client.post("/datasets", content=b"x", headers=FORM)
        yield client


def refused(reply: httpx2.Response, *statuses: int) -> dict[str, Any]:
    assert reply.status_code in statuses, reply.text[:500]
    error: dict[str, Any] = reply.json()["error"]
    assert error["code"]
    assert error["message"]
    assert error["request_id"] == reply.headers["X-Request-ID"]
    assert len(reply.content) < 200_000
    return error


def attack(client: httpx2.Client, *statuses: int, path: str = "/jobs", **request: Any) -> dict[str, Any]:
    """Send a hostile request; the answer is an error of ours, in time, and the process does not grow."""
    process = psutil.Process()
    before, began = process.memory_info().rss, time.monotonic()
    error = refused(client.post(path, **request), *statuses)
    assert time.monotonic() - began < SECONDS
    assert process.memory_info().rss - before < MEMORY
    return error


def job(text: str) -> bytes:
    return f'{{"source": "{SOURCE}", {text}}}'.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        (b"[" * 1_000_000, 400, "invalid_json", None),
        (b"[" * 100_000 + b"]" * 100_000, 400, "invalid_json", None),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 400, "invalid_json", None),
        (job('"metadata": ' + '{"a": ' * 100 + "1" + "}" * 100), 400, "invalid_json", None),
        (job('"seed": ' + "9" * 100_000), 400, "invalid_json", None),
        (job('"seed": -' + "9" * 1_000_000), 400, "invalid_json", None),
        (job('"seed": ' + "9" * 4000), 422, "out_of_range", "seed"),
        (job('"seed": 1e999999'), 422, "wrong_type", "seed"),
        (job('"seed": NaN'), 422, "wrong_type", "seed"),
        (job('"method": {"name": "linear_probe", "regularisation": Infinity}'), 422, None, "method.regularisation"),
        (job('"seed": 1, "seed": 2'), 422, "repeated_field", "seed"),
        (job('"metadata": {"a": "1", "a": "2"}'), 422, "repeated_field", "a"),
        (job('"metadata": {"a": "\\ud800"}'), 422, "invalid_value", "metadata.a"),
        (job('"metadata": {"\\udfff": "a"}'), 422, "invalid_value", "metadata"),
        (job('"metadata": {"a": "x\\u0000y"}'), 422, "invalid_value", "metadata.a"),
        (job('"metadata": {"a": "x\0y"}'), 400, "invalid_json", None),
        (job('"metadata": {"a": "\ud800"}'), 422, "invalid_value", "metadata.a"),
        (b"\xff\xfe\x00", 400, "invalid_json", None),
        (b'"' + b'\\"' * 500_000, 400, "invalid_json", None),
        (b'{"' + b'":"' * 300_000, 400, "invalid_json", None),
        (b"\0" * 1000, 400, "invalid_json", None),
        (b'{"a' + b"a" * 500_000 + b'": 1}', 422, "unknown_field", None),
        (json.dumps({str(i): i for i in range(60_000)}).encode(), 422, "out_of_range", "body"),
        (job('"metadata": ' + json.dumps({str(i): "" for i in range(60_000)})), 422, "out_of_range", "body"),
        (json.dumps({str(i): i for i in range(900)}).encode(), 422, "unknown_field", "0"),
        (json.dumps([{}] * 200_000).encode(), 422, "wrong_type", "body"),
    ],
    ids=range(26),
)
def test_hostile_json(hostile: httpx2.Client, body: bytes, status: int, code: str | None, param: str | None) -> None:
    error = attack(hostile, status, content=body, headers=JSON)
    assert code in (None, error["code"])
    assert param in (None, error["param"])
    assert error["hint"]


def test_two_halves_of_one_character_are_text() -> None:
    check(b'{"a": "\\ud83d\\ude00", "b": [1, {"c": "\\u00e9 \\\\u0000"}]}')
    for body in (b'["\\ude00\\ud83d"]', b'{"a": [{"\\u0000": 1}]}'):
        with pytest.raises(InvalidRequestError):
            check(body)


def test_depth_is_counted_outside_of_text() -> None:
    check(json.dumps({"a": "[" * 1000, "b": '\\"[[' * 1000}).encode())
    check(b"[" * 64 + b"]" * 64)
    with pytest.raises(InvalidRequestError):
        check(b"[" * 65 + b"]" * 65)


def test_checking_costs_little_memory() -> None:
    tracemalloc.start()
    try:
        for body in (b"[" * 1_000_000, b'"' + b"\\u0000" * 160_000 + b'"'):
            with pytest.raises(InvalidRequestError):
                check(body)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate, gzip"])
def test_packed_bodies_are_415(hostile: httpx2.Client, coding: str) -> None:
    for path, media in (("/jobs", "application/json"), ("/datasets", "application/zip"), ("/uploads", "x/y")):
        headers = {"Content-Type": media, "Content-Encoding": coding}
        error = attack(hostile, 415, path=path, content=b"\x1f\x8b", headers=headers)
        assert error["param"] == "Content-Encoding"
    assert hostile.post("/jobs", json={}, headers={"Content-Encoding": "identity"}).status_code == 422


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("/jobs?" + "&".join(f"a{i}=1" for i in range(6_000)), 422),
        ("/jobs?" + "limit=1&" * 7_000, 200),
        ("/jobs?" + "a" * 60_000, 422),
        ("/jobs?" + "a=1&" * 20_000, 431),
        ("/jobs?" + "&" * 60_000, 200),
        ("/jobs?limit=%00", 422),
        ("/jobs?limit=%zz", 422),
        ("/jobs?state=%ff%fe", 422),
        ("/jobs?cursor=" + "%F0%9F" * 1000, 422),
        ("/jobs?limit=" + "9" * 50_000, 422),
        ("/" + "a" * 60_000, 404),
        ("/" + "/" * 60_000, 404),
        ("/jobs/" + "%2e%2e%2f" * 6_000, 404),
        ("/jobs/%ff%fe%00%zz%", 404),
        ("/jobs/../../etc/passwd", 404),
        ("/" + "x" * 70_000, 431),
    ],
    ids=range(16),
)
def test_hostile_addresses(hostile: httpx2.Client, url: str, status: int) -> None:
    host, port = str(hostile.base_url).removeprefix("http://").strip("/").split(":")
    process = psutil.Process()
    before, began = process.memory_info().rss, time.monotonic()
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    try:
        connection.putrequest("GET", url, skip_accept_encoding=True)
        connection.endheaders()
        reply = connection.getresponse()
        body = json.loads(reply.read())
    finally:
        connection.close()
    assert reply.status == status
    assert time.monotonic() - began < SECONDS
    assert process.memory_info().rss - before < MEMORY
    if status != 200:
        assert body["error"]["code"]
        assert body["error"]["hint"]


def part(disposition: bytes, value: bytes = b"x", more: bytes = b"") -> bytes:
    return b"--b\r\nContent-Disposition: form-data; " + disposition + b"\r\n" + more + b"\r\n" + value + b"\r\n"


FILE = b'name="file"; filename="a.zip"'
END = b"--b--\r\n"


@pytest.mark.parametrize("path", ["/datasets", "/models"])
@pytest.mark.parametrize(
    "body",
    [
        part(b'name="name"') * 100_000 + END,
        part(FILE) * 100_000 + END,
        part(FILE, more=b"A: b\r\n" * 100_000) + END,
        part(FILE, more=b"A: " + b"x" * 2_000_000 + b"\r\n") + END,
        part(b'name="' + b"x" * 1_000_000 + b'"') + END,
        part(b'name="file"; filename="' + b"\\" * 500_000 + b'"') + END,
        b"--b\r\n" * 100_000,
        b"\r\n--" * 200_000,
        b"-" * 1_000_000,
        b"--b\r\n\r\n\r\n" * 50_000 + END,
        b"--b" + b" " * 500_000 + b"\r\n",
        part(FILE)[:-2] + b"\r\n--bb\r\n" * 10,
        part(FILE) + b"--b",
    ],
    ids=range(13),
)
def test_hostile_forms(hostile: httpx2.Client, path: str, body: bytes) -> None:
    error = attack(hostile, 400, 413, 415, 422, path=path, content=body, headers=FORM)
    assert error["hint"]


@pytest.mark.parametrize("boundary", ["", "=" * 300, '"', "a\x7fb", "b; boundary=c", '""'])
def test_hostile_boundaries(hostile: httpx2.Client, boundary: str) -> None:
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    attack(hostile, 400, 422, path="/datasets", content=part(FILE) + END, headers=headers)


def test_hostile_predictions(sqlite_server: str, sqlite_store: Store) -> None:
    model = put(sqlite_store, make_bundle()).model
    path = f"/models/{model.id}/predict"
    with httpx2.Client(base_url=sqlite_server, timeout=30) as client:
        client.post(path, json={})
        for body in (
            b"[" * 1_000_000,
            b'{"items": ' * 100_000,
            b'{"items": [{"image": "' + b"A" * 1_000_000,
            b'{"items": [{"image": "\\ud800"}], "top_k": ' + b"9" * 100_000 + b"}",
            b'{"items": [' + b"{}," * 300_000 + b"{}]}",
            b'{"items": [], "items": [{"image": 1}]}',
            b"\xff\xfe",
        ):
            assert attack(client, 400, 422, path=path, content=body, headers=JSON)["hint"]
        for form in (part(b'name="files"; filename="a"') * 100_000, part(b'name="top_k"') * 100_000, b"--b\r\n" * 9999):
            attack(client, 400, 413, 422, path=path, content=form + END, headers=FORM)
        packed = {**JSON, "Content-Encoding": "gzip"}
        attack(client, 415, path=path, content=b"x", headers=packed)


def test_nothing_is_left_of_any_of_it(hostile: httpx2.Client, root: Path) -> None:
    assert hostile.get("/datasets").json()["data"] == hostile.get("/jobs").json()["data"] == []
    assert [path for path in (root / "blobs").rglob("*") if path.is_file()] == []
