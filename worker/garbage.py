"""Removes what nothing names any more: blobs, files of broken-off uploads, old keys and records."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import Connection

from core import logs
from core.contract.base import now
from core.settings import Settings
from core.store import audit, garbage, uploads
from core.store.garbage import Stored
from core.store.store import Store

log = logs.get_logger(__name__)
EVERY_SECONDS = 600.0
DELIVERY_DAYS = 30
PENDING_SECONDS = 600.0
"""A file on its way in is written to, or about to become a blob, whatever the age at which files are garbage."""
LOOK = 500  # blobs looked up at once without a lock
HOLD_SECONDS = 0.05
ROWS = 500


@dataclass
class Swept:
    """What a sweep removed."""

    blobs: int = 0
    bytes: int = 0
    pending: int = 0
    uploads: int = 0
    keys: int = 0
    deliveries: int = 0
    audit: int = 0
    workers: int = 0

    def __bool__(self) -> bool:
        return any(asdict(self).values())


class Collector:
    """Sweeps by reachability: what a row names stays, whatever its age."""

    def __init__(self, store: Store, settings: Settings, stopping: Callable[[], bool] = lambda: False) -> None:
        self._store = store
        self._settings = settings
        self._stopping = stopping
        self._batch = 50

    def run_due(self, every: float = EVERY_SECONDS) -> Swept | None:
        """Sweep unless any worker on this data folder does so now or did within `every` seconds."""
        with _turn(self._settings.root / "garbage.lock", every) as mine:
            return self.sweep() if mine else None

    def sweep(self) -> Swept:
        """Look at everything once; returns early when told to stop."""
        began, swept = time.monotonic(), Swept()
        self._rows(swept)
        self._pending(swept)
        self._blobs(swept)
        if swept:
            log.info("garbage removed", seconds=round(time.monotonic() - began, 3), **asdict(swept))
        return swept

    def _rows(self, swept: Swept) -> None:
        settings = self._settings
        swept.uploads = self._uploads()
        swept.keys = self._all(lambda tx: garbage.forget_keys(tx, settings.idempotency_seconds, ROWS))
        swept.deliveries = self._all(lambda tx: garbage.forget_deliveries(tx, DELIVERY_DAYS, ROWS))
        swept.audit = self._all(lambda tx: audit.forget(tx, now() - timedelta(days=settings.audit_days)))
        swept.workers = self._all(garbage.forget_workers)

    def _all(self, remove: Callable[[Connection], int]) -> int:
        """Remove in small transactions until a round finds less than a full one."""
        total, found = 0, ROWS
        while found >= ROWS and not self._stopping():
            with self._store.db.write() as tx:
                found = remove(tx)
            total += found
        return total

    def _uploads(self) -> int:
        total, ids = 0, [""]
        while ids and not self._stopping():
            with self._store.db.write() as tx:
                ids = uploads.expire(tx, limit=ROWS)
            for upload_id in ids:
                self._store.blobs.upload(upload_id).unlink(missing_ok=True)
            total += len(ids)
        return total

    def _pending(self, swept: Swept) -> None:
        oldest = time.time() - max(self._settings.garbage_seconds, PENDING_SECONDS)
        for path, modified in garbage.pending(self._store):
            if self._stopping():
                return
            if (path.name.startswith(garbage.ASIDE) or modified < oldest) and not self._resumable(path):
                path.unlink(missing_ok=True)
                swept.pending += 1

    def _resumable(self, path: Path) -> bool:
        if not path.name.startswith("upl_"):
            return False
        with self._store.db.read() as tx:
            return uploads.needed(tx, path.name)

    def _blobs(self, swept: Swept) -> None:
        oldest = time.time() - self._settings.garbage_seconds
        old = (blob for blob in garbage.walk(self._store) if blob.modified <= oldest)
        while not self._stopping() and (group := list(islice(old, LOOK))):
            with self._store.db.read() as tx:
                needed = garbage.named(tx, [blob.sha256 for blob in group])
            self._drop([blob for blob in group if blob.sha256 not in needed], swept)

    def _drop(self, unnamed: list[Stored], swept: Swept) -> None:
        while unnamed and not self._stopping():
            group, unnamed = unnamed[: self._batch], unnamed[self._batch :]
            sizes = {blob.sha256: blob.bytes for blob in group}
            began = time.monotonic()
            gone = garbage.drop(self._store, sizes)
            # With the time for unlinking in it, which holds no lock: on the safe side.
            self._batch = max(1, self._batch // 2) if time.monotonic() - began > HOLD_SECONDS else self._batch
            swept.blobs += len(gone)
            swept.bytes += sum(sizes[sha256] for sha256 in gone)


@contextmanager
def _turn(path: Path, every: float) -> Iterator[bool]:
    """Whether it is this process's turn: nobody else holds the file, and its last turn began `every` seconds ago.

    The lock ends with its holder, so a killed worker holds nobody up.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        yield _take(file, every)


def _take(file: BinaryIO, every: float) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    last = os.fstat(file.fileno())
    if last.st_size and time.time() - last.st_mtime < every:
        return False
    file.truncate(0)
    file.write(b"The time of this file is that of the last sweep.\n")
    file.flush()
    return True
