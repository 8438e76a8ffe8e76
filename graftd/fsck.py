"""Holds the books against the shelves: do rows, blobs, events and leases agree? `repair` removes what nothing names."""

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
from sqlalchemy import Connection, and_, func, or_, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from core.contract.jobs import TERMINAL
from core.settings import MIB, Settings
from core.store import garbage, workers
from core.store.database import clock
from core.store.garbage import Stored
from core.store.store import Store
from core.store.tables import datasets, events, imports, jobs, models
from graftd.folder import DataFolder
from graftd.options import data_dir, problems, settings
from graftd.problems import ProblemError

ALIVE_SECONDS = 60.0
YOUNG_SECONDS = 600.0
"""A file that was written to more recently may be about to become a blob."""


@dataclass(frozen=True)
class Fault:
    """Something that does not heal by itself."""

    kind: str
    subject: str
    text: str


@dataclass(frozen=True)
class Findings:
    """What was found. Orphans and notes are no faults: the former are removed in time, the latter happen in good order.

    `orphan_seconds` is the age of the oldest orphan.
    """

    faults: list[Fault]
    notes: list[Fault]
    orphans: list[str] = field(repr=False)
    orphan_bytes: int
    orphan_seconds: float
    pending: int
    blobs: int
    bytes: int
    jobs: int
    models: int
    datasets: int

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"ok": self.ok} | asdict(self)


def check(store: Store, deep: bool = False) -> Findings:
    """Look at everything, also while the service runs; `deep` reads and hashes every blob."""
    shelves = {blob.sha256: blob for blob in garbage.walk(store)}
    with store.db.read() as tx:
        faults, notes = [*_jobs(tx), *_events(tx), *_leases(tx)], list(_notes(tx))
        sizes = {row.bundle_sha256: row.bytes for row in tx.execute(select(models.c.bundle_sha256, models.c.bytes))}
        needed = garbage.named(tx)
        counts = {table.name: tx.scalar(select(func.count()).select_from(table)) for table in (jobs, models, datasets)}
    faults += _blobs(store, needed, shelves, sizes)
    if deep:
        faults += _hashes(store, shelves)
    orphans = [blob for sha256, blob in sorted(shelves.items()) if sha256 not in needed]
    return Findings(
        faults=faults,
        notes=notes,
        orphans=[blob.sha256 for blob in orphans],
        orphan_bytes=sum(blob.bytes for blob in orphans),
        orphan_seconds=round(max((time.time() - blob.modified for blob in orphans), default=0.0), 1),
        pending=sum(1 for _ in garbage.pending(store)),
        blobs=len(shelves),
        bytes=sum(blob.bytes for blob in shelves.values()),
        jobs=counts["jobs"] or 0,
        models=counts["models"] or 0,
        datasets=counts["datasets"] or 0,
    )


def repair(store: Store, findings: Findings) -> int:
    """Remove orphans, whatever their age, and files on their way in that nobody writes to; returns how many.

    Only while the service does not run.
    """
    removed = len(garbage.drop(store, findings.orphans)) if findings.orphans else 0
    for path, modified in list(garbage.pending(store)):
        if not path.name.startswith("upl_") and time.time() - modified > YOUNG_SECONDS:
            path.unlink(missing_ok=True)
            removed += 1
    return removed


def _blobs(store: Store, needed: set[str], shelves: dict[str, Stored], sizes: dict[str, int]) -> Iterator[Fault]:
    for sha256 in sorted(needed):
        blob = shelves.get(sha256)
        if blob is None:
            # It came or went while we looked: ask again for that one.
            with store.db.read() as tx:
                if store.blobs.exists(sha256) or not garbage.is_named(tx, sha256):
                    continue
                owners = ", ".join(_owners(tx, sha256))
            yield Fault("blob_missing", sha256, f"named by {owners}")
        elif blob.bytes != sizes.get(sha256, blob.bytes):
            yield Fault("blob_damaged", sha256, f"has {blob.bytes:,} bytes instead of {sizes[sha256]:,}")


def _owners(tx: Connection, sha256: str) -> Iterator[str]:
    for column, holds in garbage.NAMES.items():
        for row_id in tx.scalars(select(column.table.c.id).where(holds, column == sha256).limit(10)):
            yield f"{row_id} ({column.name})"


def _hashes(store: Store, shelves: dict[str, Stored]) -> Iterator[Fault]:
    for sha256 in sorted(shelves):
        try:
            with store.blob(sha256).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            continue
        if found != sha256:
            yield Fault("blob_damaged", sha256, f"its content has the SHA-256 {found}")


def _jobs(tx: Connection) -> Iterator[Fault]:
    """A succeeded job has one model, no other has any."""
    made = select(models.c.id, models.c.job_id, jobs.c.state, jobs.c.model_id)
    for row in tx.execute(made.join(jobs, jobs.c.id == models.c.job_id)):
        if row.state != "succeeded":
            yield Fault("model_of_unfinished_job", row.id, f"its job {row.job_id} is {row.state}")
        elif row.model_id != row.id:
            yield Fault("model_of_nobody", row.id, f"its job {row.job_id} names {row.model_id or 'no model'}")
    bare = select(jobs.c.id).where(
        jobs.c.state == "succeeded", jobs.c.model_id.is_(None) | jobs.c.report_sha256.is_(None)
    )
    for job_id in tx.scalars(bare):
        yield Fault("job_without_result", job_id, "it succeeded, but has no model or no report")
    over, ended = jobs.c.state.in_(TERMINAL), jobs.c.finished_at.is_not(None)
    for job_id in tx.scalars(select(jobs.c.id).where(or_(and_(over, ~ended), and_(~over, ended)))):
        yield Fault("job_end", job_id, "its state and the time of its end do not go together")


def _events(tx: Connection) -> Iterator[Fault]:
    seq = events.c.seq
    counted = func.count(seq).label("n"), func.min(seq).label("a"), func.max(seq).label("b")
    query = (
        select(jobs.c.id, jobs.c.last_seq, *counted)
        .outerjoin(events, events.c.job_id == jobs.c.id)
        .group_by(jobs.c.id, jobs.c.last_seq)
    )
    for row in tx.execute(query):
        if (row.a, row.n, row.b) != (1, row.last_seq, row.last_seq):
            text = f"{row.n} events, numbered {row.a} to {row.b}; the last one should be {row.last_seq}"
            yield Fault("event_gap", row.id, text)


def _leases(tx: Connection) -> Iterator[Fault]:
    """A lease that nobody would ever look at again."""
    for row in tx.execute(select(jobs.c.id).where(jobs.c.state == "running", jobs.c.lease_until.is_(None))):
        yield Fault("lease_missing", row.id, "it is running without a lease")
    for table, busy in ((jobs, ("running",)), (datasets, ("validating",)), (imports, ("validating",))):
        query = select(table.c.id, table.c.state).where(table.c.state.not_in(busy), table.c.lease_until.is_not(None))
        for row in tx.execute(query):
            yield Fault("lease_of_nobody", row.id, f"it is {row.state} and still has a lease")


def _notes(tx: Connection) -> Iterator[Fault]:
    lost = select(jobs.c.id).where(jobs.c.state == "running", jobs.c.lease_until < clock(tx))
    for job_id in tx.scalars(lost):
        yield Fault("worker_lost", job_id, "its worker is gone; the next one puts it right")
    gone = select(jobs.c.id, jobs.c.model_id).where(
        jobs.c.model_id.is_not(None), ~select(models.c.id).where(models.c.id == jobs.c.model_id).exists()
    )
    for row in tx.execute(gone):
        yield Fault("model_deleted", row.id, f"its model {row.model_id} was deleted")
    alone = select(models.c.id, models.c.job_id).where(
        models.c.job_id.is_not(None), ~select(jobs.c.id).where(jobs.c.id == models.c.job_id).exists()
    )
    for row in tx.execute(alone):
        yield Fault("job_deleted", row.id, f"its job {row.job_id} was deleted")


def table(findings: Findings) -> str:
    """The findings for a person."""
    age = f", the oldest {findings.orphan_seconds / 3600:,.1f} h old" if findings.orphans else ""
    lines = [
        f"data sets  {findings.datasets:>9,}",
        f"jobs       {findings.jobs:>9,}",
        f"models     {findings.models:>9,}",
        f"blobs      {findings.blobs:>9,}   {findings.bytes / MIB:,.1f} MiB",
        f"orphans    {len(findings.orphans):>9,}   {findings.orphan_bytes / MIB:,.1f} MiB{age}",
        f"pending    {findings.pending:>9,}",
    ]
    for heading, found in (("Faults", findings.faults), ("Notes", findings.notes)):
        if found:
            lines += ["", f"{heading} ({len(found)})"]
            lines += [f"  {one.kind:24} {one.subject}  {one.text}" for one in found]
    return "\n".join([*lines, "", "Everything agrees." if findings.ok else f"{len(findings.faults)} fault(s) found."])


@contextmanager
def _opened(settings: Settings) -> Iterator[Store]:
    """The store as it is; nothing is made or migrated. `ProblemError`."""
    store: Store | None = None
    try:
        database = make_url(settings.resolved_database_url)
        if database.get_backend_name() == "sqlite" and not Path(str(database.database)).is_file():
            raise ProblemError(f"There is no database in {settings.root}.", "Name the data folder with --data-dir.")
        store = Store.open(settings)
        yield store
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", error)).strip().splitlines()[0]
        raise ProblemError(
            f"The database cannot be read: {reason}.", "Start it or mend GRAFT_DATABASE_URL, then run `graftd migrate`."
        ) from error
    finally:
        if store is not None:
            store.close()


@contextmanager
def _alone(settings: Settings, store: Store) -> Iterator[None]:
    """Nobody runs on the data folder, and nobody can begin to meanwhile; `ProblemError`."""
    with store.db.read() as tx:
        busy = workers.alive(tx, ALIVE_SECONDS)
    if busy:
        raise ProblemError(
            f"{len(busy)} worker(s) run on this database, e.g. on {busy[0].host}.",
            "Stop the service first; while it runs, it removes orphans by itself.",
        )
    folder = DataFolder(settings)
    folder.prepare()
    folder.take("no address (graftd fsck)")
    try:
        yield
    finally:
        folder.release()


@click.command()
@click.option("--deep", is_flag=True, help="Read every blob and compare its hash.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--repair", "mend", is_flag=True, help="Remove orphans; only while the service does not run.")
@data_dir
def fsck(deep: bool, as_json: bool, mend: bool, data_dir: Path | None) -> None:
    """Check that rows and files agree (exit status 0) or not (1). Changes nothing without --repair."""
    with problems():
        chosen = settings(data_dir=data_dir)
        with _opened(chosen) as store:
            findings = check(store, deep)
            if mend:
                with _alone(chosen, store):
                    removed = repair(store, findings)
                    findings = check(store, deep)
                click.echo(f"{removed} file(s) removed.", err=True)
    click.echo(json.dumps(findings.as_dict(), indent=2) if as_json else table(findings))
    raise SystemExit(0 if findings.ok else 1)
