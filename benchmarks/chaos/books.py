"""The books of a service after the storm: what must hold of every row, event, blob, file and process."""

import hashlib
import statistics
from collections import Counter
from dataclasses import dataclass
from typing import Any
from unittest import mock

from sqlalchemy import Row, select

from benchmarks.chaos.kills import Kill
from benchmarks.chaos.load import Axis, Load, Reference, axis_of, tensors
from benchmarks.chaos.setups import Setup
from benchmarks.common import Table
from core.contract.jobs import TERMINAL
from core.store.store import Store
from core.store.tables import datasets, events, jobs, models
from worker import garbage


@dataclass(frozen=True)
class Books:
    """All rows, read once."""

    jobs: dict[str, Row[Any]]
    events: dict[str, list[Row[Any]]]
    models: list[Row[Any]]
    datasets: list[Row[Any]]

    @classmethod
    def read(cls, store: Store) -> "Books":
        """Read everything in one transaction."""
        with store.db.read() as tx:
            history: dict[str, list[Row[Any]]] = {}
            for row in tx.execute(select(events).order_by(events.c.job_id, events.c.seq)):
                history.setdefault(row.job_id, []).append(row)
            found = {row.id: row for row in tx.execute(select(jobs))}
            return cls(found, history, list(tx.execute(select(models))), list(tx.execute(select(datasets))))

    def named(self) -> set[str]:
        """Every blob that a row names."""
        found = {row.checkpoint_sha256 for row in self.jobs.values()} | {
            row.report_sha256 for row in self.jobs.values()
        }
        found |= {row.bundle_sha256 for row in self.models}
        for row in self.datasets:
            found |= {row.content_sha256, row.manifest_sha256}
            found |= {row.upload_sha256} if row.state == "validating" else set()
        return found - {None}


def check(table: Table, setup: Setup, load: Load, kills: list[Kill], unbroken: dict[str, Reference]) -> None:
    """Add a row for each thing that must hold; what does not is printed."""
    books = Books.read(setup.store)

    def must(name: str, wrong: list[str]) -> None:
        table.add(f"{setup.title}: {name}", len(wrong), "<= 0")
        for one in wrong[:10]:
            print(f"       ! {one}")

    table.add(f"{setup.title}: blows", len(kills))
    table.add(f"{setup.title}: jobs sent", len(load.sent))
    table.add(f"{setup.title}: data sets uploaded meanwhile", len(load.uploads))
    must("requests that the SDK gave up on", load.refused)
    must("data sets uploaded meanwhile that are not ready", load.unready())
    _ends(books, load, must)
    _models(books, must)
    must("jobs whose events have gaps or doubles in their numbers", _misnumbered(books))
    must("jobs with an attempt that did not rise, or a late write", _late(books))
    must("curves that differ from the unbroken run's axis", _curves(books, load, unbroken))
    _blobs(books, setup, must)
    _weights(books, setup, load, unbroken, table, must)
    _recovery(books, setup, kills, table)


def _ends(books: Books, load: Load, must: Any) -> None:
    sent = [books.jobs[one] for one in load.sent if one in books.jobs]
    must("jobs that are gone", [one for one in load.sent if one not in books.jobs])
    must("jobs that did not end", [row.id for row in sent if row.state not in TERMINAL])
    failed = [row for row in sent if row.state != "succeeded"]
    must("jobs that did not succeed", [f"{row.id} {row.state} {row.error and row.error['code']}" for row in failed])
    complete = ("code", "message", "hint")
    must(
        "failed jobs without code, message and hint",
        [row.id for row in failed if row.state == "failed" and not all((row.error or {}).get(key) for key in complete)],
    )
    numbers = Counter(row.spec["metadata"].get("number") for row in books.jobs.values())
    del numbers[None]
    must("jobs entered twice", [f"number {number}: {count} rows" for number, count in numbers.items() if count != 1])


def _models(books: Books, must: Any) -> None:
    of_job = Counter(row.job_id for row in books.models)
    must("jobs with more than one model", [f"{one}: {count}" for one, count in of_job.items() if count > 1])
    wrong = [row.id for row in books.jobs.values() if (row.state == "succeeded") != (of_job[row.id] == 1)]
    must("jobs whose state and model disagree", wrong)
    known = {row.id: row.job_id for row in books.models}
    must("models that their job does not name", [m for m, j in known.items() if books.jobs[j].model_id != m])


def _misnumbered(books: Books) -> list[str]:
    return [
        job_id
        for job_id, row in books.jobs.items()
        if [event.seq for event in books.events.get(job_id, [])] != list(range(1, row.last_seq + 1))
    ]


def _late(books: Books) -> list[str]:
    """Attempts never fall along a job's events; each start is of a higher attempt; the last one is the row's."""
    wrong = []
    for job_id, history in books.events.items():
        attempts = [event.attempt for event in history]
        starts = [event.attempt for event in history if event.kind == "state" and event.data["state"] == "running"]
        rising = starts == sorted(set(starts)) and attempts == sorted(attempts)
        if not rising or attempts[-1] != books.jobs[job_id].attempt or starts[-1:] not in ([], attempts[-1:]):
            wrong.append(f"{job_id}: {attempts}")
    return wrong


def curve_of(history: list[Row[Any]]) -> Axis:
    """Where the points of a job's curve stand, in the order of their events."""
    points = [axis_of(event.data) for event in history if event.kind == "metric"]
    return [point for point in points if point is not None]


def _curves(books: Books, load: Load, unbroken: dict[str, Reference]) -> list[str]:
    wrong = []
    for job_id, (_, spec) in load.sent.items():
        if books.jobs[job_id].state == "succeeded":
            curve = curve_of(books.events[job_id])
            if curve != unbroken[spec].axis:
                wrong.append(f"{job_id} {spec}: {curve} in place of {unbroken[spec].axis}")
    return wrong


def _blobs(books: Books, setup: Setup, must: Any) -> None:
    blobs = setup.store.blobs
    named = books.named()
    must("blobs that a row names and that are not there", [one for one in named if not blobs.exists(one)])
    there = [one for one in named if blobs.exists(one)]
    must("blobs that are not what their name says", [one for one in there if _digest(setup, one) != one])
    with mock.patch.object(garbage, "PENDING_SECONDS", 0.0):  # nothing is on its way in any more
        garbage.Collector(setup.store, setup.settings.model_copy(update={"garbage_seconds": 0.0})).sweep()
    left = {path.name for path in blobs.root.glob("??/*")} - named
    must("blobs that no row names, after a collection", sorted(left))
    must("files half written", [path.name for path in (blobs.root / "pending").iterdir()])
    must("work folders left", [path.name for path in (setup.data / "work").glob("*")])
    must("checkpoints of ended jobs", [row.id for row in books.jobs.values() if row.checkpoint_sha256 is not None])


def _digest(setup: Setup, sha256: str) -> str:
    with setup.store.blob(sha256).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _weights(books: Books, setup: Setup, load: Load, unbroken: dict[str, Reference], table: Table, must: Any) -> None:
    """Bit by bit."""
    bundles = {row.job_id: row.bundle_sha256 for row in books.models}
    wrong, compared = [], Counter[str]()
    for job_id, (_, spec) in load.sent.items():
        if job_id not in bundles:
            continue
        found, wanted = tensors(setup.store.blob(bundles[job_id])), unbroken[spec].tensors
        compared[spec.split()[0]] += 1
        if found != wanted:
            names = [name for name in wanted if found.get(name) != wanted[name]]
            wrong.append(
                f"{job_id} {spec}, attempt {books.jobs[job_id].attempt}: {len(names)} of {len(wanted)} tensors"
            )
    must("models whose weights differ from the unbroken run's", wrong)
    for method, count in compared.items():
        table.add(f"{setup.title}: models compared bit by bit, {method}", count, ">= 1")


def _recovery(books: Books, setup: Setup, kills: list[Kill], table: Table) -> None:
    resumed = [one for one, history in books.events.items() if _resumed(history)]
    table.add(f"{setup.title}: jobs started more than once", sum(row.attempt > 1 for row in books.jobs.values()))
    table.add(f"{setup.title}: jobs that went on from a checkpoint", len(resumed), ">= 1")
    hurts = [kill for kill in kills if kill.hurts]
    for name, seconds in (
        ("the next start of any job", [value for kill in hurts for value in _next(books, kill)]),
        ("the next start of the job that was hit", [value for kill in hurts for value in _again(books, kill)]),
    ):
        if seconds:
            table.add(f"{setup.title}: from a blow to {name}, mean", statistics.mean(seconds), "", "s")
            table.add(f"{setup.title}: from a blow to {name}, longest", max(seconds), "", "s")


def _resumed(history: list[Row[Any]]) -> bool:
    return any(event.kind == "state" and "resumed_from" in event.data for event in history)


def _next(books: Books, kill: Kill) -> list[float]:
    """Seconds from the blow until a worker began a job again."""
    starts = [at for one in books.events for _, at in _starts(books, one) if at > kill.at]
    return [min(starts) - kill.at] if starts else []


def _again(books: Books, kill: Kill) -> list[float]:
    """Seconds from the blow to the next attempt of each job that it hit, which may have waited for others meanwhile."""
    found = []
    for one in kill.hit:
        starts = [at for attempt, at in _starts(books, one.job_id) if attempt > one.attempt]
        found += [starts[0] - kill.at] if starts else []
    return found


def _starts(books: Books, job_id: str) -> list[tuple[int, float]]:
    return [
        (event.attempt, event.at.timestamp())
        for event in books.events.get(job_id, [])
        if event.kind == "state" and event.data["state"] == "running"
    ]
