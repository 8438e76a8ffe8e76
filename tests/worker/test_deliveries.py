"""Webhooks, from the end of a job to a receiver on loopback: signed, again and again, and only where it is allowed."""

import json
import socket
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from fastapi.encoders import jsonable_encoder
from sqlalchemy import update
from standardwebhooks import Webhook, WebhookVerificationError

from core import secret
from core.contract.base import new_id
from core.contract.jobs import JobSpec
from core.contract.webhooks import Delivery
from core.settings import Settings
from core.store import jobs, webhooks
from core.store.store import Store
from core.store.tables import deliveries
from tests.worker.conftest import Place
from tests.worker.receiver import receiving
from worker.deliveries import PAUSES, Deliverer, pause

TENANT = "default"
SOURCE = "ds_" + "0" * 26
LOOPBACK = "127.0.0.0/8,::1/128"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"webhook_allow": LOOPBACK})


def ended_job(store: Store, url: str, tenant: str = TENANT) -> str:
    """A job with a webhook that was cancelled before it began."""
    job_id = new_id("job")
    spec = JobSpec.model_validate({"source": SOURCE, "webhook": {"url": url}})
    with store.db.write() as tx:
        jobs.add(tx, tenant, job_id, spec)
        jobs.request(tx, tenant, job_id, cancel=True)
    return job_id


def delivery(store: Store, job_id: str, tenant: str = TENANT) -> Delivery:
    with store.db.read() as tx:
        (found,) = webhooks.of_job(tx, tenant, job_id)
    return found


def make_due(store: Store) -> None:
    """As if the pause were over."""
    with store.db.write() as tx:
        tx.execute(update(deliveries).where(deliveries.c.state == "pending").values(next_at=0.0))


def webhook(settings: Settings, generation: int = 0) -> Webhook:
    return Webhook(secret.webhook_secret(secret.master(settings), TENANT, generation))


def test_an_end_is_told_once_signed_with_the_whole_job(store: Store, settings: Settings) -> None:
    with receiving() as receiver:
        job_id = ended_job(store, f"{receiver.url}/hook/é?a=1&b=x y".replace(" ", "%20"))
        assert Deliverer(store, settings).run_due() == 1
        assert Deliverer(store, settings).run_due() == 0
        (message,) = receiver.got
    assert message.path == "/hook/%C3%A9?a=1&b=x%20y"
    assert message.headers["content-type"] == "application/json"
    assert message.headers["host"] == receiver.url.removeprefix("http://")
    said: Any = webhook(settings).verify(message.body.decode(), message.headers)
    with store.db.read() as tx:
        job = jobs.get(tx, TENANT, job_id)
    assert said["type"] == "job.cancelled"
    assert said["data"] == jsonable_encoder(job)  # as FastAPI writes it
    assert job.finished_at is not None
    assert said["timestamp"] == job.finished_at.isoformat()
    with pytest.raises(WebhookVerificationError):
        webhook(settings).verify(message.body.decode().replace("cancelled", "succeeded"), message.headers)
    found = delivery(store, job_id)
    assert (found.state, found.attempts, found.last_status, found.last_error) == ("delivered", 1, 204, None)
    assert found.delivered_at is not None
    assert found.id == message.headers["webhook-id"]


def test_a_rotation_breaks_no_receiver(store: Store, settings: Settings) -> None:
    with store.db.write() as tx:
        assert webhooks.rotate(tx, TENANT) == 1
        assert webhooks.rotate(tx, TENANT) == 2
    with receiving() as receiver:
        ended_job(store, receiver.url)
        Deliverer(store, settings).run_due()
        (message,) = receiver.got
    for generation in (2, 1):
        webhook(settings, generation).verify(message.body.decode(), message.headers)
    with pytest.raises(WebhookVerificationError):
        webhook(settings, 0).verify(message.body.decode(), message.headers)


def test_a_refusal_is_tried_again_with_the_same_id_and_a_new_time(store: Store, settings: Settings) -> None:
    with receiving(500, 302, 200) as receiver:
        job_id = ended_job(store, receiver.url)
        deliverer = Deliverer(store, settings)
        began = time.time()
        deliverer.run_due()
        ended = time.time()
        first = delivery(store, job_id)
        assert (first.state, first.attempts, first.last_status) == ("pending", 1, 500)
        assert first.next_at is not None
        assert began + 0.8 * PAUSES[0] <= first.next_at.timestamp() <= ended + 1.2 * PAUSES[0]
        assert deliverer.run_due() == 0  # not due yet
        make_due(store)
        deliverer.run_due()
        assert delivery(store, job_id).last_status == 302
        make_due(store)
        deliverer.run_due()
    assert delivery(store, job_id).state == "delivered"
    assert [message.path for message in receiver.got] == ["/"] * 3  # the redirect was not followed
    assert len({message.headers["webhook-id"] for message in receiver.got}) == 1
    assert len({message.body for message in receiver.got}) == 1


def test_it_gives_up_after_the_last_pause_and_can_be_asked_again(store: Store, settings: Settings) -> None:
    with receiving(503) as receiver:
        job_id = ended_job(store, receiver.url)
        deliverer = Deliverer(store, settings)
        for _ in range(len(PAUSES) + 1):
            make_due(store)
            assert deliverer.run_due() == 1
        found = delivery(store, job_id)
        assert (found.state, found.attempts, found.next_at) == ("failed", 8, None)
        make_due(store)
        assert deliverer.run_due() == 0
        receiver.answers = [200]
        with store.db.write() as tx:
            assert webhooks.retry(tx, TENANT, job_id, found.id).state == "pending"
        assert deliverer.run_due() == 1
        assert delivery(store, job_id).state == "delivered"


def test_gone_ends_it_at_once(store: Store, settings: Settings) -> None:
    with receiving(410) as receiver:
        job_id = ended_job(store, receiver.url)
        Deliverer(store, settings).run_due()
    assert (delivery(store, job_id).state, delivery(store, job_id).last_status) == ("failed", 410)


def test_pauses_grow_and_spread() -> None:
    for attempt, base in enumerate(PAUSES, 1):
        drawn = [pause(attempt) or 0.0 for _ in range(200)]
        assert base * 0.8 <= min(drawn) < base * 0.95
        assert base * 1.05 < max(drawn) <= base * 1.2
    assert pause(len(PAUSES) + 1) is None


def test_two_workers_never_send_the_same_one_at_once(store: Store, settings: Settings) -> None:
    with receiving() as receiver:
        expected = {delivery(store, ended_job(store, f"{receiver.url}/{i}")).id for i in range(24)}
        workers = [Deliverer(store, settings) for _ in range(3)]
        threads = [threading.Thread(target=worker.run_due) for worker in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        ids = [message.headers["webhook-id"] for message in receiver.got]
    assert sorted(ids) == sorted(expected)


def test_a_hanging_receiver_holds_up_nobody_else(store: Store, settings: Settings) -> None:
    """Sixteen messages to somebody who never answers, then one to somebody who does."""
    with receiving() as hanging, receiving() as quick:
        hanging.act = lambda _: hanging.quit.wait(60) and None
        stuck = [ended_job(store, hanging.url) for _ in range(16)]
        job_id = ended_job(store, quick.url)
        quitting = threading.Event()
        deliverer = Deliverer(store, settings, quitting.is_set, seconds=30)
        thread = threading.Thread(target=deliverer.run_due)
        thread.start()
        deadline = time.monotonic() + 25  # less than the 30 seconds that a receiver is waited for
        while not quick.got:
            assert time.monotonic() < deadline, "the quick one had to wait"
            time.sleep(0.02)
        while len(hanging.got) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert len(hanging.got) == 2
        assert delivery(store, stuck[0]).state == "pending"
        quitting.set()
        thread.join(10)
        assert not thread.is_alive()  # told to end, it waits for no receiver
        hanging.quit.set()
        while sum(delivery(store, one).last_error == "Not sent: it hung up." for one in stuck) < 2:
            assert time.monotonic() < deadline + 20
            time.sleep(0.02)
    assert delivery(store, job_id).state == "delivered"


def _drip(handler: BaseHTTPRequestHandler) -> None:
    """An answer that never ends, byte by byte, so that no single read takes long."""
    try:
        for letter in "HTTP/1.1 200 " + "x" * 10_000:
            handler.wfile.write(letter.encode())
            time.sleep(0.05)
    except OSError:
        pass


def _endless(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    try:
        while True:
            handler.wfile.write(b"x" * 65536)
    except OSError:
        pass


def test_a_dripping_answer_is_broken_off(sqlite_store: Store, settings: Settings) -> None:
    with receiving() as receiver:
        receiver.act = _drip
        job_id = ended_job(sqlite_store, receiver.url)
        began = time.monotonic()
        Deliverer(sqlite_store, settings, seconds=1.0).run_due()
        assert time.monotonic() - began < 60  # the whole answer would take eight minutes
    found = delivery(sqlite_store, job_id)
    assert (found.state, found.last_error) == ("pending", "Not sent: it took too long.")


def test_an_endless_body_is_not_read(sqlite_store: Store, settings: Settings) -> None:
    with receiving() as receiver:
        receiver.act = _endless
        job_id = ended_job(sqlite_store, receiver.url)
        Deliverer(sqlite_store, settings).run_due()
    assert delivery(sqlite_store, job_id).state == "delivered"


def test_what_went_wrong_is_told_without_addresses(sqlite_store: Store, settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    cases = {
        f"http://127.0.0.1:{port}/": "refused the connection",
        "http://nowhere.invalid/": "not known to the resolver",
        "http://10.1.2.3/": "not public",
    }
    for url, words in cases.items():
        job_id = ended_job(sqlite_store, url)
        Deliverer(sqlite_store, settings).run_due()
        found = delivery(sqlite_store, job_id)
        assert found.state == "pending"
        assert words in str(found.last_error)
        assert not any(letter.isdigit() for letter in str(found.last_error))


@pytest.mark.parametrize("answers", [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["::ffff:7f00:1"], []])
def test_one_closed_address_is_enough_to_send_nothing(
    sqlite_store: Store, settings: Settings, answers: list[str]
) -> None:
    with receiving() as receiver:
        job_id = ended_job(sqlite_store, f"http://example.com:{receiver.port}/")
        strict = settings.model_copy(update={"webhook_allow": ""})
        Deliverer(sqlite_store, strict, resolver=lambda _host, _port: answers).run_due()
        assert receiver.got == []
    assert "not public" in str(delivery(sqlite_store, job_id).last_error)


def test_a_name_that_changes_is_asked_for_once_and_held_to_its_answer(sqlite_store: Store, settings: Settings) -> None:
    """The first answer is allowed, each later one is a trap: nothing may ask again between check and connection."""
    asked: list[str] = []

    def rebinding(host: str, _port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    with receiving() as receiver:
        job_id = ended_job(sqlite_store, f"http://rebind.example:{receiver.port}/")
        only_one = settings.model_copy(update={"webhook_allow": "127.0.0.1/32"})
        Deliverer(sqlite_store, only_one, resolver=rebinding).run_due()
        assert asked == ["rebind.example"]
        assert receiver.got[0].headers["host"] == f"rebind.example:{receiver.port}"
        assert delivery(sqlite_store, job_id).state == "delivered"
        second = ended_job(sqlite_store, f"http://rebind.example:{receiver.port}/")
        Deliverer(sqlite_store, only_one, resolver=rebinding).run_due()
        assert len(receiver.got) == 1
    assert "not public" in str(delivery(sqlite_store, second).last_error)


def test_proxies_of_the_environment_are_not_asked(
    sqlite_store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiving() as proxy, receiving() as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        ended_job(sqlite_store, receiver.url)
        Deliverer(sqlite_store, settings).run_due()
        assert (len(proxy.got), len(receiver.got)) == (0, 1)


def test_certificates_are_checked_against_the_name(
    sqlite_store: Store, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=hook.example"]
    names = ["-addext", "subjectAltName=DNS:hook.example", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run([*command, *names], cwd=tmp_path, check=True, capture_output=True)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")

    def send(host: str) -> Delivery:
        job_id = ended_job(sqlite_store, f"https://{host}:{receiver.port}/")
        Deliverer(sqlite_store, settings, resolver=lambda _host, _port: ["127.0.0.1"]).run_due()
        return delivery(sqlite_store, job_id)

    with receiving(tls=server) as receiver:
        assert "certificate is not valid" in str(send("hook.example").last_error)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
        assert "certificate is not valid" in str(send("other.example").last_error)
        assert receiver.got == []
        assert send("hook.example").state == "delivered"


def test_a_deleted_job_is_not_told_of(store: Store, settings: Settings) -> None:
    with receiving() as receiver:
        job_id = ended_job(store, receiver.url)
        with store.db.write() as tx:
            jobs.remove(tx, TENANT, job_id)
        assert Deliverer(store, settings).run_due() == 0
        assert receiver.got == []


def test_a_worker_that_died_while_sending_is_stood_in_for(store: Store, settings: Settings) -> None:
    with receiving() as receiver:
        job_id = ended_job(store, receiver.url)
        with store.db.write() as tx:
            dead = webhooks.claim(tx, 60)
        assert dead is not None
        assert delivery(store, job_id).state == "pending"
        assert Deliverer(store, settings).run_due() == 0
        with store.db.write() as tx:
            tx.execute(update(deliveries).values(next_at=0.0))
        assert Deliverer(store, settings).run_due() == 1
        with store.db.write() as tx:
            assert not webhooks.finish(tx, dead, webhooks.Outcome(False, 500, "late", 5.0))
    assert (delivery(store, job_id).state, delivery(store, job_id).attempts) == ("delivered", 2)


def test_a_real_worker_tells_of_a_real_end(place: Place, valkey_url: str) -> None:
    with receiving() as receiver:
        spec = {"source": place.source, "metadata": {"do": "finish"}, "webhook": {"url": receiver.url}}
        job_id = new_id("job")
        with place.store.db.write() as tx:
            jobs.add(tx, TENANT, job_id, JobSpec.model_validate(spec))
        place.worker(broker_url=valkey_url, webhook_allow=LOOPBACK)
        place.until_done(job_id)
        place.until(lambda: delivery(place.store, job_id).state == "delivered")
        (message,) = receiver.got
    said = json.loads(message.body)
    assert said["type"] == "job.succeeded"
    assert said["data"]["model_id"] == place.job(job_id).model_id
    webhook(place.settings).verify(message.body.decode(), message.headers)
