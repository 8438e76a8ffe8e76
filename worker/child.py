"""The child's side: one process runs one job or ingests one data set. It has no SQL; it talks to its parent by a pipe.

Messages are JSON. To the parent: {kind: event | alive | result | error | cancelled | suspended, …}. From it: `stop`,
`suspend` or `cancel`; a closed pipe means that the parent is gone, and the child ends at once.
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
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any, cast

from core import logs
from core.contract.jobs import EventKind, Progress, Step
from core.processes import die_with_parent, keep_freed_memory
from worker import failures, usage
from worker.engine.door import CancelledError, SuspendedError, Wish

NICE = 5
ALIVE_SECONDS = 1.0
_STRENGTH: dict[Wish, int] = {"go_on": 0, "stop": 1, "suspend": 2, "cancel": 3}
Work = Callable[..., dict[str, Any]]


class Link:
    """The pipe to the parent, with the strongest wish that came down it.

    Whoever asks for the wish or reports something lives, and once a second the parent is told so. No thread does that
    by itself: it would go on beating while the work hangs.
    """

    def __init__(self, pipe: "Connection[bytes, bytes]") -> None:
        self._pipe = pipe
        self._lock = threading.Lock()
        self._wish: Wish = "go_on"
        self._alive_at = 0.0
        threading.Thread(target=self._listen, daemon=True, name="parent").start()

    def wish(self) -> Wish:
        """What the owner of the job wants, as far as we know."""
        self.alive()
        return self._wish

    def alive(self) -> None:
        """Tell the parent, at most once a second, that the work goes on, and what memory it holds."""
        if time.monotonic() >= self._alive_at:
            self._alive_at = time.monotonic() + ALIVE_SECONDS
            self.send("alive", usage=usage.look())

    def event(self, kind: EventKind, data: dict[str, Any]) -> None:
        """Send one event (a `Sink`); `step` and `progress` are checked against the contract here."""
        self.alive()
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
                word = cast("Wish", self._pipe.recv_bytes().decode())
                if _STRENGTH[word] > _STRENGTH[self._wish]:
                    self._wish = word
        except (EOFError, OSError):
            os._exit(1)


def main(
    pipe: "Connection[bytes, bytes]", work: Work, name: str, args: tuple[Any, ...], ids: Mapping[str, Any]
) -> None:
    """Run `work(link, *args)` and send what it returns, or how it failed. Never returns.

    `ids` stand in every line that it logs.
    """
    _settle()
    logs.configure("job")
    with logs.bind(**ids):
        _work(Link(pipe), work, name, args)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # no tear-down of threads and devices that could hang: the operating system frees everything


def _work(link: Link, work: Work, name: str, args: tuple[Any, ...]) -> None:
    try:
        link.send("result", value=work(link, *args))
    except CancelledError:
        link.send("cancelled")
    except SuspendedError:
        link.send("suspended")
    except BaseException as error:  # whatever it is, the parent must learn of it
        body = failures.of_exception(error)
        if body.type == "internal":
            logs.get_logger(__name__).exception("unexpected error", id=name)
        report, again = getattr(error, "report_path", None), failures.is_transient(error)
        link.send("error", body=body.model_dump(mode="json"), report=report, again=again)


def _settle() -> None:
    """Be a good child: no core dumps, no claim to the terminal's Ctrl-C, behind the API in the scheduler's queue."""
    die_with_parent()
    keep_freed_memory()
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
