"""Uploads for the tests of imports: safetensors files and bundles, honest ones and hostile ones."""

import io
import json
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

Header = dict[str, Any]


def state_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """An honest safetensors file."""
    return save({name: tensor.contiguous() for name, tensor in tensors.items()})


def forged(header: Header | str, data: bytes = b"", *, length: int | None = None) -> bytes:
    """A safetensors file with any header, and any length claimed for it."""
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(begin: int, end: int, shape: list[int] | None = None, dtype: str = "F32") -> Header:
    """One tensor of a header."""
    return {"dtype": dtype, "shape": [(end - begin) // 4] if shape is None else shape, "data_offsets": [begin, end]}


def members(bundle: Path | bytes) -> dict[str, bytes]:
    """The files of a bundle."""
    with zipfile.ZipFile(io.BytesIO(bundle) if isinstance(bundle, bytes) else bundle) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(files: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of these files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def with_manifest(files: Mapping[str, bytes], **changes: Any) -> bytes:
    """The bundle with other values in its manifest."""
    manifest = json.loads(files["manifest.json"]) | changes
    return zipped({**files, "manifest.json": json.dumps(manifest).encode()})
