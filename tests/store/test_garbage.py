"""Which blobs are needed, and that adopting one and removing it exclude each other, between threads and processes."""

import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert, update

from core.contract.base import new_id, now
from core.contract.datasets import Dataset
from core.contract.jobs import JobSpec
from core.store import datasets, garbage, idempotency, jobs
from core.store.store import Store
from core.store.tables import api_keys, deliveries, idempotency_keys, imports, metadata, models
from core.store.tables import datasets as dataset_rows
from core.store.tables import jobs as job_rows

ROOT = Path(__file__).parents[2]
TENANT = "default"
NO_BLOBS = {api_keys.c.secret_sha256}
"""Columns that hold the SHA-256 of something that is no blob."""


def add_dataset(store: Store, sha256: str, **values: object) -> str:
    dataset = Dataset(id=new_id("ds"), name="x", state="validating", bytes=1, sha256=sha256, created_at=now())
    with store.db.write() as tx:
        datasets.add(tx, TENANT, dataset, seed=0)
        if values:
            tx.execute(update(dataset_rows).where(dataset_rows.c.id == dataset.id).values(**values))
    return dataset.id


def add_job(store: Store, **values: object) -> str:
    job_id = new_id("job")
    with store.db.write() as tx:
        jobs.add(tx, TENANT, job_id, JobSpec(source="ds_" + "0" * 26))
        tx.execute(update(job_rows).where(job_rows.c.id == job_id).values(id=job_id, **values))
    return job_id


def test_every_column_that_holds_a_hash_is_known() -> None:
    tables = metadata.tables.values()
    hashes = {column for table in tables for column in table.columns if column.name.endswith("sha256")}
    assert len(hashes) > 5
    assert hashes == set(garbage.NAMES) | NO_BLOBS


def test_what_each_column_names_and_when(store: Store) -> None:
    blobs = {name: store.blobs.put(name.encode()) for name in "abcdefghijklm"}
    add_dataset(store, blobs["a"], content_sha256=blobs["b"], manifest_sha256=blobs["c"], state="ready")
    add_dataset(store, blobs["d"], state="rejected")
    add_job(store, report_sha256=blobs["e"], state="succeeded")
    add_job(store, checkpoint_sha256=blobs["f"], state="running")
    add_job(store, checkpoint_sha256=blobs["g"], state="queued")
    add_job(store, checkpoint_sha256=blobs["h"], state="failed")
    common = {"tenant": TENANT, "created_at": now(), "metadata": {}, "name": "x", "bytes": 1}
    with store.db.write() as tx:
        for name, state in (("i", "validating"), ("j", "ready"), ("k", "rejected")):
            tx.execute(insert(imports).values(**common, id=new_id("imp"), state=state, upload_sha256=blobs[name]))
        model = {"id": new_id("mdl"), "tenant": TENANT, "base_model": "x", "method": "y", "manifest": {}, "files": []}
        tx.execute(insert(models).values(**model, bundle_sha256=blobs["l"], bytes=1, created_at=now()))
    kept = {blobs[name] for name in "abcefgil"}
    with store.db.read() as tx:
        assert garbage.named(tx) == kept
        assert garbage.named(tx, [blobs["a"], blobs["d"]]) == {blobs["a"]}
        for sha256 in blobs.values():
            assert datasets.is_named(tx, sha256) == garbage.is_named(tx, sha256) == (sha256 in kept)
    assert {blob.sha256 for blob in garbage.walk(store)} == set(blobs.values())
    assert set(garbage.drop(store, list(blobs.values()))) == set(blobs.values()) - kept
    assert {blob.sha256 for blob in garbage.walk(store)} == kept
    assert list(garbage.pending(store)) == []


def _adopt_and_drop(store: Store, rounds: int, fault: list[str]) -> None:
    """Upload the same few contents again and again; what a committed row names must be there at any time."""
    for i in range(rounds):
        data = f"content {i % 3}".encode()
        with store.blobs.writing() as pending:
            pending.write(data)
            sha256 = pending.finish()
            dataset = Dataset(id=new_id("ds"), name="x", state="validating", bytes=1, sha256=sha256, created_at=now())
            with store.db.write(blobs=True) as tx:
                store.blobs.adopt(pending.path, sha256)
                datasets.add(tx, TENANT, dataset, seed=0)
        if not store.blobs.exists(sha256):
            fault.append(f"{sha256} is named and gone")
        with store.db.write() as tx:
            unnamed = datasets.remove(tx, TENANT, dataset.id)
        garbage.drop(store, unnamed)


def test_adopting_and_collecting_exclude_each_other(store: Store) -> None:
    """Three adopt and let go, a thread and a process of their own remove whatever nothing names, all at once."""
    fault: list[str] = []
    over = threading.Event()

    def collect() -> None:
        while not over.is_set():
            garbage.drop(store, [blob.sha256 for blob in garbage.walk(store)])

    script = (
        "import sys\nfrom core.settings import Settings\nfrom core.store import garbage\n"
        "from core.store.store import Store\n"
        "store = Store.open(Settings(data_dir=sys.argv[1], database_url=sys.argv[2]))\n"
        "print('ready', flush=True)\n"
        "while True:\n    garbage.drop(store, [blob.sha256 for blob in garbage.walk(store)])\n"
    )
    url = store.db.url.render_as_string(hide_password=False)
    arguments = [sys.executable, "-c", script, str(store.blobs.root.parent), url]
    other = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE)
    assert other.stdout is not None
    try:
        assert other.stdout.readline() == b"ready\n"
        collector = threading.Thread(target=collect)
        users = [threading.Thread(target=_adopt_and_drop, args=(store, 40, fault)) for _ in range(3)]
        for thread in (collector, *users):
            thread.start()
        for thread in users:
            thread.join(120)
            assert not thread.is_alive()
        over.set()
        collector.join(30)
        assert other.poll() is None
    finally:
        over.set()
        other.kill()
        other.wait()
        other.stdout.close()
    assert fault == []


def test_a_blob_goes_with_the_last_row_that_names_it(sqlite_store: Store) -> None:
    sha256 = sqlite_store.blobs.put(b"x")
    dataset_id = add_dataset(sqlite_store, sha256)
    assert garbage.drop(sqlite_store, [sha256]) == []
    with sqlite_store.db.write() as tx:
        assert datasets.remove(tx, TENANT, dataset_id) == [sha256]
    assert garbage.drop(sqlite_store, [sha256, "0" * 64]) == [sha256]


def test_old_keys_and_deliveries_are_forgotten_and_young_or_open_ones_kept(store: Store) -> None:
    old = now() - timedelta(days=31)
    job_id = add_job(store)
    with store.db.write() as tx:
        for i in range(7):
            values = {"tenant": TENANT, "key": f"k{i}", "fingerprint": "f", "created_at": old if i < 5 else now()}
            tx.execute(insert(idempotency_keys).values(**values))
        for state, at in (("delivered", old), ("failed", old), ("pending", old), ("sending", old), ("failed", now())):
            whd = {"id": new_id("whd"), "tenant": TENANT, "job_id": job_id, "url": "http://x", "event": "job.failed"}
            tx.execute(insert(deliveries).values(**whd, state=state, created_at=at))
    with store.db.write() as tx:
        assert garbage.forget_keys(tx, 3600, 3) == 3
        assert garbage.forget_keys(tx, 3600, 3) == 2
        assert garbage.forget_keys(tx, 3600, 3) == 0
        assert garbage.forget_deliveries(tx, 30, 10) == 2
        assert garbage.forget_deliveries(tx, 30, 10) == 0


def test_an_expired_key_is_as_good_as_new(store: Store) -> None:
    with store.db.write() as tx:
        assert idempotency.begin(tx, TENANT, "k", "f1", 3600) is None
        idempotency.finish(tx, TENANT, "k", 201, {"id": "x"})
        tx.execute(update(idempotency_keys).values(created_at=now() - timedelta(seconds=3601)))
    with store.db.write() as tx:
        assert idempotency.begin(tx, TENANT, "k", "f1", 7200) is not None
        assert idempotency.begin(tx, TENANT, "k", "f2", 3600) is None  # another request, too
        idempotency.finish(tx, TENANT, "k", 201, {"id": "y"})
        replay = idempotency.begin(tx, TENANT, "k", "f2", 3600)
        assert replay is not None
        assert replay.body == {"id": "y"}


@pytest.mark.parametrize("state", ["queued", "running"])
def test_a_job_that_is_not_over_stays(store: Store, state: str) -> None:
    job_id = add_job(store, state=state)
    with store.db.write() as tx, pytest.raises(Exception, match=f"is {state}"):
        jobs.remove(tx, TENANT, job_id)
