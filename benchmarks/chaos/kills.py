"""What is done to the service, when, and to which of its processes: drawn from a seed, so that it can be done again."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from benchmarks.chaos.setups import Production, Setup
from core.store.tables import jobs

FROZEN_SECONDS = 5.0  # longer than the lease
SHARES = {
    "child killed": 14,
    "worker killed": 12,
    "worker asked to end": 7,
    "worker frozen": 6,
    "API killed": 7,
    "broker wiped": 4,
    "broker killed": 4,
    "database away": 4,
    "all of it killed": 2,
}


@dataclass(frozen=True)
class Running:
    """A job that runs, and the worker that runs it."""

    job_id: str
    method: str
    attempt: int
    worker: psutil.Process


@dataclass
class Kill:
    """One blow: `at` in seconds of the epoch; `hit` are the jobs that ran then."""

    kind: str
    at: float
    hit: list[Running] = field(default_factory=list)
    hurts: bool = True
    """Whether the running jobs lose their process by it."""
    back_seconds: float | None = None
    """How long the part that was hit (not a job) was away."""


def plan(setup: Setup, count: int, rng: random.Random) -> list[str]:
    """The kinds of blows in their order: each at least once, the rest by their shares."""
    shares = dict(SHARES)
    if isinstance(setup, Production):
        shares["worker group killed"] = shares.pop("all of it killed")
    kinds = list(shares)
    rng.shuffle(kinds)
    deck = (kinds + rng.choices(list(shares), list(shares.values()), k=max(0, count - len(kinds))))[:count]
    rng.shuffle(deck)
    return deck


class Killer:
    """Strikes."""

    def __init__(self, setup: Setup, rng: random.Random) -> None:
        self.setup, self.rng = setup, rng
        self.done: list[Kill] = []
        self._began = time.time()
        self._blows: dict[str, Callable[[], Kill]] = {
            "child killed": self._child,
            "worker killed": lambda: self._worker("worker killed", signal.SIGKILL),
            "worker asked to end": lambda: self._worker("worker asked to end", signal.SIGTERM),
            "worker frozen": self._freeze,
            "worker group killed": self._group,
            "API killed": self._api,
            "broker wiped": self._wipe,
            "broker killed": self._broker,
            "database away": self._database,
            "all of it killed": self._all,
        }

    def strike(self, kind: str) -> None:
        """Do it, and say so."""
        kill = self._blows[kind]()
        self.done.append(kill)
        what = ", ".join(f"{one.method} {one.job_id[-6:]}#{one.attempt}" for one in kill.hit) or "-"
        back = "" if kill.back_seconds is None else f", back after {kill.back_seconds:.1f} s"
        print(f"{kill.at - self._began:7.1f} s  {len(self.done):3} {kind:<20} running: {what}{back}", flush=True)

    def running(self) -> list[Running]:
        """The jobs that run now, with their workers."""
        workers = {process.pid: process for process in self.setup.workers()}
        columns = jobs.c
        try:
            with self.setup.store.db.read() as tx:
                query = select(columns.id, columns.method, columns.attempt, columns.owner)
                rows = list(tx.execute(query.where(columns.state == "running")))
        except SQLAlchemyError:
            return []
        found = []
        for row in rows:
            worker = next((p for pid, p in workers.items() if f"-{pid}-" in (row.owner or "")), None)
            if worker is not None:
                found.append(Running(row.id, row.method, row.attempt, worker))
        return found

    def _victim(self) -> Running:
        """A running job, of which training ones are the most."""
        self.setup.until(lambda: bool(self.running()), 180, "a job runs")
        while not (found := self.running()):
            self.setup.pause(0.05)
        return self.rng.choice(found)

    def _child(self) -> Kill:
        while True:
            victim = self._victim()
            children = job_processes(victim.worker)
            if children:
                kill = Kill("child killed", time.time(), [victim])
                with contextlib.suppress(psutil.Error):
                    children[-1].kill()
                return kill
            self.setup.pause(0.05)

    def _worker(self, kind: str, number: signal.Signals) -> Kill:
        victim = self._victim()
        kill = Kill(kind, time.time(), [victim])
        _send(victim.worker, number)
        return kill

    def _freeze(self) -> Kill:
        victim = self._victim()
        kill = Kill("worker frozen", time.time(), [victim])
        _send(victim.worker, signal.SIGSTOP)
        self.setup.pause(FROZEN_SECONDS)
        _send(victim.worker, signal.SIGCONT)
        return kill

    def _group(self) -> Kill:
        """A `graftd worker` is killed; the workers below it must go with it."""
        setup = self.setup
        assert isinstance(setup, Production)
        setup.until(lambda: len(setup.groups()) == 2, 60, "both worker groups run")
        group = self.rng.choice(setup.groups())
        below = {process.pid for process in group.children(recursive=True)}
        hit = [one for one in self.running() if one.worker.pid in below]
        kill = Kill("worker group killed", time.time(), hit)
        _send(group, signal.SIGKILL)
        return kill

    def _api(self) -> Kill:
        self.setup.until(lambda: self.setup.api() is not None, 60, "the API runs")
        kill = Kill("API killed", time.time(), self.running(), hurts=False)
        _send(self.setup.api(), signal.SIGKILL)
        kill.back_seconds = self.setup.until(self.setup.api_answers, 120, "the API is back")
        return kill

    def _wipe(self) -> Kill:
        self.setup.until(self.setup.broker_answers, 60, "the broker answers")
        kill = Kill("broker wiped", time.time(), self.running(), hurts=False)
        self.setup.wipe_broker()
        return kill

    def _broker(self) -> Kill:
        self.setup.until(lambda: self.setup.broker() is not None, 60, "the broker runs")
        kill = Kill("broker killed", time.time(), self.running(), hurts=False)
        _send(self.setup.broker(), signal.SIGKILL)
        kill.back_seconds = self.setup.until(self.setup.broker_answers, 120, "the broker is back")
        return kill

    def _database(self) -> Kill:
        kill = Kill("database away", time.time(), self.running(), hurts=False)
        self.setup.shake_database()
        kill.back_seconds = time.time() - kill.at
        return kill

    def _all(self) -> Kill:
        kill = Kill("all of it killed", time.time(), self.running())
        for process in self.setup.roots():
            _send(process, signal.SIGKILL)
        self.setup.until(lambda: not self.setup.strays(), 30, "everything is gone with graftd")
        self.setup.start()
        kill.back_seconds = time.time() - kill.at
        return kill


def job_processes(worker: psutil.Process) -> list[psutil.Process]:
    """The processes of a worker's jobs: children of its fork server."""
    found = []
    with contextlib.suppress(psutil.Error):
        for server in worker.children():
            found += [child for child in server.children() if child.status() != psutil.STATUS_ZOMBIE]
    return found


def _send(process: psutil.Process | None, number: signal.Signals) -> None:
    if process is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
