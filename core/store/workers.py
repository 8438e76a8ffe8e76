"""Queries on workers: each says every few seconds that it is alive, on the same clock as the leases."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from core.store.database import clock
from core.store.tables import workers
from core.wakeup import Queue

T = workers.c
FORGET_SECONDS = 3600.0


@dataclass(frozen=True)
class Worker:
    """A worker process: `started_at` and `seen_at` are epoch seconds."""

    id: str
    queue: Queue
    host: str
    pid: int
    started_at: float
    seen_at: float
    stats: dict[str, Any] | None = None
    """What it works at: job, step, rss_bytes, peak_bytes, gpu_allocated_bytes, gpu_reserved_bytes; None when idle."""


def _record(row: Row[Any]) -> Worker:
    return Worker(row.id, row.queue, row.host, row.pid, row.started_at, row.seen_at, row.stats)


def beat(
    tx: Connection, worker_id: str, queue: Queue, *, host: str, pid: int, stats: dict[str, Any] | None = None
) -> None:
    """Say that the worker is alive and what it works at; the first call enters it (and forgets those long silent)."""
    if tx.execute(update(workers).where(T.id == worker_id).values(seen_at=clock(tx), stats=stats)).rowcount:
        return
    tx.execute(delete(workers).where(T.seen_at < clock(tx) - FORGET_SECONDS))
    values = {"id": worker_id, "queue": queue, "host": host, "pid": pid, "stats": stats}
    tx.execute(insert(workers).values(**values, started_at=clock(tx), seen_at=clock(tx)))


def leave(tx: Connection, worker_id: str) -> None:
    """The worker has ended in good order."""
    tx.execute(delete(workers).where(T.id == worker_id))


def alive(tx: Connection, within_seconds: float, queue: Queue | None = None) -> list[Worker]:
    """Workers seen within the last `within_seconds`, of one queue or of all, oldest first."""
    query = select(workers).where(T.seen_at > clock(tx) - within_seconds)
    if queue is not None:
        query = query.where(T.queue == queue)
    return [_record(row) for row in tx.execute(query.order_by(T.started_at, T.id))]
