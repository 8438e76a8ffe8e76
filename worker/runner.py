"""From a claimed job to its end: inputs from the store, a child that runs the engine, results back into the store."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from core import logs
from core.bundle import members
from core.contract.base import now
from core.contract.errors import ErrorBody, JobError
from core.contract.jobs import TERMINAL, JobSpec, JobState, Step
from core.contract.models import Model, ModelManifest
from core.contract.reports import Report
from core.estimating import Spent
from core.settings import Settings
from core.store import jobs, models, timings
from core.store.leases import LostLeaseError
from core.store.store import Store
from worker import estimates, failures, jobs_child, spans
from worker.checkpoints import is_intact
from worker.children import Child, Ending, Limits, supervise
from worker.engine.door import Inputs
from worker.estimates import Books
from worker.folders import sync_and_hash, work_folder
from worker.inputs import InputFinder, places
from worker.leases import persist
from worker.session import JobSession, drop

log = logs.get_logger(__name__)


@dataclass(frozen=True)
class JobRunner:
    """Runs jobs, one at a time."""

    store: Store
    settings: Settings
    stopping: Callable[[], bool]
    engine: str = jobs_child.DEFAULT_ENGINE
    _now: "list[_Run]" = field(default_factory=list, init=False, repr=False)

    def run_next(self, owner: str) -> bool:
        """Claim a job and run it to its end; False if there is none."""
        settings, usable = self.settings, self.store.blobs.exists
        with self.store.db.write() as tx:
            claim = jobs.claim_next(
                tx, owner, settings.lease_seconds, quota_running=settings.quota_running, usable=usable
            )
        if claim is None:
            return False
        with logs.bind(job=claim.fence.id, request_id=claim.request_id), spans.attempt(claim):
            waited = round((now() - claim.created_at).total_seconds(), 3)
            log.info("job running", attempt=claim.fence.attempt, waited_seconds=waited)
            run = _Run(self, claim)
            self._now.append(run)
            try:
                run.run()
            finally:
                self._now.clear()
                run.session.spans.close()
        return True

    def stats(self) -> dict[str, Any] | None:
        """What it is doing: job, step and memory; None when idle. For other threads."""
        for run in self._now[:]:
            return run.stats()
        return None


class _Run:
    """One attempt at one job."""

    def __init__(self, runner: JobRunner, claim: jobs.JobClaim) -> None:
        self.store = runner.store
        self.settings = runner.settings
        self.engine = runner.engine
        self.claim = claim
        self.fence = claim.fence
        self.folder = self.settings.root / "work" / f"{claim.fence.id}-{claim.fence.attempt}"
        self.session = JobSession(self.store, claim, self.settings.lease_seconds, runner.stopping, self.folder)
        self.child: Child | None = None
        self.books: Books | None = None
        self.began = time.monotonic()

    def stats(self) -> dict[str, Any]:
        """Job, step and memory."""
        usage = self.child.usage.figures() if self.child is not None else {}
        return {"job": self.fence.id, "step": self.session.step, **usage}

    def run(self) -> None:
        """Run it, whatever happens; nothing is left behind but rows and blobs of a success, or a checkpoint."""
        try:
            with work_folder(self.settings.root, self.fence) as folder:
                ending = self._follow(folder)
                if ending.result is not None and not ending.cancelled:
                    self._flush()
                    self._store(ending.result)
                    return
                if self.session.holds_checkpoint:
                    self._flush()
            # Only now, without the folder: on a full disk its files would keep this very write from going through.
            self._flush()
            self._give_up(ending)
        except LostLeaseError as error:
            log.warning("job lost to another worker, nothing written", job=self.fence.id, reason=str(error))
        except Exception as error:
            if not isinstance(error, JobError):
                log.exception("unexpected error", job=self.fence.id)
            self._failed(failures.of_exception(error), again=failures.is_transient(error))

    def _follow(self, folder: Path) -> Ending:
        spec, settings = self.claim.spec, self.settings
        budget = spec.budget.max_seconds
        if budget is not None and self.claim.spent >= budget:
            return Ending(error=failures.deadline(budget))
        arguments = (self.engine, spec, self._inputs(), places(settings, folder))
        self.books = Books.open(self.store, settings, self.claim)
        self.child = Child(jobs_child.run, self.fence.id, arguments)
        limits = Limits(budget, self.claim.spent, settings.stall_seconds, settings.shutdown_seconds)
        ending = supervise(self.child, self.session, limits)
        log.info("job process ended", job=self.fence.id, **self.child.usage.megabytes())
        return ending

    def _inputs(self) -> Inputs:
        with self.store.db.read() as tx:
            found = InputFinder(self.store, tx, self.claim.tenant)
            return found.inputs(self.fence.id, self.claim.spec, self._checkpoint())

    def _checkpoint(self) -> Path | None:
        saved = self.claim.checkpoint
        if saved is None:
            return None
        path = self.store.blob(saved.sha256)
        if is_intact(path, saved):
            return path
        log.warning("checkpoint damaged", job=self.fence.id)
        self.session.event("message", {"text": "The checkpoint is damaged: the job starts from the beginning."})
        return None

    def _flush(self) -> None:
        persist(self.session.flush, self.settings.lease_seconds)

    def _give_up(self, ending: Ending) -> None:
        if ending.cancelled:
            self._last(lambda tx: self._end(tx, "cancelled", **self._closed()))
        elif ending.suspended:
            self._last(lambda tx: jobs.hand_back(tx, self.fence))
        else:
            error = ending.error or failures.of_death(None, ending.peak_bytes, ending.peak_bytes)
            self._failed(error, again=ending.again)

    def _store(self, result: dict[str, Any]) -> None:
        began = time.monotonic()
        self.session.event("step", Step(name="store", state="running").model_dump(mode="json"))
        self._flush()
        report = Report.model_validate(result["report"])
        made = _Made.of(result, self.claim.spec)
        done = Step(name="store", state="done", seconds=round(time.monotonic() - began, 3))
        self.session.event("step", done.model_dump(mode="json"))
        report = report.model_copy(update={"steps": self.session.steps})
        with self.store.blobs.writing() as pending:
            pending.write(report.model_dump_json().encode())
            report_sha256 = pending.finish()
            spent = self._spent(result, report, done.seconds or 0.0, pending.size, made)

            def publish(tx: Connection) -> JobState:
                if jobs.heartbeat(tx, self.fence, self.settings.lease_seconds).cancel:
                    return self._end(tx, "cancelled")
                self.store.blobs.adopt(pending.path, report_sha256)
                values: dict[str, Any] = {"report_sha256": report_sha256}
                if report.judgement is not None:
                    values["verdict"] = report.judgement.verdict
                if made is not None:
                    self.store.blobs.adopt(made.bundle, made.model.sha256)
                    models.add(tx, self.claim.tenant, made.model)
                    values |= {"model_id": made.model.id, "metrics": made.model.metrics}
                self.session.write(tx)
                return self._end(tx, "succeeded", **values, **self._closed(spent))

            self._last(publish, blobs=True)
        if spent is not None and self.books is not None and not self.session.asked_to_stop:
            self.books.learn(self.store, spent)

    def _spent(
        self, result: dict[str, Any], report: Report, stored: float, size: int, made: "_Made | None"
    ) -> Spent | None:
        """What the run took; an engine need not tell."""
        if result.get("costs") is None:
            return None
        saved = self.session.checkpoint
        disk = size + (0 if made is None else made.model.bytes) + (0 if saved is None else saved.bytes)
        spent = Spent.model_validate(result["costs"])
        return estimates.complete(spent, report, began=self.began, stored=stored, disk_bytes=disk)

    def _closed(self, spent: Spent | None = None) -> dict[str, Any]:
        """The estimate's column, with what it came to."""
        return {} if self.books is None else self.books.close(spent, self.child)

    def _failed(self, error: ErrorBody, *, again: bool) -> None:
        spans.failed(error)
        log.info("job error", job=self.fence.id, code=error.code, message=error.message, again=again)

        def fail(tx: Connection) -> JobState:
            if not again:
                return self._end(tx, "failed", error=error, **self._closed())
            state = jobs.retry(tx, self.fence, error, self.settings.max_attempts)
            if state in TERMINAL:
                timings.add(tx, self.claim.spec.method.name, self.session.steps)
            return state

        self._last(fail)

    def _end(self, tx: Connection, state: JobState, **values: Any) -> JobState:
        jobs.transition(tx, self.fence.id, state, fence=self.fence, **values)
        timings.add(tx, self.claim.spec.method.name, self.session.steps)
        return state

    def _last(self, work: Callable[[Connection], JobState], *, blobs: bool = False) -> None:
        """The write that ends the attempt; a worker that lost the job meanwhile writes nothing."""

        def write() -> JobState:
            with self.store.db.write(blobs=blobs) as tx:
                return work(tx)

        try:
            state = persist(write, self.settings.lease_seconds)
        except LostLeaseError as error:
            log.warning("job lost to another worker, nothing written", job=self.fence.id, reason=str(error))
            return
        seconds = round(time.monotonic() - self.began, 3)
        spans.ended(state)
        log.info(f"job {state}", job=self.fence.id, attempt=self.fence.attempt, seconds=seconds)
        if state in TERMINAL and self.session.checkpoint is not None:
            drop(self.store, self.session.checkpoint.sha256)


@dataclass(frozen=True)
class _Made:
    """The model that a job made."""

    model: Model
    bundle: Path

    @classmethod
    def of(cls, result: dict[str, Any], spec: JobSpec) -> "_Made | None":
        """None where the job's method makes no model."""
        if result["manifest"] is None:
            return None
        bundle = Path(result["bundle"])
        manifest = ModelManifest.model_validate(result["manifest"])
        return cls(_model(manifest, bundle, spec.method.name), bundle)


def _model(manifest: ModelManifest, bundle: Path, method: str) -> Model:
    return Model(
        id=manifest.model_id,
        job_id=manifest.job_id,
        base_model=manifest.base_model,
        method=method,
        classes=manifest.classes,
        metrics={metric.name: metric.value for metric in manifest.metrics},
        modality=manifest.modality,
        problem=manifest.problem,
        verdict=None if manifest.judgement is None else manifest.judgement.verdict,
        bytes=bundle.stat().st_size,
        sha256=sync_and_hash(bundle),
        files=members(bundle),
        manifest=manifest,
        created_at=manifest.created_at,
    )
