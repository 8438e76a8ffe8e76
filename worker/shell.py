"""One worker process: a thread that drains the queue in the database, one that tidies up, and an ear for wake-ups."""

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

from sqlalchemy.exc import SQLAlchemyError

from core import logs
from core.settings import Settings
from core.store import jobs, workers
from core.store.store import Store
from core.wakeup import Queue
from migrations.run import behind
from worker import children, folders, jobs_child, wakeups
from worker.deliveries import Deliverer
from worker.garbage import Collector
from worker.importing import ModelImporter
from worker.ingestion import Ingester
from worker.measuring import Measurer
from worker.runner import JobRunner

log = logs.get_logger(__name__)
EXIT_SECONDS = 4.0  # beyond `shutdown_seconds`, for the last writes
DELIVER_SECONDS = 1.0
COLLECT_SECONDS = 30.0  # how often it is asked whether a sweep is due


class Runner(Protocol):
    """Something that claims one piece of work and does it."""

    def run_next(self, owner: str) -> bool:
        """Do one piece of work; False if there is none."""


class InTurn:
    """Asks several runners one after the other; the first that has work does it."""

    def __init__(self, *runners: Runner) -> None:
        self._runners = runners

    def run_next(self, owner: str) -> bool:
        """Do one piece of work; False if none of them has any."""
        return any(runner.run_next(owner) for runner in self._runners)

    def stats(self) -> dict[str, Any] | None:
        """What the busy one is doing."""
        return next((stats for runner in self._runners if (stats := _stats(runner)) is not None), None)


def _stats(runner: Runner) -> dict[str, Any] | None:
    look: Callable[[], dict[str, Any] | None] | None = getattr(runner, "stats", None)
    return None if look is None else look()


class Worker:
    """Claims and does the work of one queue until it is told to stop."""

    def __init__(self, settings: Settings, queue: Queue, *, engine: str = jobs_child.DEFAULT_ENGINE) -> None:
        self.settings = settings
        self.queue: Queue = queue
        self.host = socket.gethostname()
        self.id = f"{queue}@{self.host}-{os.getpid()}-{secrets.token_hex(3)}"
        self.store = Store.open(settings)
        self.app = wakeups.make_app(settings.resolved_broker_url)
        self._waker = wakeups.Waker(self.app)
        self._wake = threading.Event()
        self._quit = threading.Event()
        self._stopping = False  # a plain flag: a signal handler may set it, but must not take a lock
        self._busy = False
        self._in_message = False
        self._runner = self._make_runner(engine)
        self._threads = [threading.Thread(target=target, name=name, daemon=True) for target, name in self._loops()]

    def _make_runner(self, engine: str) -> Runner:
        if self.queue == "jobs":
            common = self.store, self.settings, self.is_stopping
            # Somebody waits for a measurement, and it takes seconds: it goes before any job.
            return InTurn(Measurer(*common), JobRunner(*common, engine), ModelImporter(*common))
        return Ingester(self.store, self.settings, self.is_stopping)

    def _loops(self) -> tuple[tuple[Callable[[], None], str], ...]:
        return (
            (self._drain_loop, "drain"),
            (self._tidy_loop, "tidy"),
            (self._deliver_loop, "deliver"),
            (self._collect_loop, "collect"),
        )

    def is_stopping(self) -> bool:
        """Whether the worker has been told to end."""
        return self._stopping

    def start(self) -> None:
        """Begin to work, in threads."""
        try:
            folders.remove_temporary()
            folders.remove_stale(self.store, self.settings.root)
        except Exception as error:  # the database is away: the worker waits for it
            log.warning("could not remove what was left behind", error=f"{type(error).__name__}: {error}")
        for thread in self._threads:
            thread.start()

    def woken(self) -> None:
        """There is work: returns once it is done, so that a busy worker takes no wake-up that an idle one could."""
        self._in_message = True
        self._wake.set()
        while (self._wake.is_set() or self._busy) and not self._stopping:
            time.sleep(0.02)
        self._in_message = False

    def listen(self) -> None:
        """Take wake-ups in this (main) thread until told to stop."""
        wakeups.listen(self.app, self.queue, self.id, self.woken)

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """SIGTERM or SIGINT: leave `listen`; a worker that cannot is ended by force."""
        if self._stopping:
            return
        self._stopping = True
        wakeups.leave()
        if not self._in_message:  # Celery takes an exception there for a failure of the message
            raise SystemExit(0)

    def stop(self) -> None:
        """Hand running work back, say goodbye, close."""
        self._stopping = True
        self._quit.set()
        self._wake.set()
        seconds = self.settings.shutdown_seconds + EXIT_SECONDS
        threading.Thread(target=_force_exit, args=(seconds,), daemon=True).start()
        give_up = time.monotonic() + seconds - 1.0
        for thread in self._threads:
            thread.join(max(0.1, give_up - time.monotonic()))
        try:
            with self.store.db.write() as tx:
                workers.leave(tx, self.id)
            self._waker.wake(self.queue)  # for what was handed back
        except Exception as error:
            log.warning("could not say goodbye", error=str(error))
        self.store.close()
        log.info("worker stopped", queue=self.queue)

    def _make_ready(self) -> None:
        """Before the first claim: children must come at once, and the tables be those that this program knows."""
        children.wait_until_warm()
        while not self._stopping and (why := self._schema()) is not None:
            log.warning("not ready for work yet", reason=why)
            self._quit.wait(self.settings.sweep_seconds)

    def _schema(self) -> str | None:
        try:
            with self.store.db.read() as tx:
                old = behind(tx)
        except Exception as error:
            return f"the database is away: {type(error).__name__}"
        return None if old is None else f"{old}; see `graftd migrate`"

    def _drain_loop(self) -> None:
        self._make_ready()
        while not self._stopping:
            self._busy = True
            self._wake.clear()
            try:
                while not self._stopping and self._runner.run_next(self.id):
                    pass
            except Exception as error:  # the database is away, or a fault of ours: the worker must live on
                log.warning("could not look for work, trying again", error=f"{type(error).__name__}: {error}")
            self._busy = False
            self._wake.wait(self._pause())

    def _pause(self) -> float:
        """Until the next look for work: sooner if a job that was lost may be tried again by then."""
        pause = self.settings.sweep_seconds
        if self.queue != "jobs":
            return pause
        try:
            with self.store.db.read() as tx:
                due = jobs.due_in(tx)
        except SQLAlchemyError:  # the database is away: the next claim says so
            return pause
        return pause if due is None else min(pause, due + 0.05)

    def _tidy_loop(self) -> None:
        while not self._stopping:
            try:
                self._tidy()
            except Exception as error:
                log.warning("could not tidy up, trying again", error=f"{type(error).__name__}: {error}")
            self._quit.wait(self.settings.sweep_seconds)

    def _deliver_loop(self) -> None:
        self._repeat(Deliverer(self.store, self.settings, self.is_stopping).run_due, DELIVER_SECONDS)

    def _collect_loop(self) -> None:
        self._repeat(Collector(self.store, self.settings, self.is_stopping).run_due, COLLECT_SECONDS)

    def _repeat(self, work: Callable[[], object], pause: float) -> None:
        while not self._stopping:
            try:
                work()
            except Exception as error:
                name = threading.current_thread().name
                log.warning(f"could not {name}, trying again", error=f"{type(error).__name__}: {error}")
            self._quit.wait(pause)

    def _tidy(self) -> None:
        with self.store.db.write() as tx:
            workers.beat(tx, self.id, self.queue, host=self.host, pid=os.getpid(), stats=_stats(self._runner))
            touched = jobs.reconcile(tx, self.settings.max_attempts)
        if touched:
            log.warning("jobs of lost workers put right", count=touched)
            self._wake.set()
            self._waker.wake("jobs")


def _force_exit(seconds: float) -> None:
    time.sleep(seconds)
    os._exit(1)
