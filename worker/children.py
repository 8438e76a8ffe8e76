"""The parent's side of a child process: started from a fork server that has the heavy libraries loaded already.

The fork server never touches CUDA, so each child may. A child is ready in some 30 ms.
"""

import contextlib
import json
import multiprocessing
import os
import signal
import time
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Protocol

import psutil

from core import logs
from core.contract.errors import ErrorBody
from core.contract.jobs import EventKind
from core.wakeup import Queue
from worker import child, failures
from worker.engine.door import Wish
from worker.usage import Usage

PRELOAD: dict[Queue, tuple[str, ...]] = {
    "jobs": (
        "torch",
        "torchvision",
        "timm",
        "onnx",
        "onnxruntime",
        "worker.child",
        "worker.jobs_child",
        "worker.engine.job",
    ),
    "ingest": ("numpy", "PIL.Image", "worker.child", "worker.ingestion_child", "core.modality.ingest"),
}
TICK_SECONDS = 0.1
MEMORY_SECONDS = 0.5
CANCEL_GRACE_SECONDS = 2.0
FROZEN_SECONDS = 5.0
MEMORY_SHARE = 0.9

Asked = Wish


class Watch(Protocol):
    """What the parent does while a child works."""

    def event(self, kind: EventKind, data: dict[str, Any]) -> None:
        """The child reported something."""

    def tick(self) -> Asked:
        """Called ten times a second; an exception ends the child and is passed on."""


@dataclass(frozen=True)
class Ending:
    """How a child ended: with a `result` or an `error`, unless it was `cancelled` or `suspended`."""

    result: dict[str, Any] | None = None
    error: ErrorBody | None = None
    again: bool = False
    """With `error`: another attempt may well succeed."""
    report: Path | None = None
    cancelled: bool = False
    suspended: bool = False
    """The worker has to end; the work is not done, and it is nobody's fault."""
    peak_bytes: int = 0


@dataclass(frozen=True)
class Limits:
    """How long a child may take. All are seconds; None is no limit."""

    budget: float | None = None
    """For the whole work, earlier attempts included."""
    spent: float = 0.0
    """What of it earlier attempts used up."""
    silence: float | None = None
    """Without a sign of life."""
    suspend: float = 0.0
    """From the wish to suspend on, to save what there is to save."""


def warm(queue: Queue) -> None:
    """Start the fork server for this kind of work. Call it from the main thread: the fork server ends with it."""
    multiprocessing.set_forkserver_preload(["worker.preload", *PRELOAD[queue]])
    forkserver.ensure_running()


def wait_until_warm() -> None:
    """Return once the fork server has loaded its libraries: a child that is asked for from then on comes at once.

    Without this the lease on a first job could run out while it waits for its process.
    """
    probe = multiprocessing.get_context("forkserver").Process(target=os.getpid, daemon=True)
    probe.start()
    probe.join()


def machine_memory() -> int:
    """Bytes of memory this machine (or container) has."""
    total = int(psutil.virtual_memory().total)
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            total = min(total, int(Path(name).read_text()))
    return total


class Child:
    """A running child process."""

    def __init__(self, work: child.Work, name: str, args: tuple[Any, ...]) -> None:
        context = multiprocessing.get_context("forkserver")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=child.main, args=(theirs, work, name, args, logs.ids_bound()), name=name)
        try:
            self._process.start()
        finally:
            theirs.close()
        self.limit_bytes = int(machine_memory() * MEMORY_SHARE)
        self.usage = Usage()
        self._measured = 0.0

    @property
    def peak_bytes(self) -> int:
        """The most memory it was seen to hold."""
        return self.usage.peak_bytes

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid or 0

    @property
    def exit_code(self) -> int | None:
        """Exit code once it has ended; negative for a signal."""
        self._process.join(1.0)
        return self._process.exitcode

    def messages(self, seconds: float) -> tuple[list[dict[str, Any]], bool]:
        """Wait up to `seconds` for messages; returns them and whether the child has ended (and no more will come)."""
        wait([self._pipe, self._process.sentinel], seconds)
        received: list[dict[str, Any]] = []
        try:
            while len(received) < 200 and self._pipe.poll():
                received.append(json.loads(self._pipe.recv_bytes()))
        except (EOFError, OSError):
            return received, True
        return received, False

    def say(self, word: Wish) -> None:
        """Tell the child; one that has ended need not hear it."""
        with contextlib.suppress(OSError):
            self._pipe.send_bytes(word.encode())

    def measure(self) -> int:
        """Bytes of memory it had at the last look; looks at most twice a second."""
        now = time.monotonic()
        if now - self._measured >= MEMORY_SECONDS:
            self._measured = now
            with contextlib.suppress(psutil.Error):
                self.usage.take({"rss_bytes": int(psutil.Process(self.pid).memory_info().rss)})
        return self.usage.rss_bytes

    def close(self) -> None:
        """End it if it still runs, and wait until it is gone."""
        if self._process.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self._process.join(5.0)
        self._pipe.close()


def supervise(
    running: Child, watch: Watch, limits: Limits | None = None, *, max_seconds: float | None = None
) -> Ending:
    """Follow a child to its end. What `watch` raises ends the child and is passed on."""
    clock = _Clock(limits or Limits(budget=max_seconds))
    try:
        while True:
            received, ended = running.messages(TICK_SECONDS)
            clock.turn(heard=bool(received))
            for message in received:
                ending = _take(message, watch, running, clock)
                if ending is not None:
                    return ending
            if ended:
                return _died(running, clock)
            wish = watch.tick()
            if clock.ask(wish):
                running.say(wish)
            ending = _overdue(running, clock)
            if ending is not None:
                return ending
    finally:
        running.close()


class _Clock:
    """What was asked of a child, and when it was heard last."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.asked: Asked = "go_on"
        self.step = "start"
        self.now = self.began = self._heard = self._asked_at = time.monotonic()

    def turn(self, *, heard: bool) -> None:
        """Look at the time. If this process itself stood still, the child is not to blame for its silence."""
        before, self.now = self.now, time.monotonic()
        stood_still = self.now - before
        if heard:
            self._heard = self.now
        elif stood_still > FROZEN_SECONDS:
            self._heard += stood_still

    def ask(self, wish: Asked) -> bool:
        """Note the wish; whether it is new."""
        if wish in ("go_on", self.asked):
            return False
        self.asked, self._asked_at = wish, self.now
        return True

    @property
    def waited(self) -> float:
        """Seconds since the wish."""
        return self.now - self._asked_at

    @property
    def silent(self) -> float:
        """Seconds since the last sign of life."""
        return self.now - self._heard

    @property
    def is_out_of_time(self) -> bool:
        """Whether the budget is used up."""
        budget = self.limits.budget
        return budget is not None and self.limits.spent + self.now - self.began > budget


def _overdue(running: Child, clock: _Clock) -> Ending | None:
    """The ending of a child that took too long or too much."""
    peak, limits = running.peak_bytes, clock.limits
    if clock.asked == "cancel" and clock.waited > CANCEL_GRACE_SECONDS:
        return Ending(cancelled=True, peak_bytes=peak)
    if clock.asked == "suspend" and clock.waited > limits.suspend:
        return Ending(suspended=True, peak_bytes=peak)
    if clock.is_out_of_time:
        return Ending(error=failures.deadline(limits.budget or 0), peak_bytes=peak)
    if limits.silence is not None and clock.silent > limits.silence:
        return Ending(error=failures.stalled(clock.step, clock.silent), peak_bytes=peak)
    if running.measure() > running.limit_bytes:
        return Ending(error=_too_big(running), peak_bytes=running.peak_bytes)
    return None


def _take(message: dict[str, Any], watch: Watch, running: Child, clock: _Clock) -> Ending | None:
    running.measure()
    kind, peak = message["kind"], running.peak_bytes
    if kind == "alive":
        running.usage.take(message["usage"])
        return None
    if kind == "event":
        if message["event"] in ("step", "progress"):
            clock.step = message["data"].get("name") or message["data"].get("step")
        watch.event(message["event"], message["data"])
        return None
    if kind in ("cancelled", "suspended"):
        return Ending(cancelled=kind == "cancelled", suspended=kind == "suspended", peak_bytes=peak)
    if kind == "error":
        report = message.get("report")
        body = ErrorBody.model_validate(message["body"])
        return Ending(error=body, again=message["again"], report=Path(report) if report else None, peak_bytes=peak)
    return Ending(result=message["value"], peak_bytes=peak)


def _died(running: Child, clock: _Clock) -> Ending:
    if clock.asked in ("cancel", "suspend"):
        return Ending(
            cancelled=clock.asked == "cancel", suspended=clock.asked == "suspend", peak_bytes=running.peak_bytes
        )
    error = failures.of_death(running.exit_code, running.peak_bytes, running.limit_bytes)
    return Ending(error=error, again=True, peak_bytes=running.peak_bytes)


def _too_big(running: Child) -> ErrorBody:
    return failures.out_of_memory(
        f"The run needed more than {MEMORY_SHARE:.0%} of the machine's memory and was ended.",
        {"peak_bytes": running.peak_bytes, "limit_bytes": running.limit_bytes},
    )
