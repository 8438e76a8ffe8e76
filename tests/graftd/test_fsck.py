"""`graftd fsck`: each kind of fault is planted and found, a sound folder has none, and only orphans are removed."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, update

from core.contract.base import new_id, now
from core.settings import Settings
from core.store import jobs, workers
from core.store.store import Store
from core.store.tables import datasets, events, models
from core.store.tables import jobs as job_rows
from graftd.fsck import Findings, check, repair
from tests.app.seed import TENANT, add_dataset, add_job, start_job


def succeeded(store: Store) -> tuple[str, str]:
    """A job that made a model, as the worker leaves it; ids of both."""
    source = add_dataset(store)
    job_id, model_id = add_job(store, source), new_id("mdl")
    fence = start_job(store)
    bundle, report = store.blobs.put(b"bundle of " + job_id.encode()), store.blobs.put(b"report of " + job_id.encode())
    model = {"id": model_id, "tenant": TENANT, "job_id": job_id, "base_model": "x", "method": "y", "manifest": {}}
    with store.db.write() as tx:
        size = store.blob(bundle).stat().st_size
        tx.execute(insert(models).values(**model, files=[], bundle_sha256=bundle, bytes=size, created_at=now()))
        jobs.transition(tx, fence.id, "succeeded", fence=fence, model_id=model_id, report_sha256=report)
    return job_id, model_id


def bundle_of(store: Store, model_id: str) -> Path:
    with store.db.read() as tx:
        row = tx.execute(models.select().where(models.c.id == model_id)).one()
    return store.blob(row.bundle_sha256)


def kinds(findings: Findings) -> set[str]:
    return {fault.kind for fault in findings.faults}


def test_a_sound_folder_has_no_faults(store: Store) -> None:
    succeeded(store)
    add_job(store, add_dataset(store))
    add_dataset(store, state="rejected")
    findings = check(store, deep=True)
    assert findings.ok, findings.faults
    assert (findings.jobs, findings.models, findings.datasets) == (2, 1, 3)
    assert findings.blobs >= 4
    assert findings.notes == []


def _set(store: Store, table: str, row_id: str, **values: object) -> None:
    rows = {"jobs": job_rows, "models": models, "datasets": datasets}[table]
    with store.db.write() as tx:
        tx.execute(update(rows).where(rows.c.id == row_id).values(**values))


def _lose_event(store: Store, job_id: str, _model_id: str) -> None:
    with store.db.write() as tx:
        tx.execute(delete(events).where(events.c.job_id == job_id, events.c.seq == 2))


def _rot(store: Store, _job_id: str, model_id: str) -> None:
    path = bundle_of(store, model_id)
    path.write_bytes(b"X" + path.read_bytes()[1:])


FAULTS: dict[str, Callable[[Store, str, str], object]] = {
    "blob_missing": lambda store, _job, model: bundle_of(store, model).unlink(),
    "blob_damaged": _rot,
    "event_gap": _lose_event,
    "model_of_unfinished_job": lambda store, job, _: _set(store, "jobs", job, state="failed"),
    "model_of_nobody": lambda store, job, _: _set(store, "jobs", job, model_id=new_id("mdl")),
    "job_without_result": lambda store, job, _: _set(store, "jobs", job, report_sha256=None),
    "job_end": lambda store, job, _: _set(store, "jobs", job, finished_at=None),
    "lease_of_nobody": lambda store, job, _: _set(store, "jobs", job, lease_until=5.0),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_each_fault_is_found(store: Store, kind: str) -> None:
    FAULTS[kind](store, *succeeded(store))
    assert kinds(check(store, deep=True)) == {kind}
    assert not check(store, deep=True).ok


def test_a_bundle_cut_short_is_found_without_reading_it(store: Store) -> None:
    _, model_id = succeeded(store)
    os.truncate(bundle_of(store, model_id), 3)
    (fault,) = check(store).faults
    assert fault.kind == "blob_damaged"
    assert "3 bytes instead of" in fault.text


def test_a_running_job_without_a_lease_is_found_and_one_that_lost_its_worker_is_noted(store: Store) -> None:
    job_id = add_job(store, add_dataset(store))
    start_job(store)
    assert check(store).ok
    _set(store, "jobs", job_id, lease_until=1.0)
    findings = check(store)
    assert findings.ok
    assert [note.kind for note in findings.notes] == ["worker_lost"]
    _set(store, "jobs", job_id, lease_until=None)
    assert kinds(check(store)) == {"lease_missing"}


def test_deleting_in_good_order_is_no_fault(store: Store) -> None:
    job_id, _ = succeeded(store)
    with store.db.write() as tx:
        jobs.remove(tx, TENANT, job_id)
    other, model_id = succeeded(store)
    with store.db.write() as tx:
        tx.execute(delete(models).where(models.c.id == model_id))
    findings = check(store)
    assert findings.ok
    assert {(note.kind, note.subject) for note in findings.notes} >= {("model_deleted", other)}
    assert len(findings.orphans) == 2  # the first job's report, the second one's bundle


def test_orphans_are_counted_and_removed_and_nothing_else(store: Store) -> None:
    succeeded(store)
    before = check(store)
    orphan = store.blobs.put(b"12345")
    findings = check(store)
    assert (findings.orphans, findings.orphan_bytes, findings.ok) == ([orphan], 5, True)
    assert repair(store, findings) == 1
    after = check(store, deep=True)
    assert (after.blobs, after.orphans, after.faults) == (before.blobs, [], [])


@pytest.fixture
def command(sqlite_store: Store, settings: Settings) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GRAFT_")}

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        words = [sys.executable, "-P", "-m", "graftd", "fsck", "--data-dir", str(settings.root), *arguments]
        return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=False)

    return run


def test_the_command_tells_by_its_status_and_repairs_only_when_nobody_runs(
    sqlite_store: Store, command: Callable[..., "subprocess.CompletedProcess[str]"]
) -> None:
    _, model_id = succeeded(sqlite_store)
    orphan = sqlite_store.blobs.put(b"orphan")
    fine = command()
    assert fine.returncode == 0, fine.stderr
    assert "Everything agrees." in fine.stdout
    assert sqlite_store.blobs.exists(orphan)

    with sqlite_store.db.write() as tx:
        workers.beat(tx, "w", "jobs", host="here", pid=1)
    refused = command("--repair")
    assert refused.returncode == 1
    assert "1 worker(s) run on this database" in refused.stderr
    assert sqlite_store.blobs.exists(orphan)
    with sqlite_store.db.write() as tx:
        workers.leave(tx, "w")
    mended = command("--repair", "--json")
    assert mended.returncode == 0, mended.stderr
    assert json.loads(mended.stdout)["orphans"] == []
    assert not sqlite_store.blobs.exists(orphan)

    bundle_of(sqlite_store, model_id).unlink()
    broken = command("--json")
    assert broken.returncode == 1
    (fault,) = json.loads(broken.stdout)["faults"]
    assert fault["kind"] == "blob_missing"
    assert model_id in fault["text"]


def test_a_folder_that_a_service_holds_is_not_repaired(
    sqlite_store: Store, settings: Settings, command: Callable[..., "subprocess.CompletedProcess[str]"]
) -> None:
    from graftd.folder import DataFolder

    orphan = sqlite_store.blobs.put(b"orphan")
    folder = DataFolder(settings)
    folder.prepare()
    folder.take("http://127.0.0.1:1")
    try:
        refused = command("--repair")
    finally:
        folder.release()
    assert refused.returncode == 1
    assert "is in use by graftd" in refused.stderr
    assert sqlite_store.blobs.exists(orphan)


def test_no_database_is_told(tmp_path: Path) -> None:
    words = [sys.executable, "-P", "-m", "graftd", "fsck", "--data-dir", str(tmp_path / "none")]
    refused = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 1
    assert "There is no database" in refused.stderr
    assert not (tmp_path / "none").exists()
