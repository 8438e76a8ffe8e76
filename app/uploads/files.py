"""The file of an upload: one writer at a time among all processes, and only bytes that are safe are counted."""

import fcntl
import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from app.uploads.headers import Checksum
from core.contract.errors import ConflictError, InvalidRequestError
from core.store.blobs import disk_error

COMMIT_BYTES = 16 * 1024 * 1024
_READ_BYTES = 1024 * 1024

Commit = Callable[[int, int], None]
"""Counts the bytes from one offset to another; raises if that is not this writer's to do any more."""


class BusyError(ConflictError):
    """Somebody else writes to the upload."""

    code = "upload_locked"


class LostFileError(ConflictError):
    """The file is gone or shorter than what was counted: somebody touched the data folder, or the disk lost it."""

    code = "upload_lost"


def opened(path: Path, counted: Callable[[], int]) -> BinaryIO:
    """The upload's file, cut back to the `counted` bytes and standing at its end.

    Until it is closed nobody else has it; `counted` is asked once it is locked.
    Raises `BusyError`, `LostFileError`, and what `counted` raises.
    """
    try:
        file = path.open("r+b", buffering=0)
    except FileNotFoundError as error:
        raise _lost() from error
    try:
        _lock(file, path)
        _cut(file, counted())
    except BaseException:
        file.close()
        raise
    return file


def _lock(file: BinaryIO, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        same = os.path.samestat(os.fstat(file.fileno()), path.stat())
    except (BlockingIOError, FileNotFoundError):
        same = False
    if not same:  # locked, or by now a blob, which nobody may touch
        raise busy()


def _cut(file: BinaryIO, received: int) -> None:
    size = os.fstat(file.fileno()).st_size
    if size < received:
        raise _lost()
    if size > received:
        file.truncate(received)  # left by a process that died before it could count them
    file.seek(received)


class Chunk:
    """The body of one request on its way into the file; `feed` and `close` run in a thread."""

    def __init__(self, file: BinaryIO, start: int, most: int, checksum: Checksum | None, commit: Commit) -> None:
        self._file = file
        self._most = most
        self._commit = commit
        self._checksum = checksum
        self._hash: Any = checksum.start() if checksum else None
        self._broken = False
        self.committed = self.end = start

    def feed(self, data: bytes) -> None:
        """Write the next bytes; those without a checksum to wait for are counted now and then.

        After an error nothing more is written, so that no gap can arise.
        """
        if self._broken:
            return
        self._broken = True
        self._feed(data)
        self._broken = False

    def _feed(self, data: bytes) -> None:
        if self.end + len(data) > self._most:
            raise InvalidRequestError(
                f"The chunk goes beyond the upload's length of {self._most:,} bytes.",
                code="upload_overrun",
                param="Upload-Offset",
                hint="Ask for the offset with HEAD and send the rest of the file only.",
            )
        self._write(data)
        if self._hash is not None:
            self._hash.update(data)
        elif self.end - self.committed >= COMMIT_BYTES:
            self.commit()

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                written = self._file.write(rest)
                self.end += written
                rest = rest[written:]
        except OSError as error:
            raise disk_error(error) from error

    def commit(self) -> None:
        """Make what was written safe, then count it."""
        if self.end == self.committed:
            return
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise disk_error(error) from error
        self._commit(self.committed, self.end)
        self.committed = self.end

    def close(self, *, whole: bool) -> None:
        """The body is over; with a checksum all of it is counted or, if it differs or is not `whole`, nothing."""
        if self._checksum is None:
            self.commit()
        elif not whole:
            self.drop()
        elif self._hash.digest() != self._checksum.digest:
            self.drop()
            raise InvalidRequestError(
                f"The chunk does not have the {self._checksum.algorithm} that was announced; it was thrown away.",
                code="chunk_checksum_mismatch",
                param="Upload-Checksum",
                hint="Send the chunk again.",
            )
        else:
            self.commit()

    def drop(self) -> None:
        """Forget what was not counted."""
        with suppress(OSError):
            self._file.truncate(self.committed)
        self.end = self.committed


def digest(path: Path) -> tuple[str, int]:
    """SHA-256 in hex and size of a whole file."""
    found, size = hashlib.sha256(), 0
    with path.open("rb", buffering=0) as file:
        while data := file.read(_READ_BYTES):
            found.update(data)
            size += len(data)
    return found.hexdigest(), size


def busy() -> BusyError:
    """What a request is told whose file another one has."""
    return BusyError(
        "Another request writes to this upload at the moment.",
        hint="Wait a moment, ask for the offset with HEAD, and go on from there.",
    )


def _lost() -> LostFileError:
    return LostFileError(
        "Bytes that were received are not on the disk any more.",
        hint="Begin a new upload, and have the disk of the data folder looked at.",
    )
