"""Safetensors files put together by copying bytes: no tensor is parsed, no network is built."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from worker.engine.heads import Head


def join_tensors(
    backbone: Path,
    head: Head,
    out: Path,
    metadata: dict[str, str] | None = None,
    more: Mapping[str, NDArray[np.float32]] | None = None,
) -> None:
    """Write `backbone` (a safetensors file with `backbone.*`), the head's tensors (`head.*`) and `more` as one file."""
    parts = save({f"head.{name}": array for name, array in head.tensors().items()} | dict(more or {}))
    length = int.from_bytes(parts[:8], "little")
    added, data = json.loads(parts[8 : 8 + length]), parts[8 + length :]
    with backbone.open("rb") as file:
        header: dict[str, Any] = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        header.pop("__metadata__", None)
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        for name, entry in added.items():
            header[name] = entry | {"data_offsets": [end + offset for offset in entry["data_offsets"]]}
        text = json.dumps({"__metadata__": metadata or {}} | header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)  # data begins at a multiple of eight
        with out.open("wb") as joined:
            joined.write(len(text).to_bytes(8, "little") + text)
            shutil.copyfileobj(file, joined, 4 * 1024 * 1024)
            joined.write(data)
