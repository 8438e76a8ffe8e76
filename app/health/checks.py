"""What has to be there before the service can do its work."""

import os
import shutil
from collections.abc import Callable

import redis
from sqlalchemy import select

from core.contract.base import Record, new_id
from core.settings import MIB, Settings
from core.store import workers
from core.store.store import Store
from core.store.tables import datasets
from core.wakeup import QUEUES, Queue

PING_SECONDS = 0.5
LEAST_FREE_BYTES = 64 * MIB


class Readiness(Record):
    """Reply of `/readyz`: each part with `ok`, or what is missing."""

    status: str
    checks: dict[str, str]


def readiness(store: Store, settings: Settings) -> Readiness:
    """Look at everything; each look is bounded in time."""
    looks: dict[str, Callable[[], str]] = {
        "database": lambda: _database(store),
        "broker": lambda: _broker(settings),
        "blobs": lambda: _blobs(store),
    }
    checks = {name: _look(look) for name, look in looks.items()}
    for queue in QUEUES:
        checks[f"worker:{queue}"] = _look(lambda queue=queue: _worker(store, settings, queue))  # type: ignore[misc]
    ready = all(value == "ok" for value in checks.values())
    return Readiness(status="ready" if ready else "not_ready", checks=checks)


def _look(look: Callable[[], str]) -> str:
    try:
        return look()
    except Exception as error:  # whatever is wrong, it is what this reply is about
        return f"unavailable ({type(error).__name__})"


def _database(store: Store) -> str:
    with store.db.read() as tx:
        tx.execute(select(datasets.c.id).limit(1)).first()
    return "ok"


def _broker(settings: Settings) -> str:
    url = settings.resolved_broker_url.replace("redis+socket://", "unix://")
    with redis.Redis.from_url(url, socket_timeout=PING_SECONDS, socket_connect_timeout=PING_SECONDS) as client:
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
