"""What has to be there before the service can do its work."""

import errno
import os
import shutil
import time
from collections.abc import Callable

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from app.health.looks import Look, NoAnswerError
from core.contract.base import Record, new_id
from core.settings import MIB, Settings
from core.store import workers
from core.store.store import Store
from core.store.tables import datasets
from core.wakeup import QUEUES, Queue
from migrations.run import behind

LOOK_SECONDS = 1.0
"""All looks run side by side, so the whole answer takes hardly longer than this, whatever hangs."""
PING_SECONDS = 0.4
LEAST_FREE_BYTES = 64 * MIB
_FULL = (errno.ENOSPC, errno.EDQUOT)

_HINTS = {
    "database": "Start the database that GRAFT_DATABASE_URL names, and see that this machine reaches it.",
    "schema": "Run `graftd migrate` of the newest version that works on this database, then start this version.",
    "broker": "Start the Valkey or Redis that GRAFT_BROKER_URL names. Work is found meanwhile, only later.",
    "blobs": "See that GRAFT_DATA_DIR is mounted, that the service may write there, and that the disk has space.",
    "worker": "Start `graftd worker`, or look into its log: a worker that lives says so in the database.",
}


class Readiness(Record):
    """Reply of `/readyz`: each part with `ok`, or what is missing; what to do stands in `hints`."""

    status: str
    checks: dict[str, str]
    hints: dict[str, str] = {}


class Checks:
    """Looks at everything that the service needs."""

    def __init__(self, store: Store, settings: Settings) -> None:
        looks: dict[str, Callable[[], str]] = {
            "database": lambda: _database(store),
            "schema": lambda: _schema(store),
            "broker": lambda: _broker(settings),
            "blobs": lambda: _blobs(store),
        }
        for queue in QUEUES:
            looks[f"worker:{queue}"] = lambda queue=queue: _worker(store, settings, queue)  # type: ignore[misc]
        self._looks = {name: Look(look, name) for name, look in looks.items()}

    def readiness(self) -> Readiness:
        """Ask all at once and take what has answered within `LOOK_SECONDS`."""
        until = time.monotonic() + LOOK_SECONDS
        asked = {name: look.start() for name, look in self._looks.items()}
        checks = {name: _told(lambda answer=answer: answer.get(until)) for name, answer in asked.items()}  # type: ignore[misc]
        hints = {name: _HINTS[name.split(":")[0]] for name, value in checks.items() if value != "ok"}
        return Readiness(status="not_ready" if hints else "ready", checks=checks, hints=hints)


def _told(answer: Callable[[], str]) -> str:
    """The answer in words; of an error its kind alone, since its text may hold an address with a password."""
    try:
        return answer()
    except NoAnswerError:
        return f"unavailable (no answer within {LOOK_SECONDS:g} s)"
    except OSError as error:
        if error.errno in _FULL:
            return "the disk is full"
        return f"unavailable ({type(error).__name__})"
    except Exception as error:  # whatever is wrong, it is what this reply is about
        return f"unavailable ({type(error).__name__})"


def _database(store: Store) -> str:
    with store.db.read() as tx:
        tx.execute(select(1)).first()
    return "ok"


def _schema(store: Store) -> str:
    try:
        with store.db.read() as tx:
            late = behind(tx)
            tx.execute(select(datasets.c.id).limit(1)).first()
    except SQLAlchemyError as error:
        return f"unknown ({type(error).__name__})"
    return late or "ok"


def _broker(settings: Settings) -> str:
    url = settings.resolved_broker_url.replace("redis+socket://", "unix://")
    times = {"socket_timeout": PING_SECONDS, "socket_connect_timeout": PING_SECONDS}
    with redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), **times) as client:
        client.ping()
    return "ok"


def _blobs(store: Store) -> str:
    probe = store.blobs.root / "pending" / new_id("req")
    try:
        probe.write_bytes(os.urandom(1))
    finally:
        probe.unlink(missing_ok=True)
    free = shutil.disk_usage(store.blobs.root).free
    return "ok" if free >= LEAST_FREE_BYTES else f"the disk is nearly full: {free // MIB} MiB left"


def _worker(store: Store, settings: Settings, queue: Queue) -> str:
    with store.db.read() as tx:
        found = workers.alive(tx, settings.lease_seconds, queue)
    return "ok" if found else f"no worker has been seen for {settings.lease_seconds:g} seconds"
