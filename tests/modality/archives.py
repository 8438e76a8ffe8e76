"""What the tests of archives share: list one, read it, see it refused, patch its bytes."""

import io
import os
import struct
import tarfile
from pathlib import Path

import pytest

from core.modality.archives import Listing, list_archive
from core.modality.errors import ArchiveError
from core.modality.reader import read_stored
from core.settings import Settings
from tests.builders import folder_files

FILES = {**folder_files({"cats": 3, "dogs": 2}), "empty.bin": b"", "text.txt": b"words " * 500}


def listing(tmp_path: Path, data: bytes, **limits) -> Listing:
    upload = tmp_path / "upload"
    upload.write_bytes(data)
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    return list_archive(upload, limits=Settings(**limits), scratch=scratch)


def contents(found: Listing) -> dict[str, bytes]:
    descriptor = os.open(found.content, os.O_RDONLY)
    try:
        return {entry.name: read_stored(descriptor, entry) for entry in found.entries}
    finally:
        os.close(descriptor)


def refused(tmp_path: Path, data: bytes, **limits) -> ArchiveError:
    with pytest.raises(ArchiveError) as caught:
        listing(tmp_path, data, **limits)
    assert caught.value.hint
    assert not list((tmp_path / "scratch").iterdir())
    return caught.value


def codes(found: Listing) -> dict[str, str]:
    return {refused.name: refused.code for refused in found.refused}


def plain_tar(add) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        add(archive)
    return buffer.getvalue()


def central(data: bytes, name: str) -> int:
    """Where the directory's record of an entry begins."""
    return data.rfind(name.encode()) - 46


def patched(data: bytes, at: int, format: str, value: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into(format, changed, at, value)
    return bytes(changed)
