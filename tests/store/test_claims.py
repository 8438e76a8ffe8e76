"""Which job is next, and what is remembered of the ones that were lost."""

import threading
import time

import pytest
from sqlalchemy import insert, update

from core.contract.base import new_id, now
from core.contract.errors import JobError
from core.contract.jobs import Checkpoint, JobSpec
from core.store import events, jobs
from core.store.leases import Fence, LostLeaseError
from core.store.store import Store
from core.store.tables import jobs as table
from core.store.tables import tenants

SPEC = JobSpec(source="ds_" + "0" * 26)
REASON = JobError("It broke.", code="worker_killed").body()


def send(store: Store, tenant: str, count: int = 1) -> list[str]:
    ids = [new_id("job") for _ in range(count)]
    with store.db.write() as tx:
        for job_id in ids:
            jobs.add(tx, tenant, job_id, SPEC, request_id="req_1", traceparent="00-1")
    return ids


def claim(store: Store, quota: int | None = None) -> jobs.JobClaim | None:
    with store.db.write() as tx:
        return jobs.claim_next(tx, "w", 60, quota_running=quota)


def finish(store: Store, fence: Fence) -> None:
    with store.db.write() as tx:
        jobs.transition(tx, fence.id, "cancelled", fence=fence)


def test_the_tenant_with_the_fewest_running_jobs_is_next(store: Store) -> None:
    many = send(store, "many", 4)
    few = send(store, "few", 2)
    claimed = [found for _ in range(7) if (found := claim(store)) is not None]
    assert [found.fence.id for found in claimed] == [many[0], few[0], many[1], few[1], many[2], many[3]]
    assert claimed[0].tenant == "many"
    assert (claimed[0].request_id, claimed[0].traceparent) == ("req_1", "00-1")


def test_a_single_worker_takes_turns_between_tenants(store: Store) -> None:
    """Whenever it chooses, nobody has a job running."""
    many, few = send(store, "many", 4), send(store, "few", 2)
    order = []
    while (found := claim(store)) is not None:
        order.append(found.fence.id)
        finish(store, found.fence)
    assert order == [many[0], few[0], many[1], few[1], many[2], many[3]]


def test_a_tenant_at_its_quota_is_passed_over(store: Store) -> None:
    first, own = send(store, "first", 3), send(store, "own", 3)
    with store.db.write() as tx:
        tx.execute(insert(tenants).values(name="own", quota_running=2, created_at=now()))
    claimed = [found.fence.id for _ in range(6) if (found := claim(store, 1)) is not None]
    assert claimed == [first[0], own[0], own[1]]
    finish(store, Fence(first[0], 1))
    found = claim(store, 1)
    assert found is not None
    assert found.fence.id == first[1]


def test_claimers_at_once_do_not_overshoot_a_quota(store: Store) -> None:
    send(store, "eager", 12)
    claimed: list[str] = []

    def work() -> None:
        for _ in range(4):
            found = claim(store, 2)
            if found is not None:
                claimed.append(found.fence.id)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == len(set(claimed)) == 2


def test_a_lost_job_waits_a_little_longer_each_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "RETRY_SECONDS", (0.0, 0.4, 60.0))
    (job_id,) = send(store, "t")
    for lost in (1, 2, 3):
        while (found := claim(store)) is None:
            with store.db.read() as tx:
                due = jobs.due_in(tx)
            time.sleep(0.02 if due is None else due + 0.01)
        assert (found.fence.attempt, found.lost) == (lost, lost - 1)
        with store.db.write() as tx:
            assert jobs.retry(tx, found.fence, REASON, 4) == "queued"
        with store.db.write() as tx, pytest.raises(LostLeaseError):
            jobs.retry(tx, found.fence, REASON, 4)
    assert claim(store) is None
    with store.db.read() as tx:
        due = jobs.due_in(tx)
        texts = [event.data["text"] for event in events.after(tx, job_id, 0) if event.kind == "message"]
    assert due is not None
    assert 50 < due < 61
    assert texts[0].startswith("It broke. The job is queued again: loss 1 of at most 4")


def test_losses_count_and_hand_backs_do_not(store: Store) -> None:
    (job_id,) = send(store, "t")
    for attempt in range(1, 6):
        found = claim(store)
        assert found is not None
        assert (found.fence.attempt, found.lost) == (attempt, 0)
        with store.db.write() as tx:
            assert jobs.hand_back(tx, found.fence) == "queued"
    found = claim(store)
    assert found is not None
    with store.db.write() as tx:
        assert jobs.retry(tx, found.fence, REASON, 1) == "failed"
        job = jobs.get(tx, "t", job_id)
    assert (job.attempt, job.lost) == (6, 1)
    assert job.error is not None
    assert (job.error.code, job.error.details["lost"]) == ("worker_killed", 1)


@pytest.mark.parametrize("how", ["retry", "hand_back"])
def test_a_job_that_is_to_be_cancelled_is_not_queued_again(store: Store, how: str) -> None:
    (job_id,) = send(store, "t")
    found = claim(store)
    assert found is not None
    with store.db.write() as tx:
        jobs.request(tx, "t", job_id, cancel=True)
        if how == "retry":
            assert jobs.retry(tx, found.fence, REASON, 3) == "cancelled"
        else:
            assert jobs.hand_back(tx, found.fence) == "cancelled"


def test_a_checkpoint_is_fenced_and_replaced_and_forgotten(store: Store) -> None:
    (job_id,) = send(store, "t")
    found = claim(store)
    assert found is not None
    first, second = (Checkpoint(sha256=c * 64, bytes=3, epoch=epoch, step=8) for c, epoch in (("a", 1.5), ("b", 2)))
    with store.db.write() as tx:
        assert jobs.checkpoint(tx, found.fence) is None
        assert jobs.save_checkpoint(tx, found.fence, first) is None
        assert jobs.save_checkpoint(tx, found.fence, first) is None
        assert jobs.save_checkpoint(tx, found.fence, second) == first.sha256
        assert jobs.checkpoint(tx, found.fence) == second
        assert jobs.hand_back(tx, found.fence) == "queued"
    with store.db.write() as tx, pytest.raises(LostLeaseError):
        jobs.save_checkpoint(tx, found.fence, first)
    again = claim(store)
    assert again is not None
    assert again.checkpoint == second
    with store.db.read() as tx:
        data = events.after(tx, job_id, 0)[-1].data
    assert data == {"state": "running", "attempt": 2, "resumed_from": {"epoch": 2.0, "step": 8}}
    finish(store, again.fence)
    with store.db.read() as tx:
        assert tx.exec_driver_sql("SELECT checkpoint, checkpoint_sha256 FROM jobs").one() == (None, None)


def test_a_lost_worker_has_not_worked_longer_than_its_lease(store: Store) -> None:
    (job_id,) = send(store, "t")
    found = claim(store)
    assert found is not None
    with store.db.write() as tx:  # it was claimed an hour ago and beat for a minute
        began = time.time() - 3600
        tx.execute(update(table).where(table.c.id == job_id).values(running_since=began, lease_until=began + 60))
        assert jobs.reconcile(tx, 3) == 1
    found = claim(store)
    assert found is not None
    assert found.spent == pytest.approx(60, abs=0.01)
    assert found.lost == 1
