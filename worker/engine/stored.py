"""Features in a file: mapped into memory, read where rows are wanted, and checked there.

A file may be larger than memory, and a job may want few of its rows, so it is never read as a whole to be trusted. It
carries a checksum (CRC-32) of every block of rows. Opening it checks its size and the header, which seals these sums;
rows are given out only after their own blocks were found right, once for each open file. So no damaged figure is used,
and none is looked for where nobody reads.

In half precision the figures are divided by a power of two that brings the largest to 16384 or below, and lose 3 digits
of 7; what is given out is float32 either way. Files are safetensors: `features` (N, D), the rest is in their metadata.
"""

import hashlib
import json
import math
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

Floats = NDArray[np.float32]
Precision = Literal["fp32", "fp16"]
BLOCK_BYTES = 256 * 1024
_LARGEST = 14  # log2 of the largest figure in half precision
_TYPES: dict[str, type[np.floating]] = {"F32": np.float32, "F16": np.float16}


class DamagedError(Exception):
    """The file is not what was written."""


def write(features: Floats, path: Path, precision: Precision = "fp32") -> None:
    """Write finite features (N, D)."""
    scale, values = 1.0, np.ascontiguousarray(features, dtype=np.float32)
    if precision == "fp16":
        largest = float(np.abs(values).max(initial=0))
        scale = 2.0 ** (math.ceil(math.log2(largest)) - _LARGEST) if largest > 0 else 1.0
        values = (values / np.float32(scale)).astype(np.float16)
    rows = max(1, BLOCK_BYTES // max(1, values[:1].nbytes))
    sums = [_sum(values[start : start + rows]) for start in range(0, len(values), rows)]
    facts = {"rows": str(rows), "scale": repr(scale), "sums": "".join(f"{one:08x}" for one in sums)}
    kind = "F16" if precision == "fp16" else "F32"
    facts["seal"] = _seal(facts, kind, list(values.shape))
    # One entry: several would come in another order each time, and equal features must be equal files.
    save_file({"features": values}, path, metadata={"facts": json.dumps(facts)})


def _sum(block: NDArray[np.floating]) -> int:
    return zlib.crc32(np.ascontiguousarray(block).data)


def _seal(facts: dict[str, str], kind: str, shape: list[int]) -> str:
    said = json.dumps([kind, shape, *(facts[name] for name in ("rows", "scale", "sums"))])
    return hashlib.sha256(said.encode()).hexdigest()


class Features:
    """Features (N, D) in a file. The file may be removed while this is open."""

    def __init__(self, path: Path) -> None:
        """Map the file; raises `DamagedError`, or `FileNotFoundError`."""
        facts, kind, shape, begin = _header(path)
        self.shape: tuple[int, int] = (shape[0], shape[1])
        self._per_block, self._scale = int(facts["rows"]), np.float32(float(facts["scale"]))
        sums = facts["sums"]
        self._sums = [int(sums[place : place + 8], 16) for place in range(0, len(sums), 8)]
        self._right = np.zeros(len(self._sums), dtype=np.bool_)
        empty = 0 in self.shape
        self._values: NDArray[Any] = (
            np.empty(self.shape, _TYPES[kind])
            if empty
            else np.memmap(path, dtype=_TYPES[kind], mode="r", offset=begin, shape=self.shape)
        )

    def __len__(self) -> int:
        return self.shape[0]

    def rows(self, indices: NDArray[np.integer] | None = None) -> Floats:
        """Those rows (n, D), or all of them, float32; `DamagedError` if one of them is not what was written."""
        if 0 in self.shape:
            return np.empty((0 if indices is None else len(indices), self.shape[1]), dtype=np.float32)
        blocks = np.arange(len(self._sums)) if indices is None else np.unique(np.asarray(indices) // self._per_block)
        for block in blocks[~self._right[blocks]]:
            start = int(block) * self._per_block
            if _sum(self._values[start : start + self._per_block]) != self._sums[block]:
                raise DamagedError
            self._right[block] = True
        chosen = self._values if indices is None else self._values[indices]
        found: Floats = np.array(chosen, dtype=np.float32)
        if self._scale != 1:
            found *= self._scale
        return found


def _header(path: Path) -> tuple[dict[str, str], str, list[int], int]:
    """Facts, number format and shape as the file's header has them, and where the figures begin."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= size - 8:
                raise DamagedError
            header = json.loads(file.read(length))
        facts, one = json.loads(header["__metadata__"]["facts"]), header["features"]
        kind, shape, (start, end) = one["dtype"], one["shape"], one["data_offsets"]
        whole = facts["seal"] == _seal(facts, kind, shape) and start == 0 and size == 8 + length + end
        if not whole or end != math.prod(shape) * np.dtype(_TYPES[kind]).itemsize:
            raise DamagedError
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError from error
    return facts, kind, shape, 8 + length
