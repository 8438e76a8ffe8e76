"""What can be deleted, what cannot as long as somebody needs it, and what then remains."""

from typing import Any

import psutil
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import insert, select, update

from core.contract.base import new_id, now
from core.contract.jobs import JobSpec
from core.settings import Settings
from core.store import jobs
from core.store.events import NewEvent
from core.store.store import Store
from core.store.tables import datasets as dataset_rows
from core.store.tables import deliveries, events
from core.store.tables import jobs as job_rows
from tests.app.bundles import make_bundle, put
from tests.app.seed import OTHER, TENANT, add_dataset, add_job, start_job


def code(reply: Any) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["code"]


def test_a_finished_job_goes_with_all_that_is_its_own(client: TestClient, store: Store) -> None:
    bundle = put(store, make_bundle())
    job_id = add_job(store, add_dataset(store))
    fence = start_job(store)
    report, checkpoint = store.blobs.put(b"report"), store.blobs.put(b"checkpoint")
    row = {"id": new_id("whd"), "tenant": TENANT, "job_id": job_id, "url": "http://x", "event": "job.succeeded"}
    with store.db.write() as tx:
        jobs.record(tx, fence, [NewEvent("message", {"text": str(i)}) for i in range(2000)])
        jobs.transition(tx, job_id, "succeeded", fence=fence, model_id=bundle.model.id, report_sha256=report)
        tx.execute(update(job_rows).values(checkpoint_sha256=checkpoint))
        tx.execute(insert(deliveries).values(**row, state="delivered", created_at=now()))
    reply = client.delete(f"/jobs/{job_id}")
    assert (reply.status_code, reply.content) == (204, b"")
    assert code(client.get(f"/jobs/{job_id}")) == (404, "job_not_found")
    assert code(client.delete(f"/jobs/{job_id}")) == (404, "job_not_found")
    assert client.get(f"/jobs/{job_id}/events").status_code == 404
    assert client.get(f"/jobs/{job_id}/report").status_code == 404
    with store.db.read() as tx:
        for table in (events, deliveries):
            assert tx.execute(select(table).where(table.c.job_id == job_id)).first() is None
    assert not store.blobs.exists(report)
    assert not store.blobs.exists(checkpoint)
    model = client.get(f"/models/{bundle.model.id}", headers={"Accept": "application/json"})
    assert model.json()["job_id"] == bundle.model.job_id
    assert client.get(f"/models/{bundle.model.id}").status_code == 200


def test_a_job_that_is_not_over_stays(client: TestClient, store: Store) -> None:
    job_id = add_job(store, add_dataset(store))
    refused = client.delete(f"/jobs/{job_id}")
    assert code(refused) == (409, "job_not_finished")
    assert "cancel" in refused.json()["error"]["hint"]
    start_job(store)
    assert code(client.delete(f"/jobs/{job_id}")) == (409, "job_not_finished")
    assert client.get(f"/jobs/{job_id}").status_code == 200


def test_somebody_elses_job_is_unknown(client: TestClient, store: Store) -> None:
    job_id = add_job(store, add_dataset(store, tenant=OTHER), tenant=OTHER)
    with store.db.write() as tx:
        jobs.request(tx, OTHER, job_id, cancel=True)
    assert code(client.delete(f"/jobs/{job_id}")) == (404, "job_not_found")
    with store.db.read() as tx:
        assert jobs.get(tx, OTHER, job_id).state == "cancelled"


def test_a_report_that_two_jobs_share_stays_with_the_second(client: TestClient, store: Store) -> None:
    report, ids = store.blobs.put(b"same"), []
    source = add_dataset(store)
    for _ in range(2):
        ids.append(add_job(store, source))
        with store.db.write() as tx:
            jobs.request(tx, TENANT, ids[-1], cancel=True)
            tx.execute(update(job_rows).where(job_rows.c.id == ids[-1]).values(report_sha256=report))
    assert client.delete(f"/jobs/{ids[0]}").status_code == 204
    assert store.blobs.exists(report)
    assert client.delete(f"/jobs/{ids[1]}").status_code == 204
    assert not store.blobs.exists(report)


@pytest.mark.parametrize("running", [False, True])
def test_what_an_unfinished_job_needs_stays(client: TestClient, store: Store, running: bool) -> None:
    bundle = put(store, make_bundle())
    source, evaluation, target = (add_dataset(store) for _ in range(3))
    job_id = new_id("job")
    spec = JobSpec(source=source, evaluation=evaluation, target=target, base_model=bundle.model.id)
    with store.db.write() as tx:
        jobs.add(tx, TENANT, job_id, spec)
    if running:
        start_job(store)
    for data in (source, evaluation, target):
        assert code(client.delete(f"/datasets/{data}")) == (409, "dataset_in_use")
    assert code(client.delete(f"/models/{bundle.model.id}")) == (409, "model_in_use")
    with store.db.write() as tx:
        jobs.transition(tx, job_id, "cancelled")
    for path in (*(f"/datasets/{data}" for data in (source, evaluation, target)), f"/models/{bundle.model.id}"):
        assert client.delete(path).status_code == 204


def test_a_large_data_set_goes_at_once(client: TestClient, store: Store, settings: Settings) -> None:
    """A quarter of a gigabyte that is really on the disk, beside another that shares nothing with it."""
    dataset_id = add_dataset(store)
    with store.blobs.writing() as pending:
        piece = memoryview(bytes(range(256)) * 4096 * 16)
        for _ in range(16):
            pending.write(piece)
        sha256 = pending.finish()
        with store.db.write(blobs=True) as tx:
            store.blobs.adopt(pending.path, sha256)
            tx.execute(update(dataset_rows).where(dataset_rows.c.id == dataset_id).values(content_sha256=sha256))
    assert store.blob(sha256).stat().st_size == 2**28
    process = psutil.Process()
    before = process.io_counters()
    assert client.delete(f"/datasets/{dataset_id}").status_code == 204
    after = process.io_counters()
    assert after.read_chars + after.write_chars - before.read_chars - before.write_chars < 2**24
    assert not store.blobs.exists(sha256)
    assert list((settings.root / "blobs" / "pending").iterdir()) == []
