"""A running job as its parent sees it: gathers events into few transactions, keeps the lease, brings wishes."""

import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from core.contract.jobs import EventKind, Progress, Step
from core.store import jobs
from core.store.events import NewEvent
from core.store.store import Store
from worker.children import Asked
from worker.leases import Lease, ShuttingDownError

FLUSH_SECONDS = 0.3
FLUSH_EVENTS = 50
LOOK_SECONDS = 0.4


class JobSession:
    """Watches one attempt at one job (`worker.children.Watch`)."""

    def __init__(self, store: Store, claim: jobs.JobClaim, lease_seconds: float, stopping: Callable[[], bool]) -> None:
        self.steps: list[Step] = []
        self._store = store
        self._fence = claim.fence
        self._lease = Lease(lease_seconds)
        self._stopping = stopping
        self._pending: list[NewEvent] = []
        self._progress: Progress | None = None
        self._urgent = False
        self._flush_at = 0.0
        self._look_at = 0.0
        self._asked: Asked = "go_on"

    def event(self, kind: EventKind, data: dict[str, Any]) -> None:
        """Take an event; steps are written at once, of several progress events in a row only the last."""
        if kind == "step":
            self._take_step(Step.model_validate(data))
        elif kind == "progress":
            self._progress = Progress.model_validate(data)
            if self._pending and self._pending[-1].kind == "progress":
                self._pending.pop()
        if not self._pending:
            self._flush_at = time.monotonic() + FLUSH_SECONDS
        self._pending.append(NewEvent(kind, data))
        self._urgent |= kind == "step"
        if len(self._pending) >= FLUSH_EVENTS and len(self._pending) % FLUSH_EVENTS == 0:
            self._lease.attempt(self.flush)

    def tick(self) -> Asked:
        """Write what is due, renew the lease, look for wishes."""
        if self._stopping():
            raise ShuttingDownError
        if self._pending and (self._urgent or time.monotonic() >= self._flush_at):
            self._lease.attempt(self.flush)
        if self._lease.due:
            self._lease.attempt(self._beat)
        elif time.monotonic() >= self._look_at:
            self._lease.attempt(self._look)
        return self._asked

    def flush(self) -> None:
        """Write what has been gathered, in one transaction."""
        if not self._pending:
            return
        with self._store.db.write() as tx:
            self.write(tx)
        self._pending, self._urgent = [], False

    def write(self, tx: Connection) -> None:
        """Write what has been gathered in the caller's transaction."""
        jobs.record(tx, self._fence, self._pending, progress=self._progress, steps=self.steps)

    def _take_step(self, step: Step) -> None:
        self.steps = [old for old in self.steps if old.name != step.name] + [step]

    def _beat(self) -> None:
        with self._store.db.write() as tx:
            self._heed(jobs.heartbeat(tx, self._fence, self._lease.seconds))
        self._lease.renewed()

    def _look(self) -> None:
        with self._store.db.read() as tx:
            self._heed(jobs.wishes(tx, self._fence))

    def _heed(self, wishes: jobs.Wishes) -> None:
        self._look_at = time.monotonic() + LOOK_SECONDS
        self._asked = "cancel" if wishes.cancel else "stop" if wishes.stop else "go_on"
