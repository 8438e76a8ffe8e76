"""A model's bundle: a zip whose members are stored as they are, so that any of them can be served by its byte range."""

import hashlib
import os
import shutil
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

from core.contract.errors import JobError
from core.contract.models import ModelFile

_TIME = (1980, 1, 1, 0, 0, 0)  # the same content makes the same bytes
_CHUNK = 4 * 1024 * 1024
_LOCAL_HEADER = struct.Struct("<26xHH")  # lengths of name and extra field, at the end of a local file header


def write_bundle(out: Path, files: Mapping[str, Path | bytes]) -> None:
    """Write `files` (name -> bytes or the path of a file) as an uncompressed zip, in the given order, and fsync it.

    The same content always makes the same zip.
    """
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, content in files.items():
            _add(archive, name, content)
    with out.open("rb") as file:
        os.fsync(file.fileno())


def _add(archive: zipfile.ZipFile, name: str, content: Path | bytes) -> None:
    info = zipfile.ZipInfo(name, _TIME)
    info.external_attr = 0o644 << 16
    info.create_system = 3  # Unix, wherever it is written
    info.file_size = len(content) if isinstance(content, bytes) else content.stat().st_size
    with archive.open(info, "w") as member:
        if isinstance(content, bytes):
            member.write(content)
        else:
            with content.open("rb") as file:
                shutil.copyfileobj(file, member, _CHUNK)


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


def members(bundle: Path) -> list[ModelFile]:
    """Name, size, SHA-256 and offset of every member; `ValueError` if one is compressed."""
    found = []
    with zipfile.ZipFile(bundle) as archive, bundle.open("rb") as raw:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{entry.filename} is compressed; a bundle's files are stored")
            raw.seek(entry.header_offset)
            name, extra = _LOCAL_HEADER.unpack(raw.read(_LOCAL_HEADER.size))
            offset = entry.header_offset + _LOCAL_HEADER.size + name + extra
            with archive.open(entry) as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
            found.append(ModelFile(name=entry.filename, bytes=entry.file_size, sha256=digest, offset=offset))
    return found
