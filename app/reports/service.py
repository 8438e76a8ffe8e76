"""Finds a job's report and what the page shows beside it."""

from app.models.blobs import CorruptBlobError, read_blob
from app.reports import pictures
from app.reports.page import MOST_MISTAKES, Extras
from core.contract.errors import ConflictError, NotFoundError
from core.contract.jobs import Job
from core.contract.reports import Report
from core.store import datasets, jobs, models
from core.store.store import Store

_HINTS = {
    "queued": "Wait until the job has succeeded: GET /jobs/{id}/events says when.",
    "running": "Wait until the job has succeeded: GET /jobs/{id}/events says when.",
    "failed": "It will have none: GET /jobs/{id} says in `error` why the job failed.",
    "cancelled": "It will have none: the job was cancelled.",
}


def get(store: Store, tenant: str, job_id: str) -> tuple[Job, Report]:
    """A job with its report; `NotFoundError`, `ConflictError` `report_not_ready`, `CorruptBlobError`."""
    with store.db.read() as tx:
        job = jobs.get(tx, tenant, job_id)
        sha256 = jobs.report_blob(tx, tenant, job_id)
    if sha256 is None:
        raise _not_ready(job)
    what = f"The report of job {job_id}"
    try:
        return job, Report.model_validate_json(read_blob(store, sha256, what))
    except ValueError as error:
        raise CorruptBlobError(what, "it is not a report") from error


def extras(store: Store, tenant: str, job: Job, report: Report, *, base_url: str) -> Extras:
    """Names of data sets, pictures of mistakes and the model's address, as far as they still exist."""
    other = {"evaluation_dataset": job.evaluation, "target": job.target}.get(report.evaluated_on)
    wrong = {mistake.name for mistake in report.mistakes[:MOST_MISTAKES]}
    measured = other or job.source
    shown = pictures.of_items(store, tenant, measured, None if other else "test", wrong) if measured else {}
    alive = report.model_id is not None and _exists(store, tenant, report.model_id)
    return Extras(
        job=job,
        source=_name(store, tenant, job.source) if job.source else None,
        evaluation=_name(store, tenant, other) if other else None,
        url=f"{base_url.rstrip('/')}/models/{report.model_id}" if alive else None,
        pictures=shown,
        target=_name(store, tenant, job.target) if job.target else None,
        driver_pictures=_drivers(store, tenant, job, report),
    )


def _drivers(store: Store, tenant: str, job: Job, report: Report) -> dict[str, dict[str, str]]:
    """Pictures of the items that drive a shift."""
    found: dict[str, dict[str, str]] = {}
    for side, dataset in (("source", job.source), ("target", job.target)):
        names = {driver.name for driver in report.shift.drivers if driver.domain == side} if report.shift else set()
        found[side] = pictures.of_items(store, tenant, dataset, None, names) if dataset else {}
    return found


def _not_ready(job: Job) -> ConflictError:
    hint = _HINTS.get(job.state, "The job left no report.").replace("{id}", job.id)
    error = {"error": job.error.model_dump(mode="json")} if job.error else {}
    return ConflictError(
        f"Job {job.id} has no report: it is {job.state}.",
        code="report_not_ready",
        hint=hint,
        details={"state": job.state} | error,
    )


def _exists(store: Store, tenant: str, model_id: str) -> bool:
    try:
        with store.db.read() as tx:
            models.get(tx, tenant, model_id)
    except NotFoundError:
        return False
    return True


def _name(store: Store, tenant: str, dataset_id: str) -> str:
    """The data set's name, or its id once it is deleted."""
    try:
        with store.db.read() as tx:
            return datasets.get(tx, tenant, dataset_id).name or dataset_id
    except NotFoundError:
        return dataset_id
