"""Work folders: one for each attempt, below the data folder, removed when the attempt ends."""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.store import datasets, jobs
from core.store.leases import Fence
from core.store.store import Store

_NAME = re.compile(r"(?P<id>(?:job|ds)_[0-9a-z]{26})-(?P<attempt>\d+)")


@contextmanager
def work_folder(root: Path, fence: Fence) -> Iterator[Path]:
    """An empty folder for this attempt; what earlier attempts left is removed, and so is this one in the end."""
    parent = root / "work"
    for old in parent.glob(f"{fence.id}-*"):
        shutil.rmtree(old, ignore_errors=True)
    folder = parent / f"{fence.id}-{fence.attempt}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_stale(store: Store, root: Path) -> int:
    """Remove folders of attempts that nobody runs any more; returns how many."""
    removed = 0
    for folder in (root / "work").glob("*_*-*"):
        match = _NAME.fullmatch(folder.name)
        if match is None:
            continue
        fence = Fence(match["id"], int(match["attempt"]))
        with store.db.read() as tx:
            live = (jobs.is_running if fence.id.startswith("job_") else datasets.is_validating)(tx, fence)
        if not live:
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
    return removed


def sync_and_hash(path: Path) -> str:
    """Bring a file to the disk for good and return its SHA-256."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()
