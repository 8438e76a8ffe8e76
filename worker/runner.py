"""From a claimed job to its end: inputs from the store, a child that runs the engine, results back into the store."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from core import logs
from core.contract.base import new_id, now
from core.contract.errors import ErrorBody, JobError, NotFoundError
from core.contract.jobs import TERMINAL, JobSpec, JobState, Step
from core.contract.methods import RankBaseModels
from core.contract.models import Model, ModelManifest
from core.contract.reports import Report
from core.settings import Settings
from core.store import datasets, jobs, models, timings
from core.store.leases import LostLeaseError
from core.store.store import Store
from worker import bundles, failures, jobs_child, spans
from worker.checkpoints import is_intact
from worker.children import Child, Ending, Limits, supervise
from worker.engine.door import DataRef, Inputs, Places
from worker.folders import sync_and_hash, work_folder
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
        arguments = (self.engine, spec, self._inputs(), self._places(folder))
        self.child = Child(jobs_child.run, self.fence.id, arguments)
        limits = Limits(budget, self.claim.spent, settings.stall_seconds, settings.shutdown_seconds)
        ending = supervise(self.child, self.session, limits)
        log.info("job process ended", job=self.fence.id, **self.child.usage.megabytes())
        return ending

    def _inputs(self) -> Inputs:
        spec, tenant = self.claim.spec, self.claim.tenant
        with self.store.db.read() as tx:
            return Inputs(
                job_id=self.fence.id,
                model_id=new_id("mdl"),
                source=self._data(tx, spec.source, "source"),
                evaluation=None if spec.evaluation is None else self._data(tx, spec.evaluation, "evaluation"),
                parent=self._parent(tx, tenant, spec.base_model or ""),
                former=self._former(tx, tenant, spec.base_model or ""),
                checkpoint=self._checkpoint(),
                parents=self._parents(tx, tenant, spec),
            )

    def _data(self, tx: Connection, dataset_id: str, param: str) -> DataRef:
        try:
            found = datasets.blobs(tx, self.claim.tenant, dataset_id)
        except NotFoundError as error:
            raise _missing(error.message, "dataset_not_found", param) from error
        if found is None:
            raise _missing(f"Data set {dataset_id} is not ready.", "dataset_not_ready", param)
        manifest = self._blob(found.manifest_sha256, dataset_id, param)
        content = self._blob(found.content_sha256, dataset_id, param)
        return DataRef(dataset_id, manifest, found.manifest_sha256, content)

    def _parent(self, tx: Connection, tenant: str, base_model: str) -> Path | None:
        if not base_model.startswith("mdl_"):
            return None
        try:
            model = models.get(tx, tenant, base_model)
        except NotFoundError as error:
            raise _missing(error.message, "model_not_found", "base_model") from error
        return self._blob(model.sha256, model.id, "base_model")

    def _parents(self, tx: Connection, tenant: str, spec: JobSpec) -> dict[str, Path]:
        """Bundles of the user's own models that a ranking looks at."""
        if not isinstance(spec.method, RankBaseModels) or spec.method.base_models == "all":
            return {}
        found = {name: self._parent(tx, tenant, name) for name in spec.method.base_models}
        return {name: path for name, path in found.items() if path is not None}

    def _former(self, tx: Connection, tenant: str, base_model: str) -> DataRef | None:
        """What the parent was measured on, if that data set is still there just as it was."""
        if not base_model.startswith("mdl_"):
            return None
        # An evaluation data set, where there was one, stands last.
        for use in models.get(tx, tenant, base_model).manifest.data[-1:]:
            try:
                found = self._data(tx, use.dataset_id, "base_model")
            except JobError:
                continue
            if found.manifest_sha256 == use.manifest_sha256:
                return found
        return None

    def _blob(self, sha256: str, owner: str, param: str) -> Path:
        if not self.store.blobs.exists(sha256):
            raise _missing(f"The stored bytes of {owner} are gone.", "blob_missing", param)
        return self.store.blob(sha256)

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

    def _places(self, folder: Path) -> Places:
        cache = self.settings.root / "cache"
        cache.mkdir(parents=True, exist_ok=True)
        return Places(
            out=folder,
            cache=cache,
            weights=self.settings.weights_dir,
            cache_bytes=self.settings.cache_bytes,
            features=self.settings.features,
            device=self.settings.device,
            threads=self.settings.threads,
            checkpoint_seconds=self.settings.checkpoint_seconds,
        )

    def _flush(self) -> None:
        persist(self.session.flush, self.settings.lease_seconds)

    def _give_up(self, ending: Ending) -> None:
        if ending.cancelled:
            self._last(lambda tx: self._end(tx, "cancelled"))
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
                return self._end(tx, "succeeded", **values)

            self._last(publish, blobs=True)

    def _failed(self, error: ErrorBody, *, again: bool) -> None:
        spans.failed(error)
        log.info("job error", job=self.fence.id, code=error.code, message=error.message, again=again)

        def fail(tx: Connection) -> JobState:
            if not again:
                return self._end(tx, "failed", error=error)
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


def _missing(message: str, code: str, param: str) -> JobError:
    return JobError(message, code=code, param=param, hint="It was deleted after the job was sent; send the job anew.")


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
        files=bundles.files(bundle),
        manifest=manifest,
        created_at=manifest.created_at,
    )
