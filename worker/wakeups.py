"""The Celery side: a message says "there is work" and nothing else, so a lost, late or doubled one does no harm."""

from collections.abc import Callable

from celery import Celery
from celery.worker import WorkController, state
from kombu.entity import Exchange
from kombu.entity import Queue as BrokerQueue

from core import logs
from core.wakeup import QUEUES, TASKS, Queue, celery_options

log = logs.get_logger(__name__)


def make_app(broker_url: str) -> Celery:
    """A Celery app that sends wake-ups; with `listen` also one that takes them."""
    app = Celery("graft", broker=broker_url, set_as_current=False)
    app.conf.update(
        celery_options(),
        task_queues=[BrokerQueue(name, Exchange(name), routing_key=name) for name in QUEUES],  # type: ignore[no-untyped-call]
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        broker_connection_max_retries=None,
    )
    return app


class Waker:
    """Sends wake-ups; a broker that is down is told once in the log and otherwise ignored."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._down = False

    def wake(self, queue: Queue) -> bool:
        """Tell the workers of a queue that there is work; False if the broker could not be reached."""
        try:
            self._app.send_task(TASKS[queue], queue=queue, ignore_result=True)
        except Exception as error:  # whatever ails the broker: work is found in the database as well
            if not self._down:
                log.warning("broker unreachable, work is found by polling", error=str(error))
            self._down = True
            return False
        self._down = False
        return True


def leave() -> None:
    """Let `listen` return after the message at hand; safe to call from a signal handler."""
    state.should_stop = 0  # an exit status


def listen(app: Celery, queue: Queue, name: str, woken: Callable[[], None]) -> None:
    """Take wake-ups of one queue in this (main) thread until `leave` or `SystemExit`; reconnects for ever."""
    app.task(woken, name=TASKS[queue], ignore_result=True)
    app.finalize()
    WorkController(
        app=app,
        hostname=name,
        pool_cls="solo",
        concurrency=1,
        queues=[queue],
        loglevel="WARNING",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    ).start()
