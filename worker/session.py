"""A running job as its parent sees it: gathers events into few transactions, keeps the lease, brings wishes."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from core import logs
from core.contract.errors import InsufficientStorageError
from core.contract.jobs import Checkpoint, EventKind, Progress, Step
from core.store import garbage, jobs
from core.store.events import NewEvent
from core.store.store import Store
from worker.checkpoints import Saved, UnusableError, inspect
from worker.children import Asked
from worker.history import History
from worker.leases import Lease
from worker.spans import Steps

log = logs.get_logger(__name__)
FLUSH_SECONDS = 0.3
FLUSH_EVENTS = 50
LOOK_SECONDS = 0.3


class JobSession:
    """Watches one attempt at one job (`worker.children.Watch`); `folder` is where its child writes."""

    def __init__(
        self, store: Store, claim: jobs.JobClaim, lease_seconds: float, stopping: Callable[[], bool], folder: Path
    ) -> None:
        self.steps: list[Step] = []
        self.spans = Steps()
        self.checkpoint: Checkpoint | None = claim.checkpoint
        self._store = store
        self._fence = claim.fence
        self._folder = folder
        self._lease = Lease(lease_seconds)
        self._stopping = stopping
        self._history = History(claim.fence)
        self._pending: list[NewEvent] = []
        self._saved: Saved | None = None
        self._progress: Progress | None = None
        self._resolved: dict[str, Any] | None = None
        self._urgent = False
        self._flush_at = 0.0
        self._look_at = 0.0
        self._asked: Asked = "go_on"

    @property
    def step(self) -> str | None:
        """The step that the job is in."""
        return next((step.name for step in reversed(self.steps) if step.state == "running"), None)

    @property
    def asked_to_stop(self) -> bool:
        """Whether the run was to end before its own end."""
        return self._asked != "go_on"

    @property
    def holds_checkpoint(self) -> bool:
        """Whether a checkpoint in the work folder still has to be stored: the database was away."""
        return self._saved is not None

    def event(self, kind: EventKind, data: dict[str, Any]) -> None:
        """Take an event; steps are written at once, of several progress events in a row only the last."""
        if kind == "checkpoint":
            self._take_checkpoint(data)
            return
        if kind == "step":
            self._take_step(Step.model_validate(data))
        elif kind == "progress":
            self._progress = Progress.model_validate(data)
            if self._pending and self._pending[-1].kind == "progress":
                self._pending.pop()
        elif kind == "resolved":
            self._resolved = data["method"]
        if not self._pending:
            self._flush_at = time.monotonic() + FLUSH_SECONDS
        self._pending.append(NewEvent(kind, data))
        self._urgent |= kind == "step"
        if len(self._pending) >= FLUSH_EVENTS and len(self._pending) % FLUSH_EVENTS == 0:
            self._lease.attempt(self.flush)

    def tick(self) -> Asked:
        """Write what is due, renew the lease, look for wishes; a worker that has to end suspends its job."""
        if self._saved is not None:
            self._lease.attempt(self._keep)
        if self._pending and (self._urgent or time.monotonic() >= self._flush_at):
            self._lease.attempt(self.flush)
        if self._lease.due:
            self._lease.attempt(self._beat)
        elif time.monotonic() >= self._look_at:
            self._lease.attempt(self._look)
        return "suspend" if self._stopping() and self._asked != "cancel" else self._asked

    def flush(self) -> None:
        """Write what has been gathered, in one transaction."""
        if self._saved is not None:
            self._keep()
        if not self._pending:
            return
        with self._store.db.write() as tx:
            self.write(tx)
        self.written()

    def write(self, tx: Connection) -> None:
        """Write what has been gathered in the caller's transaction; after it has gone through call `written`."""
        new = self._history.without_known(tx, self._pending)
        jobs.record(tx, self._fence, new, progress=self._progress, steps=self.steps, resolved=self._resolved)

    def written(self) -> None:
        """What was gathered is in the books."""
        self._pending, self._urgent = [], False

    def _take_step(self, step: Step) -> None:
        self.steps = [old for old in self.steps if old.name != step.name] + [step]
        self.spans.take(step)

    def _take_checkpoint(self, data: dict[str, Any]) -> None:
        if self._saved is not None:
            self._saved.path.unlink(missing_ok=True)  # the database was away: the newer one takes its place
        try:
            self._saved = inspect(self._folder, data)
        except UnusableError as error:
            self._could_not_keep(str(error))
            return
        self._lease.attempt(self._keep)

    def _keep(self) -> None:
        """One transaction: the file becomes a blob, the job points to it, its events up to then are written."""
        saved = self._saved
        if saved is None:
            return
        try:
            with self._store.db.write(blobs=True) as tx:
                self._store.blobs.adopt(saved.path, saved.checkpoint.sha256)
                self.write(tx)
                before = jobs.save_checkpoint(tx, self._fence, saved.checkpoint)
        except InsufficientStorageError:
            saved.path.unlink(missing_ok=True)
            self._saved = None
            self._could_not_keep("the disk is full")
            return
        self.checkpoint, self._saved = saved.checkpoint, None
        self.written()
        if before is not None:
            drop(self._store, before)

    def _could_not_keep(self, reason: str) -> None:
        log.warning("checkpoint not kept", job=self._fence.id, reason=reason)
        text = f"A checkpoint could not be kept: {reason}. The one before it stays, and the job goes on."
        self.event("message", {"text": text})

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


def drop(store: Store, sha256: str) -> None:
    """Remove a checkpoint that its job has let go of; if that fails, the collector finds it later."""
    try:
        garbage.drop(store, [sha256])
    except Exception as error:
        log.warning("old checkpoint not removed yet", error=f"{type(error).__name__}: {error}")
