"""Measurements that estimates ask for: a child times a few steps, the parent enters what it saw."""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core import logs
from core.contract.errors import ErrorBody, JobError
from core.contract.jobs import EventKind
from core.estimating import Spent, observe
from core.forecasting import forecast
from core.settings import Settings
from core.store import measurements
from core.store.leases import LostLeaseError
from core.store.store import Store
from worker import estimates, failures, measuring_child
from worker.children import Asked, Child, Ending, Limits, supervise
from worker.folders import work_folder
from worker.inputs import InputFinder, places
from worker.leases import Lease, ShuttingDownError, persist

log = logs.get_logger(__name__)
MAX_SECONDS = 90.0  # one takes some ten; a network that has to be exported first takes longer
_TRIES = 2


@dataclass(frozen=True)
class Measurer:
    """Does measurements, one at a time."""

    store: Store
    settings: Settings
    stopping: Callable[[], bool]
    work: Callable[..., dict[str, Any]] = measuring_child.run

    def run_next(self, owner: str) -> bool:
        """Claim a measurement and bring it to its end; False if there is none."""
        with self.store.db.write() as tx:
            claim = measurements.claim_next(tx, owner, self.settings.lease_seconds)
        if claim is None:
            return False
        with logs.bind(measurement=claim.fence.id):
            _Run(self, claim).run()
        return True


class _Watch:
    """Keeps the lease while the child works (`worker.children.Watch`)."""

    def __init__(self, measurer: Measurer, claim: measurements.MeasurementClaim) -> None:
        self._measurer, self._claim = measurer, claim
        self._lease = Lease(measurer.settings.lease_seconds)

    def event(self, kind: EventKind, data: dict[str, Any]) -> None:
        """A measurement reports nothing on its way."""

    def tick(self) -> Asked:
        """Renew the lease; a worker that has to end hands the measurement back."""
        if self._measurer.stopping():
            raise ShuttingDownError
        if self._lease.due:
            self._lease.attempt(self._beat)
        return "go_on"

    def _beat(self) -> None:
        with self._measurer.store.db.write() as tx:
            measurements.heartbeat(tx, self._claim.fence, self._lease.seconds)
        self._lease.renewed()


class _Run:
    """One attempt at one measurement."""

    def __init__(self, measurer: Measurer, claim: measurements.MeasurementClaim) -> None:
        self.measurer, self.claim, self.fence = measurer, claim, claim.fence
        self.store, self.settings = measurer.store, measurer.settings
        self.began = time.monotonic()

    def run(self) -> None:
        """Bring it to an end, whatever happens."""
        try:
            if self.claim.lost >= _TRIES:
                self._finish(JobError("The worker was lost while it measured.", code="worker_lost").body())
                return
            if not self._once():
                self._once()  # the base model was only exported, which a job does in another process, too
        except ShuttingDownError:
            self._persist(lambda tx: measurements.release(tx, self.fence))
        except LostLeaseError as error:
            log.warning("measurement lost", reason=str(error))
        except Exception as error:
            if not isinstance(error, JobError):
                log.exception("unexpected error")
            self._finish(failures.of_exception(error))

    def _once(self) -> bool:
        """One child's work; False where it is to be gone on with in another."""
        with work_folder(self.settings.root, self.fence) as folder:
            ending = self._follow(folder)
        if ending.result is None:
            self._finish(ending.error or failures.of_death(None, ending.peak_bytes, ending.peak_bytes))
            return True
        found = [Spent.model_validate(one) for one in ending.result["spent"]]
        self._enter(found)
        if any(one.graph_seconds is not None for one in found):
            return False
        self._finish(None)
        return True

    def _follow(self, folder: Path) -> Ending:
        with self.store.db.read() as tx:
            inputs = InputFinder(self.store, tx, self.claim.tenant).inputs(self.fence.id, self.claim.spec)
        arguments = (self.claim.spec, inputs, places(self.settings, folder))
        child = Child(self.measurer.work, self.fence.id, arguments)
        return supervise(child, _Watch(self.measurer, self.claim), Limits(budget=MAX_SECONDS))

    def _enter(self, found: list[Spent]) -> None:
        """What a job has told of the same before is better, and stays."""
        with self.store.db.read() as tx:
            host = socket.gethostname()
            work = forecast(tx, self.settings, self.claim.tenant, self.claim.spec, host=host).work
        for spent in found:
            estimates.write(self.store, spent, observe(work, spent, whole=False), "measured")

    def _finish(self, error: ErrorBody | None) -> None:
        self._persist(lambda tx: measurements.finish(tx, self.fence, error))
        seconds = round(time.monotonic() - self.began, 3)
        log.info("measured" if error is None else "could not measure", seconds=seconds, error=error and error.message)

    def _persist(self, work: Callable[[Any], None]) -> None:
        def write() -> None:
            with self.store.db.write() as tx:
                work(tx)

        try:
            persist(write, self.settings.lease_seconds)
        except LostLeaseError as error:
            log.warning("measurement lost", reason=str(error))
