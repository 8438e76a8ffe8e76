"""Blobs in a folder, addressed by SHA-256: written to a temporary name, fsynced, renamed."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from core.contract.base import new_id
from core.contract.errors import InsufficientStorageError

_ENOSPC = (28, 122)  # no space left on device, quota exceeded


class PendingBlob:
    """Bytes on their way in: hashed while written, invisible until `BlobFolder.adopt`."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.size = 0
        self._file = file
        self._hash = hashlib.sha256()

    def write(self, chunk: bytes | memoryview) -> None:
        """Append a chunk; a full disk is `InsufficientStorageError`."""
        rest = memoryview(chunk)
        try:
            while rest:  # an unbuffered file may take a part only, e.g. just before the disk is full
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise disk_error(error) from error
        self._hash.update(chunk)
        self.size += len(chunk)

    def finish(self) -> str:
        """Flush to the disk and return the SHA-256 in hex."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            raise disk_error(error) from error
        return self._hash.hexdigest()

    def discard(self) -> None:
        """Forget the bytes."""
        self._file.close()
        self.path.unlink(missing_ok=True)


class BlobFolder:
    """A folder of immutable files named by the SHA-256 of their content."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._pending = root / "pending"
        self._pending.mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Where the blob lies (whether it exists or not)."""
        return self.root / sha256[:2] / sha256

    def exists(self, sha256: str) -> bool:
        """Whether the blob is there."""
        return self.path(sha256).is_file()

    def expect(self, size: int) -> None:
        """Refuse bytes that cannot fit before they are sent; `InsufficientStorageError`."""
        if shutil.disk_usage(self.root).free < size:
            raise _full()

    def upload(self, upload_id: str) -> Path:
        """Where the bytes of a resumable upload gather; on the same file system, so that it can become a blob."""
        return self._pending / upload_id

    def begin_upload(self, upload_id: str) -> None:
        """Make an upload's empty file, so that it outlives a power cut."""
        try:
            self.upload(upload_id).touch(0o600)
            _fsync_folder(self._pending)
        except OSError as error:
            raise disk_error(error) from error

    def pending(self) -> PendingBlob:
        """Open a place for new bytes."""
        path = self._pending / new_id("req")
        try:
            return PendingBlob(path, path.open("wb", buffering=0))
        except OSError as error:
            raise disk_error(error) from error

    @contextmanager
    def writing(self) -> Iterator[PendingBlob]:
        """A pending blob that is gone after an error (and after leaving, if nobody adopted it)."""
        blob = self.pending()
        try:
            yield blob
        finally:
            blob.discard()

    def adopt(self, path: Path, sha256: str) -> None:
        """Give the finished, fsynced file at `path` (same file system) its final name, unless that blob is there."""
        target = self.path(sha256)
        if target.is_file():
            path.unlink(missing_ok=True)
            return
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
            _fsync_folder(target.parent)
        except OSError as error:
            raise disk_error(error) from error

    def put(self, data: bytes) -> str:
        """Store bytes and return their SHA-256."""
        with self.writing() as blob:
            blob.write(data)
            sha256 = blob.finish()
            self.adopt(blob.path, sha256)
        return sha256

    def remove(self, sha256: str) -> None:
        """Remove a blob that no row names any more."""
        self.path(sha256).unlink(missing_ok=True)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def disk_error(error: OSError) -> Exception:
    """A full disk as `InsufficientStorageError`, any other error as it is."""
    return _full() if error.errno in _ENOSPC else error


def _full() -> InsufficientStorageError:
    return InsufficientStorageError(
        "The disk that holds the data folder is full.",
        hint="Free space or delete data sets and models that are no longer needed, then try again.",
    )
