"""Wake the workers: a message without content, sent in the background. A dead broker never costs a request anything."""

import contextlib
import queue
import threading
from typing import Annotated, Any

import structlog
from fastapi import Depends, Request

from core.wakeup import TASKS, Queue, celery_options

TIMEOUT_SECONDS = 0.5
MOST_WAITING = 1000

log = structlog.get_logger(__name__)


class Wakeup:
    """One thread sends what `send` left; what cannot be sent is dropped, since workers also look by themselves."""

    def __init__(self, broker_url: str) -> None:
        self._url = broker_url
        self._waiting: queue.Queue[Queue | None] = queue.Queue(MOST_WAITING)
        self._thread: threading.Thread | None = None
        self._failing = False

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="wakeup", daemon=True)
        self._thread.start()

    def send(self, name: Queue) -> None:
        """Say that there is work in the queue; returns at once."""
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(name)

    def close(self) -> None:
        """Send what is left, wait a moment for it, and end."""
        if self._thread is None:
            return
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=TIMEOUT_SECONDS)
        self._thread.join(4 * TIMEOUT_SECONDS)

    def _run(self) -> None:
        celery = self._celery()
        while (name := self._waiting.get()) is not None:
            try:
                celery.send_task(TASKS[name], queue=name, ignore_result=True, retry=False)
            except Exception as error:
                self._gone(error)
            else:
                self._failing = False
        celery.close()

    def _celery(self) -> Any:
        from celery import Celery

        celery = Celery("graft", broker=self._url, set_as_current=False)
        celery.conf.update(celery_options())
        celery.conf.broker_connection_timeout = TIMEOUT_SECONDS
        celery.conf.broker_transport_options = {
            **celery.conf.broker_transport_options,
            "socket_connect_timeout": TIMEOUT_SECONDS,
            "socket_timeout": TIMEOUT_SECONDS,
            "retry_on_timeout": False,
            "max_retries": 0,
        }
        return celery

    def _gone(self, error: Exception) -> None:
        """Forget what has gathered: the same broker would refuse it just as slowly, one by one."""
        if not self._failing:
            log.warning("broker_unreachable", error=type(error).__name__, reason=str(error)[:200])
        self._failing = True
        while True:
            try:
                name = self._waiting.get_nowait()
            except queue.Empty:
                return
            if name is None:
                self._waiting.put_nowait(None)
                return


async def get_wakeup(request: Request) -> Wakeup:
    """The process's sender."""
    wakeup: Wakeup = request.app.state.wakeup
    return wakeup


WakeupDep = Annotated[Wakeup, Depends(get_wakeup)]
