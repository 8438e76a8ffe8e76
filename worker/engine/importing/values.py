"""Tensors out of a checked safetensors file, read by NumPy and looked at value by value."""

from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.contract.errors import JobError
from worker.engine.importing.architecture import LISTED, Wanted
from worker.engine.importing.header import TensorEntry

_NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "U8": "u1", "BOOL": "u1"}
_TORCH = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
CONVERTED = ("F64", "F16", "BF16")
"""Types that become float32."""


def read_tensors(
    file: BinaryIO, entries: dict[str, TensorEntry], wanted: dict[str, Wanted], prefix: str = ""
) -> dict[str, Tensor]:
    """The wanted tensors by name, with the wanted types; in the file their names begin with `prefix`.

    Raises `JobError` `invalid_weights` for a wrong type or a negative variance, `weights_not_finite`.
    """
    tensors: dict[str, Tensor] = {}
    unsound: list[str] = []
    for name, want in wanted.items():
        entry = entries.get(prefix + name)
        if entry is None:  # `check_names` lets nothing else be missing
            tensors[name] = torch.zeros(want.shape, dtype=want.dtype)
            continue
        _check_dtype(entry, want)
        values = _values(file, entry)
        if values.dtype == np.float32 and not np.isfinite(values).all():
            unsound.append(name)
        if name.endswith("running_var") and (values < 0).any():
            raise _invalid(f"`{name}` is a variance, and has negative values")
        tensors[name] = torch.from_numpy(values).to(want.dtype)
    if unsound:
        raise JobError(
            f"{len(unsound)} tensors have values that are not finite (or too large for float32), e.g. `{unsound[0]}`.",
            code="weights_not_finite",
            param="file",
            hint="The training that made them diverged: import a checkpoint from before that.",
            details={"tensors": unsound[:LISTED], "count": len(unsound)},
        )
    return tensors


def _check_dtype(entry: TensorEntry, want: Wanted) -> None:
    found = _TORCH[entry.dtype]
    if found == want.dtype or (found.is_floating_point and want.dtype.is_floating_point):
        return
    if {found, want.dtype} == {torch.int32, torch.int64}:
        return
    raise _invalid(f"`{entry.name}` has the type {entry.dtype}, and the network wants {str(want.dtype)[6:]}")


def _values(file: BinaryIO, entry: TensorEntry) -> NDArray[Any]:
    """The values in their shape; every floating type as float32 (what is too large for it becomes infinite)."""
    file.seek(entry.offset)
    raw = np.frombuffer(file.read(entry.length), _NUMPY[entry.dtype])
    if entry.dtype == "BF16":
        raw = (raw.astype(np.uint32) << 16).view(np.float32)
    elif entry.dtype in ("F64", "F16", "F32"):
        with np.errstate(over="ignore"):
            raw = raw.astype(np.float32)
    elif entry.dtype == "BOOL":
        raw = raw.astype(np.bool_)
    else:
        raw = raw.copy()
    return raw.reshape(entry.shape)


def _invalid(why: str) -> JobError:
    return JobError(
        f"The weights cannot be taken: {why}.",
        code="invalid_weights",
        param="file",
        hint="Save model.state_dict() of the trained network as it is.",
    )
