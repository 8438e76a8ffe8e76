"""The child's side: one process runs one job or ingests one data set. It has no SQL; it talks to its parent by a pipe.

Messages are JSON. To the parent: {kind: event | result | error | cancelled, …}. From it: `stop` or `cancel`; a closed
pipe means that the parent is gone, and the child ends at once.
"""

import faulthandler
import json
import math
import multiprocessing
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from core import logs
from core.contract.jobs import EventKind, Progress, Step
from core.processes import die_with_parent
from worker import failures
from worker.engine.door import CancelledError, Wish

NICE = 5
Work = Callable[..., dict[str, Any]]


class Link:
    """The pipe to the parent, with the latest wish that came down it."""

    def __init__(self, pipe: "Connection[bytes, bytes]") -> None:
        self._pipe = pipe
        self._lock = threading.Lock()
        self._wish: Wish = "go_on"
        threading.Thread(target=self._listen, daemon=True, name="parent").start()

    def wish(self) -> Wish:
        """What the owner of the job wants, as far as we know."""
        return self._wish

    def event(self, kind: EventKind, data: dict[str, Any]) -> None:
        """Send one event (a `Sink`); `step` and `progress` are checked against the contract here."""
        if kind == "step":
            data = Step.model_validate(data).model_dump(mode="json")
        elif kind == "progress":
            data = Progress.model_validate(data).model_dump(mode="json")
        self.send("event", event=kind, data=data)

    def send(self, kind: str, **values: Any) -> None:
        """Send a message; a figure that is not finite becomes null, for JSON knows no other."""
        message = json.dumps(_finite({"kind": kind, **values}), default=_plain, allow_nan=False).encode()
        with self._lock:
            self._pipe.send_bytes(message)

    def _listen(self) -> None:
        try:
            while True:
                word = self._pipe.recv_bytes().decode()
                if word == "cancel" or (word == "stop" and self._wish != "cancel"):
                    self._wish = "cancel" if word == "cancel" else "stop"
        except (EOFError, OSError):
            os._exit(1)


def main(pipe: "Connection[bytes, bytes]", work: Work, name: str, args: tuple[Any, ...]) -> None:
    """Run `work(link, *args)` and send what it returns, or how it failed. Never returns."""
    _settle()
    logs.configure("job")
    log = logs.get_logger(__name__)
    link = Link(pipe)
    try:
        link.send("result", value=work(link, *args))
    except CancelledError:
        link.send("cancelled")
    except BaseException as error:  # whatever it is, the parent must learn of it
        body = failures.of_exception(error)
        if body.type == "internal":
            log.exception("unexpected error", id=name)
        link.send("error", body=body.model_dump(mode="json"), report=getattr(error, "report_path", None))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # no tear-down of threads and devices that could hang: the operating system frees everything


def _settle() -> None:
    """Be a good child: no core dumps, no claim to the terminal's Ctrl-C, behind the API in the scheduler's queue."""
    die_with_parent()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICE)
    faulthandler.enable()
    multiprocessing.set_start_method("fork", force=True)  # its locks have no name, so a killed child leaves none behind


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def _plain(value: Any) -> Any:
    """NumPy and torch scalars."""
    return _finite(value.item()) if hasattr(value, "item") else str(value)
