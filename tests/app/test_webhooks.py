"""Webhooks over HTTP: which addresses are taken, the secret, deliveries and their retries."""

import base64
import multiprocessing
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr, ValidationError
from sqlalchemy import update

from core import secret
from core.settings import Settings
from core.store import jobs, webhooks
from core.store.store import Store
from core.store.tables import deliveries
from tests.app.conftest import neighbour
from tests.app.seed import OTHER, TENANT, add_dataset, start_job

PUBLIC = "https://example.com/hook?x=1"

REFUSED = [
    *("http://127.0.0.1/", "http://127.0.0.1:8000/x", "http://127.1/", "http://0.0.0.0/", "http://0/", "http://[::1]/"),
    *("http://[::]/", "http://169.254.169.254/latest/meta-data/", "http://2130706433/", "http://0x7f000001/"),
    *("http://0x7f.1/", "http://0177.0.0.1/", "http://017700000001/", "http://[::ffff:127.0.0.1]/"),
    *("http://[::ffff:7f00:1]/", "http://[64:ff9b::7f00:1]/", "http://[64:ff9b:1::1]/", "http://[2002:7f00:1::]/"),
    *("http://[2001::1]/", "http://[fe80::1]/", "http://[fe80::1%25eth0]/", "http://[fec0::1]/", "http://[fd00::1]/"),
    *("http://224.0.0.1/", "http://[ff02::1]/", "http://10.0.0.1/", "http://192.168.0.1/", "http://172.16.0.1/"),
    *(
        "http://100.64.0.1/",
        "http://255.255.255.255/",
        "http://localhost/",
        "http://LOCALHOST:80/",
        "http://localhost./",
    ),
    *(
        "http://a.localhost/",
        "http://127.0.0.1./",
        "http://１２７.０.０.１/",
        "http://127。0。0。1/",
        "http://%31%32%37.0.0.1/",
    ),
    *(
        "http://user@example.com/",
        "http://user:pass@example.com/",
        "http://example.com\\@127.0.0.1/",
        "http://@127.0.0.1/",
    ),
    *(
        "http://example.com:0/",
        "http://example.com:99999/",
        "http://example.com:x/",
        "http://[::1/",
        "http:///x",
        "https://",
    ),
    *("http://.../", "http://exa_mple$.com/"),
]


def launch(client: TestClient, source: str, url: str) -> Any:
    return client.post("/jobs", json={"source": source, "webhook": {"url": url}})


def test_every_trick_of_an_address_is_refused_and_told(sqlite_client: TestClient, sqlite_store: Store) -> None:
    source = add_dataset(sqlite_store)
    for url in REFUSED:
        reply = launch(sqlite_client, source, url)
        assert reply.status_code == 422, url
        error = reply.json()["error"]
        if error["code"] != "webhook_not_allowed":
            assert url in ("https://",), (url, error)  # so short that its shape alone is wrong
            continue
        assert error["param"] == "webhook.url", url
        assert "GRAFT_WEBHOOK_ALLOW" in error["hint"]
    for url in ("ftp://example.com/", "file:///etc/passwd", "gopher://x/", "example.com", "javascript:alert(1)"):
        reply = launch(sqlite_client, source, url)
        assert (reply.status_code, reply.json()["error"]["param"]) == (422, "webhook.url"), url
    assert sqlite_client.get("/jobs").json()["data"] == []


@pytest.mark.parametrize(
    "url",
    [PUBLIC, "http://8.8.8.8:8080/", "http://[2606:4700:4700::1111]/", "https://münchen.example/ü", "HTTP://E.com"],
)
def test_public_addresses_are_taken(sqlite_client: TestClient, sqlite_store: Store, url: str) -> None:
    reply = launch(sqlite_client, add_dataset(sqlite_store), url)
    if url.startswith("HTTP"):
        assert reply.status_code == 422
        return
    assert reply.status_code == 201, reply.text
    assert reply.json()["webhook"] == {"url": url}


def test_the_operator_may_allow_networks(settings: Settings, sqlite_store: Store) -> None:
    allowed = settings.model_copy(update={"webhook_allow": "10.1.0.0/16, ::1/128"})
    source = add_dataset(sqlite_store)
    with neighbour(allowed) as client:
        statuses = [launch(client, source, f"http://{host}/").status_code for host in ("10.1.2.3", "[::1]", "10.2.0.1")]
    assert statuses == [201, 201, 422]
    with pytest.raises(ValidationError, match="webhook_allow"):
        Settings(webhook_allow="10.1.0.0/16,nonsense")


def test_the_secret_belongs_to_the_tenant_and_rotates(client: TestClient, app_settings: Settings) -> None:
    first = client.get("/webhooks/secret")
    assert first.headers["cache-control"] == "no-store"
    text = first.json()["secret"]
    assert text.startswith("whsec_")
    assert len(base64.b64decode(text.removeprefix("whsec_"))) == 32
    assert client.get("/webhooks/secret").json()["secret"] == text
    rotated = client.post("/webhooks/secret/rotate").json()["secret"]
    assert rotated != text
    assert client.get("/webhooks/secret").json()["secret"] == rotated
    key = secret.master(app_settings)
    assert rotated == secret.webhook_secret(key, TENANT, 1)
    assert secret.webhook_secret(key, OTHER, 1) != rotated
    assert client.post("/webhooks/secret/rotate").json()["secret"] == secret.webhook_secret(key, TENANT, 2)


def _master(root: str, start: Any, found: Any) -> None:
    settings = Settings(data_dir=Path(root))
    start.wait(60)
    found.put(secret.master(settings))


def test_the_key_is_made_once_whoever_comes_first(settings: Settings) -> None:
    context = multiprocessing.get_context("spawn")
    for round_ in range(2):
        root = settings.root / str(round_)
        start, found = context.Barrier(4), context.Queue()
        makers = [context.Process(target=_master, args=(str(root), start, found)) for _ in range(4)]
        for maker in makers:
            maker.start()
        keys = {found.get(timeout=120) for _ in makers}
        for maker in makers:
            maker.join(60)
        assert len(keys) == 1
        assert len(keys.pop()) == 32
        assert [path.name for path in root.iterdir()] == ["secret"]
        assert stat.S_IMODE((root / "secret").stat().st_mode) == 0o600


def test_the_key_may_come_from_the_environment_and_a_damaged_one_is_told(settings: Settings) -> None:
    assert secret.master(settings.model_copy(update={"secret": SecretStr("a phrase")})) == b"a phrase"
    assert not (settings.root / "secret").exists()
    settings.root.mkdir(parents=True, exist_ok=True)
    (settings.root / "secret").write_bytes(b"short")
    with pytest.raises(Exception, match="damaged"):
        secret.master(settings)


def test_the_program_that_needs_no_key_makes_none(settings: Settings, sqlite_client: TestClient) -> None:
    assert sqlite_client.get("/jobs").status_code == 200
    assert not (settings.root / "secret").exists()
    code = "from core import secret; from core.settings import Settings; print(len(secret.master(Settings())))"
    environment = {"GRAFT_DATA_DIR": str(settings.root)}
    root = Path(__file__).parents[2]
    found = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, check=True)
    assert found.stdout.strip() == b"32"


def test_deliveries_are_listed_and_sent_again(client: TestClient, store: Store) -> None:
    source = add_dataset(store)
    job_id = launch(client, source, PUBLIC).json()["id"]
    assert client.get(f"/jobs/{job_id}/deliveries").json()["data"] == []
    client.post(f"/jobs/{job_id}/cancel")
    (found,) = client.get(f"/jobs/{job_id}/deliveries").json()["data"]
    assert (found["event"], found["state"], found["attempts"]) == ("job.cancelled", "pending", 0)
    assert found["next_at"] is not None
    path = f"/jobs/{job_id}/deliveries/{found['id']}/retry"
    with store.db.write() as tx:
        tx.execute(update(deliveries).values(state="failed", next_at=None, last_status=500))
    assert client.get(f"/jobs/{job_id}/deliveries").json()["data"][0]["state"] == "failed"
    again = client.post(path)
    assert (again.status_code, again.json()["state"]) == (202, "pending")
    with store.db.write() as tx:
        assert webhooks.claim(tx, 60) is not None
    busy = client.post(path)
    assert (busy.status_code, busy.json()["error"]["code"]) == (409, "delivery_under_way")
    unknown = client.post(path.replace("whd_0", "whd_7"))
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "delivery_not_found")
    nobody = client.get(f"/jobs/{job_id.replace('job_0', 'job_7')}/deliveries")
    assert (nobody.status_code, nobody.json()["error"]["code"]) == (404, "job_not_found")


def test_an_end_and_its_word_are_written_together_or_not_at_all(client: TestClient, store: Store) -> None:
    job_id = launch(client, add_dataset(store), PUBLIC).json()["id"]
    fence = start_job(store)
    with pytest.raises(RuntimeError), store.db.write() as tx:
        jobs.transition(tx, job_id, "cancelled", fence=fence)
        raise RuntimeError
    assert client.get(f"/jobs/{job_id}").json()["state"] == "running"
    assert client.get(f"/jobs/{job_id}/deliveries").json()["data"] == []
    with store.db.write() as tx:
        jobs.transition(tx, job_id, "cancelled", fence=fence)
    assert len(client.get(f"/jobs/{job_id}/deliveries").json()["data"]) == 1
