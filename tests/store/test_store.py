"""The store on both databases: books of data sets and jobs, leases, fences, transitions, blobs."""

import pytest

from core.contract.base import new_id, now
from core.contract.datasets import Dataset, DatasetManifest, DatasetReport
from core.contract.errors import ConflictError, InvalidRequestError, NotFoundError
from core.contract.jobs import TERMINAL, TRANSITIONS, JobSpec, JobState, Progress
from core.store import datasets, events, idempotency, jobs
from core.store.events import NewEvent
from core.store.leases import LostLeaseError
from core.store.store import Store

TENANT = "acme"


def make_dataset(store: Store, content: bytes = b"zip") -> Dataset:
    sha256 = store.blobs.put(content)
    dataset = Dataset(
        id=new_id("ds"), name="photos", state="validating", bytes=len(content), sha256=sha256, created_at=now()
    )
    with store.db.write() as tx:
        datasets.add(tx, TENANT, dataset, seed=3)
    return dataset


def make_job(store: Store) -> str:
    job_id = new_id("job")
    with store.db.write() as tx:
        jobs.add(tx, TENANT, job_id, JobSpec(source=new_id("ds")))
    return job_id


def test_data_set_is_claimed_once_and_becomes_ready(store: Store) -> None:
    dataset = make_dataset(store)
    with store.db.write() as tx:
        claimed = datasets.claim_next(tx, "w1", 10)
        assert claimed is not None
        assert (claimed.fence.id, claimed.fence.attempt, claimed.seed) == (dataset.id, 1, 3)
        assert datasets.claim_next(tx, "w2", 10) is None
    manifest = DatasetManifest(modality="image", content_sha256=dataset.sha256, classes=["a", "b"], items=[])
    found = DatasetReport(files=2, items=2, labelled=True, split_source="made", seed=3, seconds=0.1)
    with store.db.write() as tx:
        datasets.mark_ready(tx, claimed.fence, manifest, dataset.sha256, found)
    with store.db.read() as tx:
        ready = datasets.get(tx, TENANT, dataset.id)
        assert datasets.report(tx, TENANT, dataset.id) == found
    assert (ready.state, ready.classes, ready.labelled) == ("ready", ["a", "b"], True)
    with store.db.write() as tx, pytest.raises(LostLeaseError):
        datasets.mark_ready(tx, claimed.fence, manifest, dataset.sha256, found)


def test_expired_lease_is_taken_over_and_the_late_write_refused(store: Store) -> None:
    make_dataset(store)
    with store.db.write() as tx:
        first = datasets.claim_next(tx, "w1", -1)
        second = datasets.claim_next(tx, "w2", 10)
    assert first is not None
    assert second is not None
    assert second.fence.attempt == 2
    with store.db.write() as tx, pytest.raises(LostLeaseError):
        datasets.heartbeat(tx, first.fence, 10)


def test_events_are_numbered_without_gaps(store: Store) -> None:
    job_id = make_job(store)
    with store.db.write() as tx:
        claimed = jobs.claim_next(tx, "w", 10)
        assert claimed is not None
        new = [NewEvent("metric", {"loss": float(i)}) for i in range(5)]
        jobs.record(tx, claimed.fence, new, progress=Progress(step="train", fraction=0.5))
    with store.db.read() as tx:
        history = events.after(tx, job_id, 0)
        job = jobs.get(tx, TENANT, job_id)
    assert [event.seq for event in history] == list(range(1, 8))
    assert [event.kind for event in history[:2]] == ["state", "state"]
    assert job.progress == Progress(step="train", fraction=0.5)


def test_lost_job_is_queued_again_and_then_given_up(store: Store) -> None:
    job_id = make_job(store)
    for attempt in (1, 2):
        with store.db.write() as tx:
            claimed = jobs.claim_next(tx, "w", -1)
            assert claimed is not None
            assert claimed.fence.attempt == attempt
            assert jobs.reconcile(tx, max_attempts=2) == 1
        with store.db.write() as tx, pytest.raises(LostLeaseError):
            jobs.record(tx, claimed.fence, [NewEvent("message", {"text": "late"})])
    with store.db.read() as tx:
        job = jobs.get(tx, TENANT, job_id)
    assert job.state == "failed"
    assert job.error is not None
    assert job.error.code == "worker_lost"


@pytest.mark.parametrize("to", ["queued", "running", "succeeded", "failed", "cancelled"])
@pytest.mark.parametrize("start", list(TRANSITIONS))
def test_only_the_transitions_of_the_table_happen(sqlite_store: Store, start: JobState, to: JobState) -> None:
    job_id = make_job(sqlite_store)
    with sqlite_store.db.write() as tx:
        if start in TERMINAL and start != "cancelled":
            jobs.transition(tx, job_id, "running")
        if start != "queued":
            jobs.transition(tx, job_id, start)
    with sqlite_store.db.write() as tx:
        if to in TRANSITIONS[start]:
            jobs.transition(tx, job_id, to)
        else:
            with pytest.raises(ConflictError):
                jobs.transition(tx, job_id, to)


def test_cancelling_a_queued_job_ends_it_and_a_second_wish_is_refused(store: Store) -> None:
    job_id = make_job(store)
    with store.db.write() as tx:
        with pytest.raises(ConflictError, match="not started"):
            jobs.request(tx, TENANT, job_id, cancel=False)
        assert jobs.request(tx, TENANT, job_id, cancel=True).state == "cancelled"
        with pytest.raises(ConflictError, match="was cancelled"):
            jobs.request(tx, TENANT, job_id, cancel=True)
        assert jobs.claim_next(tx, "w", 10) is None


def test_heartbeat_brings_the_wishes(store: Store) -> None:
    job_id = make_job(store)
    with store.db.write() as tx:
        claimed = jobs.claim_next(tx, "w", 10)
        assert claimed is not None
        assert jobs.heartbeat(tx, claimed.fence, 10) == jobs.Wishes(stop=False, cancel=False)
        jobs.request(tx, TENANT, job_id, cancel=False)
        assert jobs.heartbeat(tx, claimed.fence, 10) == jobs.Wishes(stop=True, cancel=False)


def test_another_tenant_sees_nothing(store: Store) -> None:
    dataset, job_id = make_dataset(store), make_job(store)
    with store.db.read() as tx:
        with pytest.raises(NotFoundError):
            datasets.get(tx, "other", dataset.id)
        with pytest.raises(NotFoundError):
            jobs.get(tx, "other", job_id)
        assert jobs.page(tx, "other").data == []
        assert datasets.page(tx, "other").data == []


def test_pages_run_newest_first_without_gap_or_double(store: Store) -> None:
    ids = [make_job(store) for _ in range(7)]
    seen: list[str] = []
    cursor = None
    while True:
        with store.db.read() as tx:
            page = jobs.page(tx, TENANT, cursor=cursor, limit=3)
        seen += [job.id for job in page.data]
        cursor = page.next_cursor
        if not page.has_more:
            break
    assert seen == sorted(ids, reverse=True)


def test_a_target_is_a_column_to_list_by_and_keeps_its_data_set(store: Store) -> None:
    source, target = make_dataset(store), make_dataset(store)
    plain, adapting = make_job(store), new_id("job")
    with store.db.write() as tx:
        spec = JobSpec(source=source.id, target=target.id, target_labels="few")
        job = jobs.add(tx, TENANT, adapting, spec)
    assert (job.target, job.target_labels) == (target.id, "few")
    with store.db.read() as tx:
        assert [job.id for job in jobs.page(tx, TENANT, target=target.id).data] == [adapting]
        assert jobs.page(tx, TENANT, target=source.id).data == []
        assert jobs.page(tx, "other", target=target.id).data == []
        assert jobs.get(tx, TENANT, plain).target is None
        assert datasets.in_use(tx, target.id) == [adapting]
    with store.db.write() as tx:
        jobs.transition(tx, adapting, "cancelled")
        assert datasets.in_use(tx, target.id) == []


def test_blob_stays_while_another_row_names_it(store: Store) -> None:
    first, second = make_dataset(store), make_dataset(store)
    assert first.sha256 == second.sha256
    with store.db.write(blobs=True) as tx:
        assert datasets.remove(tx, TENANT, first.id) == []
    with store.db.write(blobs=True) as tx:
        assert datasets.remove(tx, TENANT, second.id) == [second.sha256]


def test_idempotency_key_replays_and_refuses_another_body(store: Store) -> None:
    with store.db.write() as tx:
        assert idempotency.begin(tx, TENANT, "k", "f1") is None
        with pytest.raises(ConflictError):
            idempotency.begin(tx, TENANT, "k", "f1")
        idempotency.finish(tx, TENANT, "k", 201, {"id": "x"})
        assert idempotency.begin(tx, TENANT, "k", "f1") == idempotency.Replay(201, {"id": "x"})
        with pytest.raises(InvalidRequestError):
            idempotency.begin(tx, TENANT, "k", "f2")


def test_unfinished_blob_is_invisible_and_goes_away(sqlite_store: Store) -> None:
    blobs = sqlite_store.blobs
    with pytest.raises(RuntimeError), blobs.writing() as pending:
        pending.write(b"half")
        raise RuntimeError
    assert [path for path in blobs.root.rglob("*") if path.is_file()] == []
