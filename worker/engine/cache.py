"""The artifact cache: features, exported backbones and small facts, shared by all jobs of a machine.

A file lies at `<root>/<kind>/<2 digits>/<key digest>-<sha256 of its bytes>`. Its name tells what its bytes must be, so
one rename publishes both, and a truncated or flipped file is a miss. Nothing here is needed: it can all be made again.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from core.contract.base import new_id
from core.contract.errors import InsufficientStorageError
from worker.engine.stored import Precision

IN_USE_SECONDS = 3600.0
_STALE_SECONDS = 24 * 3600.0
_NO_SPACE = (28, 122)  # ENOSPC, EDQUOT


class CacheFolder:
    """Files by kind and key, the least recently used ones dropped above `max_bytes`."""

    def __init__(self, root: Path, max_bytes: int, *, features: Precision = "fp32") -> None:
        """`features` is how features are kept from now on; they are told apart by their keys."""
        self.root = root
        self.max_bytes = max_bytes
        self.features = features

    def get(self, kind: str, key: str, *, check: bool = True) -> Path | None:
        """The file of that key, marked as used now; None if there is none that is whole.

        Without `check` its bytes are not read: for files that carry checksums of their own.
        """
        folder, name = self._place(kind, key)
        for path in folder.glob(f"{name}-*"):
            try:
                if check and _sha256(path) != path.name.partition("-")[2]:
                    path.unlink(missing_ok=True)
                    continue
                os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
            except FileNotFoundError:  # another process evicted it
                continue
            return path
        return None

    def put(self, kind: str, key: str, write: Callable[[Path], None]) -> Path:
        """Let `write` fill a file, then publish it under the key and return its place.

        Two processes that write the same key do each other no harm: both results are whole, and either one is found.
        """
        folder, name = self._place(kind, key)
        folder.mkdir(parents=True, exist_ok=True)
        pending = folder / f".{new_id('req')}"
        try:
            write(pending)
            _fsync(pending)
            path = folder / f"{name}-{_sha256(pending)}"
            pending.replace(path)
        except OSError as error:
            if error.errno in _NO_SPACE:
                raise InsufficientStorageError(
                    "The disk that holds the cache is full.",
                    hint="Free space, or lower GRAFT_CACHE_BYTES and delete the cache folder: it is made again.",
                ) from error
            raise
        finally:
            pending.unlink(missing_ok=True)
        self._evict()
        return path

    def remove(self, kind: str, key: str) -> None:
        """Remove what lies under that key."""
        folder, name = self._place(kind, key)
        for path in folder.glob(f"{name}-*"):
            path.unlink(missing_ok=True)

    def drop(self, kind: str) -> None:
        """Remove all files of that kind."""
        shutil.rmtree(self.root / kind, ignore_errors=True)

    def _place(self, kind: str, key: str) -> tuple[Path, str]:
        digest = hashlib.sha256(key.encode()).hexdigest()[:32]
        return self.root / kind / digest[:2], digest

    def _evict(self) -> None:
        """Drop the least recently used files above the limit, but none that was used within the last hour."""
        now = time.time()
        entries = []
        for path in _files(self.root):
            try:
                facts = path.stat()
            except FileNotFoundError:
                continue
            if path.name.startswith("."):
                if now - facts.st_mtime > _STALE_SECONDS:  # left by a process that was killed
                    path.unlink(missing_ok=True)
                continue
            entries.append((max(facts.st_atime, facts.st_mtime), facts.st_size, path))
        total = sum(size for _, size, _ in entries)
        for used, size, path in sorted(entries):
            if total <= self.max_bytes or now - used < IN_USE_SECONDS:
                break
            path.unlink(missing_ok=True)
            total -= size


def _files(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root):
        yield from (Path(folder) / name for name in names)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
