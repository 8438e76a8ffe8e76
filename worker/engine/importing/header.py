"""The header of a safetensors file, read with bounds before anything else of the file is touched.

A file is 8 bytes with the header's length (little-endian), the header (JSON: name -> dtype, shape, data_offsets), and
the tensors' bytes without gaps. The library takes the last of two equal names; here every figure is checked: https://huggingface.co/docs/safetensors/index#format.
"""

import json
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any, BinaryIO

from core.contract.errors import JobError

MAX_HEADER_BYTES = 16 * 1024 * 1024
"""The format allows 100 MB; 10,000 tensors need a tenth of this."""
MAX_TENSORS = 10_000
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1, "BOOL": 1}
"""Bytes of one value of the dtypes that networks are kept in."""
_MAX_NAME, _MAX_AXES, _MAX_SIZE = 512, 8, 2**48


@dataclass(frozen=True)
class TensorEntry:
    """One tensor: `offset` counts from the beginning of the file, `length` is in bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int


def read_header(file: BinaryIO, start: int, size: int) -> dict[str, TensorEntry]:
    """Entries by name of the safetensors file that lies at `start` and is `size` bytes long.

    Raises `JobError` `invalid_safetensors` that says what is wrong, or `too_many_tensors`.
    """
    file.seek(start)
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > size - 8:
        raise broken(f"its header claims {length:,} bytes, and the file has {max(0, size - 8):,} after the length")
    if length > MAX_HEADER_BYTES:
        raise broken(f"its header is {length:,} bytes long; {MAX_HEADER_BYTES:,} are read at most")
    header = _parse(file.read(length))
    header.pop("__metadata__", None)
    if len(header) > MAX_TENSORS:
        raise JobError(
            f"The file holds {len(header):,} tensors, more than {MAX_TENSORS:,}.",
            code="too_many_tensors",
            param="file",
            hint="Save the state dict of one network, without the optimiser's.",
            details={"limit": MAX_TENSORS},
        )
    entries = {name: _entry(name, said, start + 8 + length) for name, said in header.items()}
    _check_gapless(list(entries.values()), start + 8 + length, start + size)
    return entries


def _parse(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError as error:
        raise broken("its header is nested too deeply") from error
    except ValueError as error:  # not UTF-8, not JSON, or a number of thousands of digits
        raise broken("its header is not valid JSON") from error
    if not isinstance(header, dict):
        raise broken("its header is not a JSON object")
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        name = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise broken(f"its header has the key {shown(name)} twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _entry(name: str, said: Any, data: int) -> TensorEntry:
    if not 0 < len(name) <= _MAX_NAME:
        raise broken(f"a tensor's name is {len(name)} characters long")
    if not isinstance(said, dict) or set(said) != {"dtype", "shape", "data_offsets"}:
        raise broken(f"the entry {shown(name)} does not have exactly dtype, shape and data_offsets")
    dtype, shape, offsets = said["dtype"], said["shape"], said["data_offsets"]
    if not isinstance(dtype, str) or dtype not in SIZES:
        raise broken(f"{shown(name)} has the dtype {shown(str(dtype))}; known are {', '.join(SIZES)}")
    if not _whole(shape) or len(shape) > _MAX_AXES:
        raise broken(f"{shown(name)} has a shape that is not a short list of whole numbers")
    if not _whole(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise broken(f"{shown(name)} has data_offsets that are not a beginning and an end")
    if prod(shape) * SIZES[dtype] != offsets[1] - offsets[0]:
        raise broken(f"{shown(name)} has {offsets[1] - offsets[0]:,} bytes, which its dtype and shape do not fit")
    return TensorEntry(name, dtype, tuple(shape), data + offsets[0], offsets[1] - offsets[0])


def _whole(values: Any) -> bool:
    """Whether it is a list of whole numbers from 0 that a file can have."""
    return isinstance(values, list) and all(type(value) is int and 0 <= value <= _MAX_SIZE for value in values)


def _check_gapless(entries: list[TensorEntry], begin: int, end: int) -> None:
    """The tensors must cover the data from its beginning to its end, each byte once."""
    spans = sorted((entry.offset, entry.offset + entry.length, entry.name) for entry in entries)
    if spans and spans[-1][1] > end:
        raise broken(f"{shown(spans[-1][2])} reaches beyond the end of the file")
    if (spans[0][0] if spans else end) != begin or (spans[-1][1] if spans else begin) != end:
        raise broken("its tensors do not cover its data from beginning to end")
    for (_, stop, first), (start, _, second) in pairwise(spans):
        if start != stop:
            raise broken(f"{shown(first)} and {shown(second)} {'overlap' if start < stop else 'have a gap between'}")


def shown(name: str) -> str:
    """A name out of the file as it may be shown: printable and short."""
    printable = "".join(letter if letter.isprintable() else "?" for letter in name[:121])
    return f"`{printable if len(printable) <= 120 else printable[:117] + '...'}`"


def broken(why: str) -> JobError:
    """The error for a file that is not whole and sound."""
    return JobError(
        f"The safetensors file is damaged or was made to mislead: {why}.",
        code="invalid_safetensors",
        param="file",
        hint="Write it again with safetensors.torch.save_file, and check that the copy you send is whole.",
    )
