"""What every request gets: an id, one shape of error, limits, headers."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest
from fastapi.testclient import TestClient

from core.contract.base import new_id
from core.store.store import Store
from tests.app.seed import add_dataset

JSON = {"Content-Type": "application/json"}
SOURCE = "ds_" + "0" * 26


def _method(**options: object) -> dict[str, object]:
    return {"name": "fine_tune", **options}


def _probe(regularisation: object) -> dict[str, object]:
    return {"name": "linear_probe", "regularisation": regularisation}


@pytest.mark.parametrize(
    ("body", "code", "param", "hint"),
    [
        ({"sourc": SOURCE}, "unknown_field", "sourc", "`source`"),
        ({"source": SOURCE, "budget": {"max_second": 1}}, "unknown_field", "budget.max_second", "`max_seconds`"),
        ({"source": SOURCE, "method": {"name": "fine_tun"}}, "unknown_method", "method.name", "`fine_tune`"),
        ({"source": SOURCE, "method": {"name": "LinearProbe"}}, "unknown_method", "method.name", "`linear_probe`"),
        (
            {"source": SOURCE, "method": {"name": "fine_tune", "epoch": 3}},
            "unknown_field",
            "method.epoch",
            "`epochs`",
        ),
        (
            {"source": SOURCE, "method": {"name": "fine_tune", "init": "scrach"}},
            "invalid_value",
            "method.init",
            "`scratch`",
        ),
        ({"source": SOURCE, "method": "fine_tune"}, "wrong_type", "method", '{"name": "fine_tune"}'),
        ({"source": SOURCE, "method": {}}, "missing_field", "method.name", "which kind"),
        ({"source": SOURCE, "method": None}, "wrong_type", "method", "linear_probe, fine_tune"),
        ({"source": SOURCE, "seed": "x"}, "wrong_type", "seed", "whole number from 0 to 2,147,483,647"),
        ({"source": SOURCE, "seed": "5"}, "wrong_type", "seed", "whole number from 0 to 2,147,483,647"),
        ({"source": SOURCE, "seed": 5.0}, "wrong_type", "seed", "whole number"),
        ({"source": SOURCE, "seed": True}, "wrong_type", "seed", "whole number"),
        ({"source": SOURCE, "budget": {"max_seconds": "9"}}, "wrong_type", "budget.max_seconds", "from 1 to 2,592,000"),
        ({"source": SOURCE, "method": _method(horizontal_flip=1)}, "wrong_type", "method.horizontal_flip", "true or"),
        ({"source": SOURCE, "method": _method(head_lr="0.1")}, "wrong_type", "method.head_lr", "above 0 to 10"),
        ({"source": SOURCE, "seed": -1}, "out_of_range", "seed", "from 0"),
        ({"source": SOURCE, "seed": None}, "wrong_type", "seed", "Seed of everything"),
        ({"source": SOURCE, "budget": {"max_seconds": 0}}, "out_of_range", "budget.max_seconds", "from 1 to 2,592,000"),
        ({"source": SOURCE, "budget": 5}, "wrong_type", "budget", "max_seconds"),
        ({"source": SOURCE, "metadata": {"a": 1}}, "wrong_type", "metadata.a", "labels"),
        ({"source": SOURCE, "metadata": {"k" * 65: "v"}}, "out_of_range", "metadata." + "k" * 65, "64"),
        ({"source": SOURCE, "metadata": {str(i): "" for i in range(65)}}, "out_of_range", "metadata", "64"),
        ({"source": "ds_x"}, "invalid_value", "source", "GET /datasets"),
        ({"source": SOURCE, "method": _method(head_lr=0)}, "out_of_range", "method.head_lr", "above 0 to 10"),
        ({"source": SOURCE, "method": _method(freeze=3)}, "wrong_type", "method.freeze", "head only"),
        (
            {"source": SOURCE, "method": _method(mixed_precision=7)},
            "wrong_type",
            "method.mixed_precision",
            "true or false",
        ),
        ({"source": SOURCE, "method": _probe("Auto")}, "wrong_type", "method.regularisation", "`auto`"),
        ({"source": SOURCE, "method": _probe(-1)}, "out_of_range", "method.regularisation", "from 0"),
        ({"source": SOURCE, "method": _probe(1e300)}, "out_of_range", "method.regularisation", "`auto`"),
        ({}, "source_required", "source", "GET /datasets"),
        ([], "wrong_type", "body", "source"),
    ],
)
def test_a_wrong_body_is_told_by_field_reason_and_remedy(
    sqlite_client: TestClient, body: object, code: str, param: str, hint: str
) -> None:
    reply = sqlite_client.post("/jobs", json=body)
    error = reply.json()["error"]
    assert reply.status_code == 422
    assert (error["type"], error["code"], error["param"]) == ("invalid_request", code, param)
    assert hint in (error["hint"] or "")
    assert error["request_id"] == reply.headers["X-Request-ID"]


def test_all_faults_of_a_body_are_told_at_once(sqlite_client: TestClient) -> None:
    method = {"name": "fine_tune", "epochs": 0, "batch_size": 1, "optimizer": "sgd"}
    error = sqlite_client.post("/jobs", json={"source": SOURCE, "method": method}).json()["error"]
    told = {one["param"]: one["code"] for one in error["details"]["errors"]}
    assert told == {
        "method.epochs": "out_of_range",
        "method.batch_size": "out_of_range",
        "method.optimizer": "unknown_field",
    }
    assert "`optimiser`" in error["hint"]


@pytest.mark.parametrize("body", [b"{", b"", b"\xff\xfe", b"[" * 100_000, b'{"source": ' + b"1" * 9000 + b"}"])
def test_a_body_that_is_no_json_is_told_so(sqlite_client: TestClient, body: bytes) -> None:
    reply = sqlite_client.post("/jobs", content=body, headers=JSON)
    assert reply.status_code == (422 if body == b"" else 400)
    assert reply.json()["error"]["code"] == ("missing_field" if body == b"" else "invalid_json")


@pytest.mark.parametrize("text", ['{"a\\ud800": 1}', '{"source": "\\ud800"}', '{"metadata": {"\\u0000": "\\u0000"}}'])
def test_text_that_is_no_text_is_refused_in_readable_json(sqlite_client: TestClient, text: str) -> None:
    reply = sqlite_client.post("/jobs", content=text, headers=JSON)
    assert reply.status_code == 422
    assert json.loads(reply.content.decode("utf-8"))["error"]["code"]


def test_numbers_that_json_does_not_know_are_refused(sqlite_client: TestClient) -> None:
    body = f'{{"source": "{SOURCE}", "method": {{"name": "linear_probe", "regularisation": NaN}}}}'
    error = sqlite_client.post("/jobs", content=body, headers=JSON)
    assert error.status_code == 422
    assert error.json()["error"]["param"].startswith("method.regularisation")


def test_a_wrong_content_type_is_415(sqlite_client: TestClient) -> None:
    for headers in ({"Content-Type": "application/x-www-form-urlencoded"}, {"Content-Type": "text/plain"}):
        reply = sqlite_client.post("/jobs", content=b"source=x", headers=headers)
        assert reply.status_code == 415
        assert "application/json" in reply.json()["error"]["hint"]


def test_unknown_paths_methods_and_parameters(sqlite_client: TestClient) -> None:
    missing = sqlite_client.get("/job")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "route_not_found")
    assert "`/jobs`" in missing.json()["error"]["hint"]
    wrong = sqlite_client.put("/jobs")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
    assert wrong.headers["Allow"] == "GET, POST"
    unknown = sqlite_client.get("/jobs?stat=queued").json()["error"]
    assert (unknown["code"], unknown["param"]) == ("unknown_field", "stat")
    assert "`state`" in unknown["hint"]
    assert sqlite_client.get("/jobs?limit=0").json()["error"]["code"] == "out_of_range"


def test_a_wish_in_the_query_that_nobody_knows_starts_nothing(sqlite_client: TestClient, sqlite_store: Store) -> None:
    job = sqlite_client.post("/jobs?dry_runs=true", json={"source": add_dataset(sqlite_store)})
    assert (job.status_code, job.json()["error"]["param"]) == (422, "dry_runs")
    assert sqlite_client.get("/jobs").json()["data"] == []
    answer = sqlite_client.post(f"/models/{new_id('mdl')}/predict?topk=1", content=b"x")
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "unknown_field")
    assert "`top_k`" in answer.json()["error"]["hint"]


def test_ill_formed_parameters_and_headers_are_told_what_to_send(sqlite_client: TestClient) -> None:
    limit = sqlite_client.get("/jobs?limit=0").json()["error"]
    assert (limit["param"], limit["code"]) == ("limit", "out_of_range")
    assert "from 1 to 100" in limit["hint"]
    key = sqlite_client.post("/jobs", json={"source": SOURCE}, headers={"Idempotency-Key": "k" * 256}).json()["error"]
    assert key["param"] == "Idempotency-Key"
    assert "255" in key["hint"]


def test_monitors_may_ask_with_head(sqlite_client: TestClient) -> None:
    assert sqlite_client.head("/healthz").status_code == 200
    assert sqlite_client.head("/readyz").status_code == 503  # no worker here
    assert sqlite_client.head("/readyz").headers["X-Request-ID"]


def test_an_id_that_cannot_be_one_reads_like_an_unknown_one(sqlite_client: TestClient) -> None:
    for noun, prefix in (("dataset", "ds"), ("job", "job"), ("key", "key"), ("import", "imp")):
        bodies = []
        for value in (new_id(prefix), "nonsense", "a%00b"):  # type: ignore[arg-type]
            reply = sqlite_client.get(f"/{noun}s/{value}")
            assert (reply.status_code, reply.json()["error"]["code"]) == (404, f"{noun}_not_found"), value
            bodies.append({**reply.json()["error"], "message": "", "request_id": ""})
        assert bodies.count(bodies[0]) == len(bodies)


def test_a_request_id_is_kept_if_it_is_harmless(sqlite_client: TestClient) -> None:
    assert sqlite_client.get("/healthz", headers={"X-Request-ID": "mine-1"}).headers["X-Request-ID"] == "mine-1"
    for hostile in ("a b", "x" * 65, "<script>"):
        made = sqlite_client.get("/healthz", headers={"X-Request-ID": hostile}).headers["X-Request-ID"]
        assert made.startswith("req_")


def test_every_reply_carries_security_headers(sqlite_client: TestClient) -> None:
    for path in ("/", "/nowhere", "/jobs"):
        headers = sqlite_client.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_an_unexpected_error_tells_nothing_of_the_inside(
    sqlite_client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.store.jobs.page", lambda *_, **__: {}["secret-path"])
    reply = sqlite_client.get("/jobs")
    assert (reply.status_code, reply.json()["error"]["code"]) == (500, "internal_error")
    assert "secret" not in reply.text
    assert reply.json()["error"]["request_id"] == reply.headers["X-Request-ID"]


def test_a_database_that_is_away_is_503(client: TestClient, store: Store) -> None:
    live = client.app.state.store.db  # type: ignore[attr-defined]
    broken = type(live)("postgresql+psycopg://nobody@127.0.0.1:1/none")
    object.__setattr__(client.app.state.store, "db", broken)  # type: ignore[attr-defined]
    try:
        reply = client.get("/jobs")
    finally:
        object.__setattr__(client.app.state.store, "db", live)  # type: ignore[attr-defined]
        broken.close()
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "database_unavailable")
    assert reply.headers["Retry-After"]
    assert client.get("/jobs").status_code == 200


def _megabytes(count: int) -> Iterator[bytes]:
    yield b'{"metadata": {"a": "'
    for _ in range(count):
        yield b"x" * 1_000_000


def test_a_huge_json_body_is_413_at_flat_memory(sqlite_server: str) -> None:
    process = psutil.Process()
    before = process.memory_info().rss
    with httpx2.Client(base_url=sqlite_server, timeout=30) as client:
        streamed = client.post("/jobs", content=_megabytes(100), headers=JSON)
        announced = client.post("/jobs", content=b"x" * 2_000_000, headers=JSON)
        assert client.get("/healthz").status_code == 200
    for reply in (streamed, announced):
        assert (reply.status_code, reply.json()["error"]["code"]) == (413, "too_large")
        assert reply.json()["error"]["hint"]
        assert reply.json()["error"]["details"] == {"limit_bytes": 1024 * 1024}
    assert process.memory_info().rss - before < 30_000_000


def test_the_docs_need_no_other_host(sqlite_client: TestClient) -> None:
    page = sqlite_client.get("/docs").text
    assert "swagger" in page
    assert "https://" not in page
    assert sqlite_client.get("/static-offline-docs/swagger-ui-bundle.js").status_code == 200


def test_the_api_starts_without_torch_and_quickly() -> None:
    code = (
        "import app.main as m, sys; m.create_app().openapi(); print([n for n in ('torch', 'timm') if n in sys.modules])"
    )
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True
    )
    assert done.stdout.strip() == "[]"
    assert time.monotonic() - began < 20  # about 1 s on an idle machine
