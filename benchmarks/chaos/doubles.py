"""Two workers, many short jobs, every wake-up three times: each job is done once. And a job that kills its process."""

import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from sqlalchemy import func, select

from benchmarks.chaos.books import Books
from benchmarks.common import Table
from core.contract.jobs import TERMINAL
from core.settings import Settings
from core.store import workers
from core.store.store import Store
from core.store.tables import jobs
from graftd.broker import OwnBroker
from migrations.run import upgrade
from tests.worker.conftest import Place
from worker.wakeups import Waker, make_app

TIMES = 3


@contextmanager
def two_workers(**options: Any) -> Iterator[Place]:
    """A store on SQLite, a Valkey, and two workers with the tests' small engine."""
    with tempfile.TemporaryDirectory(prefix="graft-short-") as folder:
        broker = OwnBroker(Path(folder) / "data")
        (Path(folder) / "data" / "logs").mkdir(parents=True)
        broker.start()
        settings = Settings(data_dir=Path(folder) / "data", broker_url=broker.url)
        store = Store.open(settings)
        upgrade(store.db)
        place = Place(store, settings)
        try:
            for _ in range(2):
                place.worker(**options)
            place.until(lambda: _alive(store) == 2, 120)
            yield place
        finally:
            place.end()
            broker.program.ask_to_end()
            broker.program.make_end(5)
            broker.clean()
            store.close()


def _alive(store: Store) -> int:
    with store.db.read() as tx:
        return len(workers.alive(tx, 30))


def short_jobs(table: Table, count: int) -> None:
    """Every wake-up is published three times by hand."""
    with two_workers(sweep_seconds=5, lease_seconds=60) as place:  # no loss by a busy machine: this is about doubles
        bell = Waker(make_app(place.settings.resolved_broker_url))
        began = time.monotonic()
        ids = []
        sent = 0
        for _ in range(count):
            ids.append(place.submit())
            sent += sum(bell.wake("jobs") for _ in range(TIMES))
        place.until(lambda: not _unended(place), 1200)
        seconds = time.monotonic() - began
        with redis.Redis(unix_socket_path=place.settings.resolved_broker_url.removeprefix("redis+socket://")) as client:
            place.until(lambda: client.llen("jobs") == 0, 60)
        books = Books.read(place.store)
        made = Counter(row.job_id for row in books.models)
        once = [one for one in ids if books.jobs[one].attempt == 1 and made[one] == 1]
        table.add(f"{count} short jobs on two workers: done exactly once", len(once), f">= {count}")
        starts = sum(row.attempt for row in books.jobs.values())
        table.add("wake-ups published", sent)
        table.add("wake-ups that found nothing to do, being doubles", sent - starts)
        table.add("short jobs", count / seconds, "", "jobs/s")


def _unended(place: Place) -> int:
    with place.store.db.read() as tx:
        return int(tx.scalar(select(func.count()).select_from(jobs).where(jobs.c.state.not_in(TERMINAL))) or 0)


def poison(table: Table) -> None:
    """A job whose process is killed each time is given up; the others are done."""
    with two_workers(max_attempts=3, lease_seconds=2, sweep_seconds=0.5) as place:
        bad = place.submit("kill")
        good = [place.submit() for _ in range(5)]
        place.until_done(bad, *good, seconds=300)
        job = place.job(bad)
        table.add("poison job: starts before it is given up", job.attempt, "<= 3")
        told = job.state == "failed" and job.error is not None and bool(job.error.code and job.error.hint)
        table.add("poison job: failed with a code and a remedy", float(told), ">= 1")
        done = sum(place.job(one).state == "succeeded" for one in good)
        table.add("poison job: others that were done meanwhile", done, ">= 5")
        print(f"     poison job: {job.error and job.error.code}, {job.attempt} starts, {job.lost} lost workers")
