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
from typing import Any, Literal, Protocol

import psutil

from core.contract.errors import ErrorBody
from core.contract.jobs import EventKind
from core.wakeup import Queue
from worker import child, failures

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
CANCEL_GRACE_SECONDS = 5.0
MEMORY_SHARE = 0.9

Asked = Literal["go_on", "stop", "cancel"]


class Watch(Protocol):
    """What the parent does while a child works."""

    def event(self, kind: EventKind, data: dict[str, Any]) -> None:
        """The child reported something."""

    def tick(self) -> Asked:
        """Called ten times a second; an exception ends the child and is passed on."""


@dataclass(frozen=True)
class Ending:
    """How a child ended; with `cancelled` False exactly one of `result` and `error` is set."""

    result: dict[str, Any] | None = None
    error: ErrorBody | None = None
    report: Path | None = None
    cancelled: bool = False
    peak_bytes: int = 0


def warm(queue: Queue) -> None:
    """Start the fork server for this kind of work. Call it from the main thread: the fork server ends with it."""
    multiprocessing.set_forkserver_preload(["worker.preload", *PRELOAD[queue]])
    forkserver.ensure_running()


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
        self._process = context.Process(target=child.main, args=(theirs, work, name, args), name=name)
        try:
            self._process.start()
        finally:
            theirs.close()
        self.limit_bytes = int(machine_memory() * MEMORY_SHARE)
        self.peak_bytes = 0
        self._used = 0
        self._measured = 0.0

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

    def say(self, word: Literal["stop", "cancel"]) -> None:
        """Tell the child; one that has ended need not hear it."""
        with contextlib.suppress(OSError):
            self._pipe.send_bytes(word.encode())

    def measure(self) -> int:
        """Bytes of memory it had at the last look; looks at most twice a second."""
        now = time.monotonic()
        if now - self._measured >= MEMORY_SECONDS:
            self._measured = now
            with contextlib.suppress(psutil.Error):
                self._used = int(psutil.Process(self.pid).memory_info().rss)
            self.peak_bytes = max(self.peak_bytes, self._used)
        return self._used

    def close(self) -> None:
        """End it if it still runs, and wait until it is gone."""
        if self._process.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self._process.join(5.0)
        self._pipe.close()


def supervise(running: Child, watch: Watch, *, max_seconds: int | None = None) -> Ending:
    """Follow a child to its end. What `watch` raises ends the child and is passed on."""
    began = time.monotonic()
    asked: Asked = "go_on"
    cancelled_at = 0.0
    try:
        while True:
            received, ended = running.messages(TICK_SECONDS)
            for message in received:
                ending = _take(message, watch, running)
                if ending is not None:
                    return ending
            if ended:
                return _died(running, cancelled=asked == "cancel")
            now = time.monotonic()
            wish = watch.tick()
            if wish != "go_on" and wish != asked:  # noqa: PLR1714 -- so that the type is narrowed
                running.say(wish)
                asked, cancelled_at = wish, now
            if asked == "cancel" and now - cancelled_at > CANCEL_GRACE_SECONDS:
                return Ending(cancelled=True, peak_bytes=running.peak_bytes)
            if max_seconds is not None and now - began > max_seconds:
                return Ending(error=failures.deadline(max_seconds), peak_bytes=running.peak_bytes)
            if running.measure() > running.limit_bytes:
                return Ending(error=_too_big(running), peak_bytes=running.peak_bytes)
    finally:
        running.close()


def _take(message: dict[str, Any], watch: Watch, running: Child) -> Ending | None:
    running.measure()
    if message["kind"] == "event":
        watch.event(message["event"], message["data"])
        return None
    if message["kind"] == "cancelled":
        return Ending(cancelled=True, peak_bytes=running.peak_bytes)
    if message["kind"] == "error":
        report = message.get("report")
        body = ErrorBody.model_validate(message["body"])
        return Ending(error=body, report=Path(report) if report else None, peak_bytes=running.peak_bytes)
    return Ending(result=message["value"], peak_bytes=running.peak_bytes)


def _died(running: Child, *, cancelled: bool) -> Ending:
    if cancelled:
        return Ending(cancelled=True, peak_bytes=running.peak_bytes)
    error = failures.of_death(running.exit_code, running.peak_bytes, running.limit_bytes)
    return Ending(error=error, peak_bytes=running.peak_bytes)


def _too_big(running: Child) -> ErrorBody:
    return failures.out_of_memory(
        f"The run needed more than {MEMORY_SHARE:.0%} of the machine's memory and was ended.",
        {"peak_bytes": running.peak_bytes, "limit_bytes": running.limit_bytes},
    )
