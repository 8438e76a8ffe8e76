"""Compressed tars: decompressed once, within the limits, to a plain tar that allows random access."""

import bz2
import errno
import hashlib
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from core.contract.base import new_id
from core.contract.errors import InsufficientStorageError
from core.modality.archives import MIB, ShouldStop, check_stop, check_total, not_an_archive, unreadable
from core.modality.image import looks_like_image
from core.settings import Settings

_XZ_MEMORY = 256 * MIB  # an xz header may ask for 4 GiB
_KNOWN = (
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!", "a RAR archive"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (0, b"%PDF", "a PDF document"),
    (0, b"PAR1", "a Parquet file"),
    (4, b"ftyp", "a single HEIC, AVIF or video file"),
)


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Gzip:
    """zlib's decompressor with the interface that bz2's and lzma's have."""

    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)

    @property
    def eof(self) -> bool:
        return self._inflater.eof

    @property
    def unused_data(self) -> bytes:
        return self._inflater.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._inflater.unconsumed_tail

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._inflater.decompress(self._inflater.unconsumed_tail + data, max_length)


def decompress(
    upload: Path, head: bytes, *, limits: Settings, scratch: Path, should_stop: ShouldStop
) -> tuple[Path, str]:
    """Decompress gzip, bzip2 or xz into a new file in `scratch`; returns it, fsynced, and its SHA-256.

    Raises `ArchiveError` (`not_an_archive`, `unreadable_archive`, `archive_bomb`, `archive_too_large`) and
    `InsufficientStorageError`; the file is gone then.
    """
    make = _decompressor(head)
    stored = upload.stat().st_size
    target = scratch / f"{new_id('req')}.tar"
    digest = hashlib.sha256()
    written = 0
    try:
        with upload.open("rb") as source, target.open("xb") as out:
            for chunk in _stream(source, make):
                written += len(chunk)
                check_total(written, stored, limits)
                check_stop(should_stop)
                digest.update(chunk)
                out.write(chunk)
            out.flush()
            os.fsync(out.fileno())
    except BaseException as error:
        target.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InsufficientStorageError(
                "The disk is too full to unpack the upload.", hint="Free space and upload it again."
            ) from error
        raise
    return target, digest.hexdigest()


def _stream(source: BinaryIO, make: Callable[[], _Decompressor]) -> Iterator[bytes]:
    """Chunks of at most 1 MiB, over all members of the file; padding of zeros behind the last one is ignored."""
    machine = make()
    data = source.read(MIB)
    try:
        while True:
            if chunk := machine.decompress(data, MIB):
                yield chunk
            data = b""
            if machine.eof:
                data = (machine.unused_data or source.read(MIB)).lstrip(b"\0")
                if not data:
                    return
                machine = make()
            elif machine.needs_input:
                data = source.read(MIB)
                if not data:
                    raise unreadable("its compressed data ends too early")
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise unreadable("its compressed data is not valid") from error


def _decompressor(head: bytes) -> Callable[[], _Decompressor]:
    if head[:2] == b"\x1f\x8b":
        return _Gzip
    if head[:3] == b"BZh":
        return bz2.BZ2Decompressor
    if head[:6] == b"\xfd7zXZ\0":
        return lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
    raise not_an_archive(_describe(head))


def _describe(head: bytes) -> str:
    if not head:
        return "empty"
    if looks_like_image(head):
        return "a single image"
    for at, magic, what in _KNOWN:
        if head[at : at + len(magic)] == magic:
            return what
    text = not any(byte < 9 for byte in head)
    return "a text file" if text else "in a format that is not known here"
