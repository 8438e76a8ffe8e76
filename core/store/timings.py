"""Seconds of jobs' steps, added up over all workers for the metrics page."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select, update

from core.contract.jobs import Step
from core.store.tables import timings

T = timings.c
BUCKETS = (0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 43200.0)
"""Upper bounds in seconds; the last bucket of a row counts what is above them all."""


@dataclass(frozen=True)
class Timing:
    """How often a step was done and how long that took; `buckets` counts by `BUCKETS`, not cumulated."""

    method: str
    step: str
    count: int
    seconds: float
    buckets: list[int]


def add(tx: Connection, method: str, steps: Sequence[Step]) -> None:
    """Count the finished steps of a job."""
    for step in steps:
        if step.seconds is not None:
            _add(tx, method, step.name, step.seconds)


def _add(tx: Connection, method: str, step: str, seconds: float) -> None:
    place = sum(seconds > bound for bound in BUCKETS)
    key = (T.method == method, T.step == step)
    row = tx.execute(select(timings).where(*key).with_for_update()).one_or_none()
    buckets = [0] * (len(BUCKETS) + 1) if row is None else list(row.buckets)
    buckets[place] += 1
    if row is None:
        values = {"method": method, "step": step, "count": 1, "seconds": seconds, "buckets": buckets}
        tx.execute(insert(timings).values(**values))
    else:
        values = {"count": row[2] + 1, "seconds": row.seconds + seconds, "buckets": buckets}
        tx.execute(update(timings).where(*key).values(**values))


def all_of(tx: Connection) -> list[Timing]:
    """Every method's every step."""
    return [Timing(r.method, r.step, r[2], r.seconds, r.buckets) for r in tx.execute(select(timings))]
