"""`POST /jobs?dry_run=true`: the job's checks, and what it will cost; nothing is entered but what is to be measured."""

import asyncio
import time

from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from app.jobs.checks import check
from app.wakeup import Wakeup
from core.contract.base import Record
from core.contract.estimates import Estimate
from core.contract.jobs import JobSpec
from core.contract.methods import AnyMethod
from core.forecasting import Forecast, forecast
from core.settings import Settings
from core.store import measurements, tenants, workers
from core.store.store import Store

QUEUED_SECONDS = 15.0
"""How long a call waits for a worker to take its measurement up: longer, and the worker is busy with a job."""
WAIT_SECONDS = 50.0
"""How long it waits altogether: clients and proxies that give up do so after a minute of silence."""
_LOOK_SECONDS = 0.25


class DryRun(Record):
    """A job that was checked and not launched, with what it is expected to cost."""

    object: str = "dry_run"
    valid: bool = Field(default=True, description="A job that is not valid is an error, as without `dry_run`.")
    method: AnyMethod
    base_model: str | None = Field(description="The base model that the job would start from; null for a ranking.")
    estimate: Estimate
    note: str = Field(default="", description="What the estimate lacks, if it lacks something.")


async def dry_run(store: Store, settings: Settings, tenant: str, spec: JobSpec, wakeup: Wakeup) -> DryRun:
    """Check the job; where a few timed steps would tell more, have a worker take them, and wait a while for it."""
    checked, found = await run_in_threadpool(_look, store, settings, tenant, spec)
    if not found.lacks:
        return _reply(checked, found, "")
    asked = await run_in_threadpool(_ask, store, settings, tenant, checked)
    if asked is None:
        return _reply(checked, found, "No worker lives that could measure it: the figures are assumed.")
    wakeup.send("jobs")
    state = await _wait(store, asked)
    with_more = await run_in_threadpool(_forecast, store, settings, tenant, checked)
    return _reply(checked, with_more, _NOTES[state])


_NOTES = {
    "done": "",
    "failed": "It could not be measured: the figures rest on what is known of other jobs.",
    "queued": "The workers are busy, so that nothing could be measured yet; ask again later for better figures.",
    "running": "The measurement takes longer than a call may wait; ask again in a minute for better figures.",
}


def _look(store: Store, settings: Settings, tenant: str, spec: JobSpec) -> tuple[JobSpec, Forecast]:
    with store.db.write() as tx:  # the checks hold the data sets as they do for a real job
        checked = check(tx, tenant, spec)
        tenants.admit_job(tx, tenant, settings)
        return checked, forecast(tx, settings, tenant, checked)


def _forecast(store: Store, settings: Settings, tenant: str, spec: JobSpec) -> Forecast:
    with store.db.read() as tx:
        return forecast(tx, settings, tenant, spec)


def _ask(store: Store, settings: Settings, tenant: str, spec: JobSpec) -> str | None:
    with store.db.write() as tx:
        if not workers.alive(tx, 3 * settings.lease_seconds, "jobs"):
            return None
        return measurements.ask(tx, tenant, spec)


async def _wait(store: Store, measurement_id: str) -> str:
    """What became of it: `done` or `failed`; still `queued`, or `running`, once the time for that is up."""

    def state() -> str:
        with store.db.read() as tx:
            found = measurements.get(tx, measurement_id)
        return "failed" if found is None else found.state

    begun = time.monotonic()
    while True:
        now = await run_in_threadpool(state)
        limit = {"queued": QUEUED_SECONDS, "running": WAIT_SECONDS}.get(now, 0.0)
        if time.monotonic() - begun >= limit:
            return now
        await asyncio.sleep(_LOOK_SECONDS)


def _reply(spec: JobSpec, found: Forecast, note: str) -> DryRun:
    return DryRun(method=spec.method, base_model=spec.base_model, estimate=found.estimate, note=note)
