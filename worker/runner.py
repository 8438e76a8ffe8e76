"""From a claimed job to its end: inputs from the store, a child that runs the engine, results back into the store."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from core import logs
from core.contract.base import new_id, now
from core.contract.errors import ErrorBody, JobError, NotFoundError
from core.contract.jobs import Step
from core.contract.models import Model, ModelManifest
from core.contract.reports import Report
from core.settings import Settings
from core.store import datasets, jobs, models
from core.store.leases import LostLeaseError
from core.store.store import Store
from worker import bundles, failures, jobs_child
from worker.children import Child, Ending, supervise
from worker.engine.door import DataRef, Inputs, Places
from worker.folders import sync_and_hash, work_folder
from worker.leases import ShuttingDownError, persist
from worker.session import JobSession

log = logs.get_logger(__name__)


@dataclass(frozen=True)
class JobRunner:
    """Runs jobs, one at a time."""

    store: Store
    settings: Settings
    stopping: Callable[[], bool]
    engine: str = jobs_child.DEFAULT_ENGINE

    def run_next(self, owner: str) -> bool:
        """Claim a job and run it to its end; False if there is none."""
        with self.store.db.write() as tx:
            claim = jobs.claim_next(tx, owner, self.settings.lease_seconds)
        if claim is None:
            return False
        waited = (now() - claim.created_at).total_seconds()
        log.info("job running", job=claim.fence.id, attempt=claim.fence.attempt, waited_seconds=round(waited, 3))
        _Run(self, claim).run()
        return True


class _Run:
    """One attempt at one job."""

    def __init__(self, runner: JobRunner, claim: jobs.JobClaim) -> None:
        self.store = runner.store
        self.settings = runner.settings
        self.engine = runner.engine
        self.claim = claim
        self.fence = claim.fence
        self.session = JobSession(self.store, claim, self.settings.lease_seconds, runner.stopping)
        self.began = time.monotonic()

    def run(self) -> None:
        """Run it, whatever happens; nothing is left behind but rows and blobs of a success."""
        try:
            with work_folder(self.settings.root, self.fence) as folder:
                ending = self._follow(folder)
                if ending.result is not None and not ending.cancelled:
                    self._flush()
                    self._store(ending.result)
                    return
            # Only now, without the folder: on a full disk its files would keep this very write from going through.
            self._flush()
            self._give_up(ending)
        except ShuttingDownError:
            self._hand_back()
        except LostLeaseError as error:
            log.warning("job lost to another worker, nothing written", job=self.fence.id, reason=str(error))
        except Exception as error:
            if not isinstance(error, JobError):
                log.exception("unexpected error", job=self.fence.id)
            body = failures.of_exception(error)
            self._last(lambda: self._failed(body))

    def _follow(self, folder: Path) -> Ending:
        spec = self.claim.spec
        inputs, places = self._inputs(), self._places(folder)
        arguments = (self.engine, spec, inputs, places)
        ending = supervise(
            Child(jobs_child.run, self.fence.id, arguments), self.session, max_seconds=spec.budget.max_seconds
        )
        log.info("job process ended", job=self.fence.id, peak_megabytes=ending.peak_bytes >> 20)
        return ending

    def _inputs(self) -> Inputs:
        spec, tenant = self.claim.spec, self.claim.tenant
        with self.store.db.read() as tx:
            return Inputs(
                job_id=self.fence.id,
                model_id=new_id("mdl"),
                source=self._data(tx, spec.source, "source"),
                evaluation=None if spec.evaluation is None else self._data(tx, spec.evaluation, "evaluation"),
                parent=self._parent(tx, tenant) if spec.base_model.startswith("mdl_") else None,
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

    def _parent(self, tx: Connection, tenant: str) -> Path:
        try:
            model = models.get(tx, tenant, self.claim.spec.base_model)
        except NotFoundError as error:
            raise _missing(error.message, "model_not_found", "base_model") from error
        return self._blob(model.sha256, model.id, "base_model")

    def _blob(self, sha256: str, owner: str, param: str) -> Path:
        if not self.store.blobs.exists(sha256):
            raise _missing(f"The stored bytes of {owner} are gone.", "blob_missing", param)
        return self.store.blob(sha256)

    def _places(self, folder: Path) -> Places:
        cache = self.settings.root / "cache"
        cache.mkdir(parents=True, exist_ok=True)
        return Places(
            out=folder,
            cache=cache,
            weights=self.settings.weights_dir,
            cache_bytes=self.settings.cache_bytes,
            device=self.settings.device,
            threads=self.settings.threads,
        )

    def _flush(self) -> None:
        persist(self.session.flush, self.settings.lease_seconds)

    def _give_up(self, ending: Ending) -> None:
        if ending.cancelled:
            self._last(self._cancelled)
            return
        error = ending.error or failures.of_death(None, ending.peak_bytes, ending.peak_bytes)
        self._last(lambda: self._failed(error))

    def _store(self, result: dict[str, Any]) -> None:
        began = time.monotonic()
        self.session.event("step", Step(name="store", state="running").model_dump(mode="json"))
        self._flush()
        manifest, report = ModelManifest.model_validate(result["manifest"]), Report.model_validate(result["report"])
        bundle = Path(result["bundle"])
        model = _model(manifest, bundle, self.claim.spec.method.name, self.claim.spec.base_model)
        done = Step(name="store", state="done", seconds=round(time.monotonic() - began, 3))
        self.session.event("step", done.model_dump(mode="json"))
        report = report.model_copy(update={"steps": self.session.steps})
        with self.store.blobs.writing() as pending:
            pending.write(report.model_dump_json().encode())
            report_sha256 = pending.finish()

            def publish() -> str:
                with self.store.db.write(blobs=True) as tx:
                    if jobs.heartbeat(tx, self.fence, self.settings.lease_seconds).cancel:
                        jobs.transition(tx, self.fence.id, "cancelled", fence=self.fence)
                        return "cancelled"
                    self.store.blobs.adopt(bundle, model.sha256)
                    self.store.blobs.adopt(pending.path, report_sha256)
                    models.add(tx, self.claim.tenant, model)
                    self.session.write(tx)
                    jobs.transition(
                        tx,
                        self.fence.id,
                        "succeeded",
                        fence=self.fence,
                        model_id=model.id,
                        metrics=model.metrics,
                        report_sha256=report_sha256,
                    )
                    return "succeeded"

            self._last(publish)

    def _cancelled(self) -> str:
        with self.store.db.write() as tx:
            jobs.transition(tx, self.fence.id, "cancelled", fence=self.fence)
        return "cancelled"

    def _failed(self, error: ErrorBody) -> str:
        with self.store.db.write() as tx:
            jobs.transition(tx, self.fence.id, "failed", fence=self.fence, error=error)
        log.info("job error", job=self.fence.id, code=error.code, message=error.message)
        return "failed"

    def _hand_back(self) -> None:
        def requeue() -> str:
            with self.store.db.write() as tx:
                values: dict[str, Any] = {"lease_until": None, "owner": None, "progress": None}
                jobs.transition(tx, self.fence.id, "queued", fence=self.fence, **values)
            return "queued"

        self._last(requeue, patience=1.0)

    def _last(self, work: Callable[[], str], patience: float | None = None) -> None:
        """The write that ends the attempt; a worker that lost the job meanwhile writes nothing."""
        try:
            state = persist(work, self.settings.lease_seconds if patience is None else patience)
        except LostLeaseError as error:
            log.warning("job lost to another worker, nothing written", job=self.fence.id, reason=str(error))
            return
        seconds = round(time.monotonic() - self.began, 3)
        log.info(f"job {state}", job=self.fence.id, attempt=self.fence.attempt, seconds=seconds)


def _missing(message: str, code: str, param: str) -> JobError:
    return JobError(message, code=code, param=param, hint="It was deleted after the job was sent; send the job anew.")


def _model(manifest: ModelManifest, bundle: Path, method: str, base_model: str) -> Model:
    return Model(
        id=manifest.model_id,
        job_id=manifest.job_id,
        base_model=base_model,
        method=method,
        classes=manifest.classes,
        metrics={metric.name: metric.value for metric in manifest.metrics},
        bytes=bundle.stat().st_size,
        sha256=sync_and_hash(bundle),
        files=bundles.files(bundle),
        manifest=manifest,
        created_at=manifest.created_at,
    )
