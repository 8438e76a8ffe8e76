"""What the metrics page says of the books: a handful of queries that an index answers, however many jobs there are."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, get_args

from sqlalchemy import Column, ColumnElement, Connection, Table, func, select, text

from core.contract.base import now
from core.contract.jobs import JobState
from core.contract.webhooks import DeliveryState
from core.store import timings, workers
from core.store.tables import datasets, deliveries, jobs, uploads
from core.store.timings import Timing
from core.store.workers import Worker
from core.wakeup import Queue


@dataclass(frozen=True)
class Figures:
    """Counts and ages (seconds); `oldest` is 0 for an empty queue."""

    jobs: dict[str, int]
    lost: int
    depth: dict[Queue, int]
    oldest: dict[Queue, float]
    workers: list[Worker]
    timings: list[Timing]
    deliveries: dict[str, int]
    uploads_open: int


def gather(tx: Connection, worker_seconds: float) -> Figures:
    """Look everything up; workers silent for longer than `worker_seconds` are left out."""
    by_state = _by_state(tx, jobs, get_args(JobState))
    ingest = (datasets.c.state == "validating", datasets.c.lease_until.is_(None))
    return Figures(
        jobs=by_state,
        lost=tx.scalar(select(func.sum(jobs.c.lost)).where(text("lost > 0"))) or 0,
        depth={"jobs": by_state["queued"], "ingest": _count(tx, datasets.c.id, *ingest)},
        oldest={"jobs": _age(tx, jobs, jobs.c.state == "queued"), "ingest": _age(tx, datasets, *ingest)},
        workers=workers.alive(tx, worker_seconds),
        timings=timings.all_of(tx),
        deliveries=_by_state(tx, deliveries, get_args(DeliveryState)),
        uploads_open=_count(tx, uploads.c.id, uploads.c.state == "open"),
    )


def _by_state(tx: Connection, table: Table, states: Sequence[str]) -> dict[str, int]:
    query = select(table.c.state, func.count()).group_by(table.c.state)
    return dict.fromkeys(states, 0) | {row[0]: row[1] for row in tx.execute(query)}


def _count(tx: Connection, column: Column[Any], *where: ColumnElement[bool]) -> int:
    return tx.scalar(select(func.count(column)).where(*where)) or 0


def _age(tx: Connection, table: Table, *where: ColumnElement[bool]) -> float:
    """Seconds since the oldest row was entered; ids sort by their time."""
    query = select(table.c.created_at).where(*where).order_by(table.c.id).limit(1)
    oldest: datetime | None = tx.scalar(query)
    return 0.0 if oldest is None else max(0.0, (now() - oldest).total_seconds())
