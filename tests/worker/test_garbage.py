"""The collector: what nothing names goes when it is old, what anything names stays, and it gets out of the way."""

import multiprocessing
import os
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select, update

from core.contract.base import new_id, now
from core.contract.datasets import Dataset
from core.contract.uploads import Upload
from core.settings import Settings
from core.store import audit, datasets, uploads, webhooks
from core.store.store import Store
from core.store.tables import audit as audit_rows
from core.store.tables import deliveries, idempotency_keys
from core.store.tables import uploads as upload_rows
from core.store.tables import workers as worker_rows
from core.store.uploads import Kept
from tests.app.seed import TENANT, add_dataset
from tests.store.test_garbage import add_job
from tests.worker.conftest import Place
from worker.garbage import Collector, Swept

DAY = 24 * 3600.0


def age(path: Path, seconds: float) -> Path:
    """As if it had been written that long ago."""
    then = time.time() - seconds
    os.utime(path, (then, then))
    return path


def orphan(store: Store, data: bytes, seconds: float = 2 * DAY) -> str:
    sha256 = store.blobs.put(data)
    age(store.blob(sha256), seconds)
    return sha256


def add_upload(store: Store, *, expires: timedelta) -> Path:
    upload_id, at = new_id("upl"), now()
    upload = Upload(
        id=upload_id, state="open", bytes=10, received=5, metadata={}, created_at=at, expires_at=at + expires
    )
    with store.db.write() as tx:
        uploads.add(tx, TENANT, Kept(upload))
    path = store.blobs.upload(upload_id)
    path.write_bytes(b"12345")
    return age(path, 3 * DAY)


def test_only_old_orphans_go(store: Store, settings: Settings) -> None:
    dataset_id = add_dataset(store)
    running = store.blobs.put(b"checkpoint")
    add_job(store, state="running", checkpoint_sha256=running)
    for blob in store.blobs.root.glob("??/*"):
        age(blob, 90 * DAY)
    kept = sorted(path.name for path in store.blobs.root.glob("??/*"))
    young, old = store.blobs.put(b"young"), [orphan(store, f"old {i}".encode()) for i in range(130)]
    swept = Collector(store, settings).sweep()
    assert (swept.blobs, swept.bytes) == (130, sum(len(f"old {i}") for i in range(130)))
    assert sorted([*kept, young]) == sorted(path.name for path in store.blobs.root.glob("??/*"))
    assert not any(store.blobs.exists(sha256) for sha256 in old)
    assert not Collector(store, settings).sweep()
    assert dataset_id


def test_content_that_is_uploaded_again_stays(store: Store, settings: Settings) -> None:
    """The file keeps its old time when it is adopted again: only the row tells that it is needed."""
    sha256 = orphan(store, b"again")
    with store.blobs.writing() as pending:
        pending.write(b"again")
        pending.finish()
        with store.db.write(blobs=True) as tx:
            store.blobs.adopt(pending.path, sha256)
            row = Dataset(id=new_id("ds"), name="x", state="validating", bytes=5, sha256=sha256, created_at=now())
            datasets.add(tx, TENANT, row, seed=0)
    assert time.time() - store.blob(sha256).stat().st_mtime > DAY
    assert Collector(store, settings).sweep().blobs == 0
    assert store.blobs.exists(sha256)


def test_files_on_their_way_go_when_nobody_can_go_on_with_them(store: Store, settings: Settings) -> None:
    folder = store.blobs.root / "pending"
    (folder / "req_old").write_bytes(b"x")
    age(folder / "req_old", 2 * DAY)
    (folder / "req_new").write_bytes(b"x")
    (folder / "gone-1").write_bytes(b"x")  # put aside a moment ago by somebody who was killed
    resumable, expired = add_upload(store, expires=timedelta(hours=1)), add_upload(store, expires=-timedelta(seconds=1))
    stray = folder / new_id("upl")
    stray.write_bytes(b"x")
    age(stray, 2 * DAY)
    swept = Collector(store, settings).sweep()
    assert {path.name for path in folder.iterdir()} == {"req_new", resumable.name}
    assert (swept.uploads, swept.pending) == (1, 3)
    assert not expired.exists()
    with store.db.read() as tx:
        assert tx.scalars(select(upload_rows.c.id)).all() == [resumable.name]


def test_a_file_that_is_being_written_stays_even_if_garbage_has_no_age(store: Store, settings: Settings) -> None:
    (store.blobs.root / "pending" / "req_new").write_bytes(b"x")
    sha256 = store.blobs.put(b"orphan of this second")
    swept = Collector(store, settings.model_copy(update={"garbage_seconds": 0.0})).sweep()
    assert (swept.blobs, swept.pending) == (1, 0)
    assert not store.blobs.exists(sha256)


def test_old_rows_go(store: Store, settings: Settings) -> None:
    with store.db.write() as tx:
        for i in range(1203):
            old = now() - timedelta(days=2) if i < 1200 else now()
            values = {"tenant": TENANT, "key": f"k{i}", "fingerprint": "f", "created_at": old}
            tx.execute(insert(idempotency_keys).values(**values))
        for days in (400, 10):
            values = {"id": new_id("aud"), "tenant": TENANT, "at": now() - timedelta(days=days), "action": "x"}
            tx.execute(insert(audit_rows).values(**values, status=200, details={}))
        row = {"queue": "jobs", "host": "h", "pid": 1, "started_at": 0.0}
        tx.execute(insert(worker_rows).values(**row, id="dead", seen_at=0.0))
        tx.execute(insert(worker_rows).values(**row, id="alive", seen_at=time.time()))
    swept = Collector(store, settings).sweep()
    assert (swept.keys, swept.audit, swept.workers) == (1200, 1, 1)
    with store.db.read() as tx:
        assert tx.scalar(select(func.count()).select_from(idempotency_keys)) == 3
        assert len(audit.page(tx, TENANT).data) == 1


def _race(root: str, url: str, results: "multiprocessing.Queue[bool]") -> None:
    settings = Settings(data_dir=Path(root), database_url=url)
    store = Store.open(settings)
    results.put(Collector(store, settings).run_due() is not None)
    store.close()


def test_one_worker_sweeps_in_an_interval(store: Store, settings: Settings) -> None:
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[bool] = context.Queue()
    url = store.db.url.render_as_string(hide_password=False)
    racers = [context.Process(target=_race, args=(str(settings.root), url, results)) for _ in range(3)]
    for racer in racers:
        racer.start()
    assert sorted(results.get(timeout=120) for _ in racers) == [False, False, True]
    for racer in racers:
        racer.join(60)
        assert racer.exitcode == 0
    assert Collector(store, settings).run_due() is None
    age(settings.root / "garbage.lock", 601)
    assert Collector(store, settings).run_due() == Swept()
    assert Collector(store, settings).run_due() is None


def test_it_stops_when_told_to(sqlite_store: Store, settings: Settings) -> None:
    orphan(sqlite_store, b"x")
    assert Collector(sqlite_store, settings, lambda: True).sweep() == Swept()
    assert Collector(sqlite_store, settings).sweep().blobs == 1


def test_writers_hardly_wait_while_it_sweeps(store: Store, settings: Settings) -> None:
    """Two thousand orphans are removed while somebody keeps adopting; no single wait is long."""
    for i in range(2000):
        orphan(store, f"orphan {i}".encode())
    waits: list[float] = []
    thread = threading.Thread(target=Collector(store, settings).sweep)
    thread.start()
    while thread.is_alive():
        began = time.monotonic()
        with store.db.write(blobs=True):
            waits.append(time.monotonic() - began)
        time.sleep(0.005)
    assert len(list(store.blobs.root.glob("??/*"))) == 0
    assert sorted(waits)[len(waits) // 2] < 0.5  # milliseconds where nobody else uses the machine


def test_a_real_worker_sweeps(place: Place, valkey_url: str) -> None:
    sha256 = orphan(place.store, b"left behind")
    place.worker(broker_url=valkey_url)
    place.until(lambda: not place.store.blobs.exists(sha256))
    place.until(lambda: "garbage removed" in place.log.read_text())


@pytest.mark.parametrize("state", ["delivered", "pending"])
def test_old_deliveries_that_are_over_go(sqlite_store: Store, settings: Settings, state: str) -> None:
    job_id = add_job(sqlite_store)
    with sqlite_store.db.write() as tx:
        whd = {"id": new_id("whd"), "tenant": TENANT, "job_id": job_id, "url": "http://x", "event": "job.failed"}
        tx.execute(insert(deliveries).values(**whd, state=state, next_at=1.0, created_at=now()))
        tx.execute(update(deliveries).values(created_at=now() - timedelta(days=31)))
    assert Collector(sqlite_store, settings).sweep().deliveries == (state == "delivered")
    with sqlite_store.db.read() as tx:
        assert len(webhooks.of_job(tx, TENANT, job_id)) == (state != "delivered")
