"""Safetensors files changed by copying bytes: a few tensors are parsed or exchanged, all others stay what they are."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

Entries = dict[str, Any]
METADATA = "__metadata__"


@dataclass(frozen=True)
class _File:
    """A file taken apart: what is said beside the tensors, their entries in the order of their bytes, the bytes."""

    metadata: dict[str, str]
    entries: Entries
    body: memoryview

    def part(self, name: str) -> memoryview:
        """A tensor's bytes."""
        start, stop = self.entries[name]["data_offsets"]
        return self.body[start:stop]


def picked(data: bytes, wanted: Callable[[str], bool]) -> dict[str, NDArray[Any]]:
    """The tensors whose names are `wanted`; `ValueError` where the file is none."""
    found = _split(data)
    parts = {name: found.part(name) for name in found.entries if wanted(name)}
    try:
        return load(_joined(parts, found.entries, {}))
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError("no safetensors file") from error


def exchanged(data: bytes, changed: Mapping[str, NDArray[np.float32]], metadata: Mapping[str, str]) -> bytes:
    """The file with tensors `changed`, or appended, and `metadata` beside what it had."""
    old = _split(data)
    new = _split(save({name: np.ascontiguousarray(part) for name, part in changed.items()}))
    parts = {name: old.part(name) for name in old.entries if name not in changed}
    parts |= {name: new.part(name) for name in new.entries}
    return _joined(parts, old.entries | new.entries, {**old.metadata, **metadata})


def _split(data: bytes) -> _File:
    length = int.from_bytes(data[:8], "little")
    try:
        header: Entries = json.loads(data[8 : 8 + length])
        metadata = header.pop(METADATA, {})
        order = sorted(header, key=lambda name: list(header[name]["data_offsets"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError("no safetensors file") from error
    return _File(metadata, {name: header[name] for name in order}, memoryview(data)[8 + length :])


def _joined(parts: Mapping[str, memoryview], entries: Entries, metadata: Mapping[str, str]) -> bytes:
    header: Entries = {METADATA: dict(metadata)} if metadata else {}
    end = 0
    for name, part in parts.items():
        header[name] = entries[name] | {"data_offsets": [end, end + len(part)]}
        end += len(part)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # data begins at a multiple of eight
    return b"".join([len(text).to_bytes(8, "little"), text, *parts.values()])
