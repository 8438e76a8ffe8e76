"""Work folders: one for each attempt, below the data folder, removed when the attempt ends.

The fork server has a folder among the system's temporary files. A worker that is killed by force leaves it behind, so
each bears a mark by which the next worker on this machine knows it.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import util
from pathlib import Path

import psutil

from core.store import datasets, imports, jobs, measurements
from core.store.leases import Fence
from core.store.store import Store

_NAME = re.compile(r"(?P<id>(?:job|ds|imp|mea)_[0-9a-z]{26})-(?P<attempt>\d+)")
_LIVE = {
    "job": jobs.is_running,
    "ds": datasets.is_validating,
    "imp": imports.is_validating,
    "mea": measurements.is_running,
}


_MARK = "graft-worker.json"


def mark_temporary() -> None:
    """Put this process's mark into the folder of its fork server, which must have been started."""
    own = {"host": socket.gethostname(), "pid": os.getpid(), "began": psutil.Process().create_time()}
    (Path(util.get_temp_dir()) / _MARK).write_text(json.dumps(own))


def remove_temporary() -> int:
    """Remove the fork servers' folders that workers of this machine left behind which are no more; returns how many."""
    removed = 0
    for mark in Path(tempfile.gettempdir()).glob(f"pymp-*/{_MARK}"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            left = json.loads(mark.read_text())
            if left["host"] == socket.gethostname() and not _lives(left["pid"], left["began"]):
                shutil.rmtree(mark.parent)
                removed += 1
    return removed


def _lives(pid: int, began: float) -> bool:
    try:
        return abs(psutil.Process(pid).create_time() - began) < 1.0
    except psutil.NoSuchProcess:
        return False


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
            live = _LIVE[fence.id.partition("_")[0]](tx, fence)
        if not live:
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
    return removed


def sync_and_hash(path: Path) -> str:
    """Bring a file to the disk for good and return its SHA-256."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()
