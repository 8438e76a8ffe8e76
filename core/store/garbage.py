"""Which blobs are needed, and how those that nothing names are removed. The only list of columns that name blobs."""

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sqlalchemy import Column, ColumnElement, Connection, Table, delete, select, true, tuple_

from core.contract.base import new_id, now
from core.store.database import clock
from core.store.store import Store
from core.store.tables import datasets, deliveries, idempotency_keys, imports, jobs, models, workers
from core.store.workers import FORGET_SECONDS

# A rejected data set needs its upload no more, a job that is over no checkpoint, a finished import no upload.
_KEPT = datasets.c.state != "rejected"
NAMES: dict["Column[str]", ColumnElement[bool]] = {
    datasets.c.upload_sha256: _KEPT,
    datasets.c.content_sha256: _KEPT,
    datasets.c.manifest_sha256: _KEPT,
    models.c.bundle_sha256: true(),
    jobs.c.report_sha256: true(),
    jobs.c.checkpoint_sha256: jobs.c.state.in_(("queued", "running")),
    imports.c.upload_sha256: imports.c.state == "validating",
}
"""Every column that names a blob, and in which rows it does."""
ASIDE = "gone-"
_SHA256_LETTERS = 64


@dataclass(frozen=True)
class Stored:
    """A blob as it lies in the folder; `modified` in epoch seconds."""

    sha256: str
    bytes: int
    modified: float


def named(tx: Connection, among: Collection[str] | None = None) -> set[str]:
    """SHA-256 of all blobs that rows name, or of those `among` the given."""
    found: set[str] = set()
    for column, holds in NAMES.items():
        query = select(column).where(holds, column.is_not(None))
        if among is not None:
            query = query.where(column.in_(list(among)))
        found.update(tx.scalars(query.distinct()))
    return found


def is_named(tx: Connection, sha256: str) -> bool:
    """Whether a row of any noun needs the blob: a model's bundle may have been uploaded as a data set, too."""
    return bool(named(tx, (sha256,)))


def drop(store: Store, candidates: Collection[str]) -> list[str]:
    """Remove those of the blobs that no row names; returns them.

    Adoption and this exclude each other. Under the lock a file is only renamed: freeing gigabytes takes its time.
    """
    aside: dict[str, Path] = {}
    try:
        with store.db.write(blobs=True) as tx:
            for sha256 in set(candidates) - named(tx, candidates):
                place = store.blobs.upload(f"{ASIDE}{new_id('req')}")
                with suppress(FileNotFoundError):
                    store.blob(sha256).rename(place)
                    aside[sha256] = place
    finally:
        for place in aside.values():
            place.unlink(missing_ok=True)
    return list(aside)


def walk(store: Store) -> Iterator[Stored]:
    """Every blob in the folder, folder by folder; holds no lock, so that some may come or go meanwhile."""
    for folder in sorted(store.blobs.root.glob("[0-9a-f][0-9a-f]")):
        with suppress(FileNotFoundError), os.scandir(folder) as entries:
            for entry in entries:
                if len(entry.name) == _SHA256_LETTERS:
                    with suppress(FileNotFoundError):
                        found = entry.stat(follow_symlinks=False)
                        yield Stored(entry.name, found.st_size, found.st_mtime)


def pending(store: Store) -> Iterator[tuple[Path, float]]:
    """Every file on its way in or out, and when it was last written to (epoch seconds)."""
    for path in store.blobs.upload("x").parent.iterdir():
        with suppress(FileNotFoundError):
            yield path, path.stat().st_mtime


def forget_keys(tx: Connection, seconds: float, limit: int) -> int:
    """Remove idempotency keys older than `seconds`, at most `limit`; returns how many."""
    return _delete(tx, idempotency_keys, idempotency_keys.c.created_at < now() - timedelta(seconds=seconds), limit)


def forget_deliveries(tx: Connection, days: int, limit: int) -> int:
    """Remove deliveries that came to an end and are older than `days`, likewise."""
    c = deliveries.c
    old = c.state.in_(("delivered", "failed")) & (c.created_at < now() - timedelta(days=days))
    return _delete(tx, deliveries, old, limit)


def forget_workers(tx: Connection) -> int:
    """Remove workers long silent; returns how many."""
    return tx.execute(delete(workers).where(workers.c.seen_at < clock(tx) - FORGET_SECONDS)).rowcount


def _delete(tx: Connection, table: Table, old: ColumnElement[bool], limit: int) -> int:
    key = tuple_(*table.primary_key.columns)
    return tx.execute(delete(table).where(key.in_(select(*table.primary_key.columns).where(old).limit(limit)))).rowcount
