"""What lies in a bundle: a zip whose files are stored, not compressed, so that each can be served by its byte range."""

import hashlib
import struct
import zipfile
from pathlib import Path

from core.contract.models import ModelFile

_LOCAL_HEADER = struct.Struct("<26xHH")  # lengths of name and extra field, at the end of a local file header


def files(bundle: Path) -> list[ModelFile]:
    """Name, size, SHA-256 and offset of every file in the bundle; `ValueError` if one is compressed."""
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
