"""A model's bundle: a zip whose members are stored as they are, so that any of them can be served by its offset."""

import hashlib
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from core.contract.errors import JobError
from core.contract.models import ModelFile

_TIME = (1980, 1, 1, 0, 0, 0)  # the same content makes the same bytes
_CHUNK = 4 * 1024 * 1024


def write_bundle(out: Path, files: Mapping[str, Path | bytes]) -> list[ModelFile]:
    """Write `files` (name -> bytes or the path of a file) as an uncompressed zip, in the given order, and fsync it.

    Returns size, SHA-256 and offset of each member; the same content always makes the same zip.
    """
    members = []
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, content in files.items():
            members.append(_add(archive, name, content))
    with out.open("rb") as file:
        os.fsync(file.fileno())
        return [member.model_copy(update={"offset": _data_offset(file, start)}) for start, member in members]


def _add(archive: zipfile.ZipFile, name: str, content: Path | bytes) -> tuple[int, ModelFile]:
    info = zipfile.ZipInfo(name, _TIME)
    info.external_attr = 0o644 << 16
    info.create_system = 3  # Unix, wherever it is written
    info.file_size = len(content) if isinstance(content, bytes) else content.stat().st_size
    digest = hashlib.sha256()
    with archive.open(info, "w") as member:
        if isinstance(content, bytes):
            digest.update(content)
            member.write(content)
        else:
            with content.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
                    member.write(chunk)
    return info.header_offset, ModelFile(name=name, bytes=info.file_size, sha256=digest.hexdigest())


def _data_offset(file: BinaryIO, start: int) -> int:
    """Where a member's bytes begin: after its local header of 30 bytes, its name and its extra field."""
    file.seek(start + 26)
    lengths = file.read(4)
    return start + 30 + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")


def read_member(path: Path, name: str) -> bytes:
    """The bytes of one member; `JobError` `bundle_unreadable` if it is not there or its checksum is wrong."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(name)
    except (KeyError, zipfile.BadZipFile, OSError) as error:
        raise JobError(
            f"The model's bundle has no readable {name}.",
            code="bundle_unreadable",
            hint="Its file on the server is damaged: restore it from a backup, or train the model again.",
        ) from error
