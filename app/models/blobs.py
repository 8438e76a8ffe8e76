"""Opening blobs so that a damaged one is an error, never half an answer."""

import hashlib
import os
from typing import BinaryIO

from core.contract.errors import GraftError
from core.store.store import Store


class CorruptBlobError(GraftError):
    """The books name a file whose bytes are missing, cut off or changed."""

    type = "internal"
    code = "corrupt_blob"

    def __init__(self, what: str, why: str) -> None:
        super().__init__(
            f"{what} is damaged on the server: {why}.",
            hint="Restore the service's data folder from a backup, or run the job again.",
        )


def open_blob(store: Store, sha256: str, what: str, size: int | None = None) -> BinaryIO:
    """Open a blob for reading; `CorruptBlobError` if it is missing or, where `size` is known, not that long."""
    try:
        file = store.blob(sha256).open("rb")
    except OSError as error:
        raise CorruptBlobError(what, "its file is missing or cannot be read") from error
    if size is not None and (found := os.fstat(file.fileno()).st_size) != size:
        file.close()
        raise CorruptBlobError(what, f"its file has {found:,} bytes instead of {size:,}")
    return file


def read_blob(store: Store, sha256: str, what: str) -> bytes:
    """All bytes of a small blob, checked against its name."""
    with open_blob(store, sha256, what) as file:
        data = file.read()
    check(data, sha256, what)
    return data


def check(data: bytes, sha256: str, what: str) -> None:
    """`CorruptBlobError` unless the bytes have that SHA-256."""
    if hashlib.sha256(data).hexdigest() != sha256:
        raise CorruptBlobError(what, "its checksum is wrong")
