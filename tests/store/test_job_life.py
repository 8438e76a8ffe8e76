"""A job's life, played by a machine that tries every order of calls: what must never happen, never does."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection, func, select

from core.contract.base import new_id, now
from core.contract.errors import ConflictError, JobError
from core.contract.jobs import TERMINAL, TRANSITIONS, Checkpoint, JobSpec, JobState, Progress
from core.contract.models import Model, ModelManifest, Parity
from core.contract.prepare import ImagePrepare
from core.settings import Settings
from core.store import jobs, models
from core.store import tables as t
from core.store.events import NewEvent
from core.store.leases import Fence, LostLeaseError
from core.store.store import Store
from migrations.run import upgrade

TENANT = "acme"
LEASE = 10.0
MOST = 3
REASON = JobError("It went wrong.", code="worker_killed", hint="Try again.").body()
"""What a worker may say of a lost child."""
LIMITS = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def time(self) -> float:
        """What `time.time` says."""
        return self.now


class Template:
    """A migrated database, copied for every example."""

    folder: Path | None = None

    @classmethod
    def copy(cls, target: Path) -> None:
        """Put a fresh copy at `target`."""
        if cls.folder is None:
            cls.folder = Path(tempfile.mkdtemp(prefix="graft-life-"))
            store = Store.open(Settings(data_dir=cls.folder))
            upgrade(store.db)
            store.close()
        for path in cls.folder.glob("graft.db*"):
            shutil.copy(path, target / path.name)


@pytest.fixture(autouse=True, scope="module")
def _template() -> Iterator[None]:
    yield
    if Template.folder is not None:
        shutil.rmtree(Template.folder)
        Template.folder = None


class JobLife(RuleBasedStateMachine):
    """Several jobs and several workers; each claim ever made may come back late with any write."""

    ids = Bundle("ids")
    fences = Bundle("fences")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="graft-life-"))
        Template.copy(self.folder)
        self.store = Store.open(Settings(data_dir=self.folder))
        self.clock = Clock()
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr("core.store.database.time", self.clock)
        self.known: dict[str, Any] = {}
        self.highest: dict[str, int] = {}
        self.history: dict[str, list[JobState]] = {}

    def teardown(self) -> None:
        self._patch.undo()
        self.store.close()
        shutil.rmtree(self.folder)

    @contextmanager
    def tx(self) -> Iterator[Connection]:
        """A write transaction."""
        with self.store.db.write() as tx:
            yield tx

    def row(self, job_id: str) -> Any:
        """The job's row; None once it is deleted."""
        with self.store.db.read() as tx:
            return tx.execute(select(t.jobs).where(t.jobs.c.id == job_id)).one_or_none()

    def owns(self, fence: Fence) -> bool:
        """Whether the fence is of the attempt that runs the job now (by the books, not by the clock)."""
        row = self.row(fence.id)
        return row is not None and bool(row.state == "running" and row.attempt == fence.attempt)

    def guarded(self, fence: Fence, work: Any) -> Any:
        """Do a fenced write; a late one must be refused and change nothing at all."""
        if self.owns(fence):
            with self.tx() as tx:
                return work(tx)
        before = self.picture()
        with pytest.raises(LostLeaseError), self.tx() as tx:
            work(tx)
        assert self.picture() == before, "a late write left something"
        return None

    def picture(self) -> tuple[Any, ...]:
        """All rows of all that a job touches."""
        with self.store.db.read() as tx:
            return tuple(tuple(tx.execute(select(table))) for table in (t.jobs, t.events, t.models, t.deliveries))

    # -- what users do -------------------------------------------------------------------------------------------------

    @initialize(target=ids)
    def first(self) -> Any:
        return self.submit_one(hook=False)

    @rule(target=ids, hook=st.booleans())
    def submit(self, hook: bool) -> Any:
        return self.submit_one(hook=hook)

    def submit_one(self, *, hook: bool) -> str:
        """Enter a job."""
        spec: dict[str, Any] = {"source": new_id("ds")}
        if hook:
            spec["webhook"] = {"url": "https://example.org/hook"}
        job_id = new_id("job")
        with self.tx() as tx:
            jobs.add(tx, TENANT, job_id, JobSpec.model_validate(spec))
        return job_id

    @rule(job_id=ids, cancel=st.booleans())
    def wish(self, job_id: str, cancel: bool) -> None:
        state = self.row(job_id).state
        try:
            with self.tx() as tx:
                jobs.request(tx, TENANT, job_id, cancel=cancel)
        except ConflictError:
            assert state in TERMINAL or (state == "queued" and not cancel)
        else:
            assert state == "running" or (state == "queued" and cancel)

    # -- what workers do -----------------------------------------------------------------------------------------------

    @rule(target=fences, owner=st.sampled_from(["w1", "w2", "w3"]))
    def claim(self, owner: str) -> Any:
        with self.store.db.read() as tx:
            free = tx.scalar(
                select(func.count()).where(
                    t.jobs.c.state == "queued", func.coalesce(t.jobs.c.not_before, 0) <= self.clock.now
                )
            )
        with self.tx() as tx:
            claimed = jobs.claim_next(tx, owner, LEASE)
        assert (claimed is not None) == bool(free)
        if claimed is None:
            return multiple()
        assert claimed.fence.attempt > self.highest.get(claimed.fence.id, 0), "the attempt did not rise"
        self.highest[claimed.fence.id] = claimed.fence.attempt
        return claimed.fence

    @rule(fence=fences)
    def heartbeat(self, fence: Fence) -> None:
        self.guarded(fence, lambda tx: jobs.heartbeat(tx, fence, LEASE))

    @rule(fence=fences, count=st.integers(1, 4), progress=st.booleans())
    def report(self, fence: Fence, count: int, progress: bool) -> None:
        new = [NewEvent("metric", {"loss": float(i)}) for i in range(count)]
        done = Progress(step="train", fraction=0.5) if progress else None
        self.guarded(fence, lambda tx: jobs.record(tx, fence, new, progress=done))

    @rule(fence=fences, epoch=st.integers(0, 5))
    def checkpoint(self, fence: Fence, epoch: int) -> None:
        saved = Checkpoint(sha256=f"{epoch:064d}", bytes=9, epoch=epoch, step=epoch)
        self.guarded(fence, lambda tx: jobs.save_checkpoint(tx, fence, saved))
        if self.owns(fence):
            with self.store.db.read() as tx:
                assert jobs.checkpoint(tx, fence) == saved

    @rule(fence=fences)
    def succeed(self, fence: Fence) -> None:
        def work(tx: Connection) -> None:
            model_id = new_id("mdl")
            models.add(tx, TENANT, _model(model_id, fence.id))
            jobs.transition(tx, fence.id, "succeeded", fence=fence, model_id=model_id)

        self.guarded(fence, work)

    @rule(fence=fences)
    def fail(self, fence: Fence) -> None:
        self.guarded(fence, lambda tx: jobs.transition(tx, fence.id, "failed", fence=fence, error=REASON))

    @rule(fence=fences)
    def cancelled(self, fence: Fence) -> None:
        self.guarded(fence, lambda tx: jobs.transition(tx, fence.id, "cancelled", fence=fence))

    @rule(fence=fences, delay=st.sampled_from([None, 0.0, 5.0]))
    def lose_the_child(self, fence: Fence, delay: float | None) -> None:
        before = self.row(fence.id)
        state = self.guarded(fence, lambda tx: jobs.retry(tx, fence, REASON, MOST, delay=delay))
        if state is not None:
            after = self.row(fence.id)
            assert after.lost == before.lost + 1
            assert (state == "failed") == (after.lost >= MOST and not before.cancel_requested)

    @rule(fence=fences)
    def hand_back(self, fence: Fence) -> None:
        before = self.row(fence.id)
        if self.guarded(fence, lambda tx: jobs.hand_back(tx, fence)) is not None:
            after = self.row(fence.id)
            assert after.lost == before.lost, "a worker that ended in good order was counted as lost"
            assert after.checkpoint == before.checkpoint or after.state == "cancelled"

    @rule(fence=consumes(fences))
    def forget_a_worker(self, fence: Fence) -> None:
        """It never says anything again."""

    # -- time, and what is done about it -------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1.0, 4.0, LEASE + 1]))
    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def reconcile(self) -> None:
        with self.store.db.read() as tx:
            gone = (t.jobs.c.state == "running") & (t.jobs.c.lease_until < self.clock.now)
            expired = set(tx.scalars(select(t.jobs.c.id).where(gone)))
        before = {job_id: self.row(job_id) for job_id in self.known}
        with self.tx() as tx:
            assert jobs.reconcile(tx, MOST) == len(expired)
        for job_id, row in before.items():
            after = self.row(job_id)
            if job_id not in expired:
                assert after == row, "a job whose lease holds was touched"
            else:
                assert after.state in {"queued", "failed", "cancelled"}

    @rule(job_id=consumes(ids))
    def delete(self, job_id: str) -> None:
        row = self.row(job_id)
        try:
            with self.store.db.write(blobs=True) as tx:
                jobs.remove(tx, TENANT, job_id)
        except ConflictError:
            assert row.state not in TERMINAL
        else:
            assert row.state in TERMINAL

    # -- what always holds ---------------------------------------------------------------------------------------------

    @invariant()
    def every_change_is_one_of_the_table(self) -> None:
        with self.store.db.read() as tx:
            rows = {row.id: row for row in tx.execute(select(t.jobs))}
            made: dict[str, int] = dict(
                tx.execute(select(t.models.c.job_id, func.count()).group_by(t.models.c.job_id)).all()  # type: ignore[arg-type]
            )
            told = dict(tx.execute(select(t.deliveries.c.job_id, func.count()).group_by(t.deliveries.c.job_id)).all())  # type: ignore[arg-type]
            events: dict[str, list[Any]] = {}
            for event in tx.execute(select(t.events).order_by(t.events.c.job_id, t.events.c.seq)):
                events.setdefault(event.job_id, []).append(event)
        for job_id, row in rows.items():
            self._holds(row, events[job_id], made.get(job_id, 0), told.get(job_id, 0))
        self.known = rows

    def _holds(self, row: Any, history: list[Any], made: int, told: int) -> None:
        before = self.known.get(row.id)
        if before is not None and before.state in TERMINAL:
            assert row == before, "a finished job was changed"
        assert [event.seq for event in history] == list(range(1, row.last_seq + 1)), "gaps in the events"
        attempts = [event.attempt for event in history]
        assert attempts == sorted(attempts), "an event of an attempt that was over"
        states = [event.data["state"] for event in history if event.kind == "state"]
        assert states[0] == "queued"
        assert states[-1] == row.state
        assert all(new in TRANSITIONS[old] for old, new in pairwise(states)), states
        starts = [event.attempt for event in history if event.kind == "state" and event.data["state"] == "running"]
        assert starts == list(range(1, row.attempt + 1)), "attempts are counted by their starts"
        assert made == (row.state == "succeeded")
        assert told == (row.state in TERMINAL and row.spec.get("webhook") is not None)
        assert row.lost <= MOST
        assert row.lost < MOST or row.state in TERMINAL
        assert (row.lease_until is not None) == (row.state == "running")
        assert (row.error is not None) == (row.state == "failed")
        assert row.checkpoint is None or row.state not in TERMINAL
        assert (row.checkpoint is None) == (row.checkpoint_sha256 is None)
        assert row.spent >= 0


def _model(model_id: str, job_id: str) -> Model:
    classes = ["a", "b"]
    manifest = ModelManifest(
        model_id=model_id,
        job_id=job_id,
        classes=classes,
        prepare=ImagePrepare(size=32),
        temperature=1,
        base_model="resnet18",
        architecture={},
        method={"name": "linear_probe"},
        seed=0,
        data=[],
        train_items=2,
        validation_items=0,
        held_out_items=2,
        metrics=[],
        parity=Parity(items=2, max_abs_difference=0, tolerance=1e-4),
        versions={},
        hardware={},
        seconds=0.1,
        licence="Apache-2.0",
        created_at=now(),
    )
    return Model(
        id=model_id,
        job_id=job_id,
        base_model=manifest.base_model,
        method="linear_probe",
        classes=classes,
        metrics={},
        bytes=1,
        sha256="0" * 64,
        files=[],
        manifest=manifest,
        created_at=now(),
    )


def test_no_order_of_calls_breaks_a_jobs_life() -> None:
    run_state_machine_as_test(JobLife, settings=LIMITS)


def test_the_machine_sees_when_the_fence_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guard that finds nothing in broken code guards nothing: without attempt numbers late writes go through."""
    monkeypatch.setattr(jobs, "_own", lambda fence: (t.jobs.c.id == fence.id) & (t.jobs.c.state == "running"))
    limits = settings(LIMITS, max_examples=300, phases=[Phase.generate], derandomize=True)
    with pytest.raises(BaseException) as caught:
        run_state_machine_as_test(JobLife, settings=limits)
    found = repr(caught.value) + repr(getattr(caught.value, "exceptions", ""))
    assert "LostLeaseError" in found or "late write" in found, found


def test_the_machine_sees_when_ended_jobs_can_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing leads out of a terminal state; a table that says otherwise is found out."""
    monkeypatch.setitem(jobs.TRANSITIONS, "cancelled", frozenset({"running", "failed"}))
    monkeypatch.setattr(jobs, "_own", lambda fence: (t.jobs.c.id == fence.id) & (t.jobs.c.attempt == fence.attempt))
    with pytest.raises(BaseException):  # noqa: B017 -- as above
        run_state_machine_as_test(
            JobLife, settings=settings(LIMITS, max_examples=300, phases=[Phase.generate], derandomize=True)
        )
