"""What a Parquet file says of its sizes, read before anything of it is decoded (parquet.thrift, compact protocol)."""

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.modality.table_errors import unreadable

_MOST_FOOTER = 64 * 1024 * 1024
_DEEPEST = 16
_MAGIC = b"PAR1"


@dataclass(frozen=True)
class Sizes:
    """`unpacked`: bytes of all pages after inflating."""

    rows: int
    columns: int
    unpacked: int


def read_sizes(path: Path) -> Sizes:
    """Rows, columns and bytes by the file's footer; `unreadable_table` where it has none that makes sense."""
    with path.open("rb") as file:
        length = os.fstat(file.fileno()).st_size
        file.seek(max(0, length - 8))
        tail = file.read(8)
        size = struct.unpack("<I", tail[:4])[0] if len(tail) == 8 and tail[4:] == _MAGIC else -1
        if size < 0 or size > min(length - 12, _MOST_FOOTER):
            raise unreadable("the Parquet file has no valid end")
        file.seek(length - 8 - size)
        footer = file.read(size)
    try:
        return _sizes(_Compact(footer).struct())
    except (IndexError, KeyError, TypeError, ValueError, struct.error) as error:
        raise unreadable("the footer of the Parquet file is not valid") from error


def _sizes(meta: dict[int, Any]) -> Sizes:
    """FileMetaData: 2 schema, 3 num_rows, 4 row_groups; RowGroup: 1 columns; ColumnChunk: 3 meta_data, of which 6 is
    total_uncompressed_size."""
    rows, unpacked = int(meta[3]), 0
    for group in meta.get(4, []):
        for chunk in group[1]:
            size = int(chunk[3][6])
            if size < 0:
                raise ValueError("negative size")
            unpacked += size
    leaves = sum(1 for element in meta[2] if not element.get(5))
    if rows < 0:
        raise ValueError("negative rows")
    return Sizes(rows, leaves, unpacked)


class _Compact:
    """Thrift's compact protocol: structs as {field id: value}; what is not needed is read past."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """The struct that begins here."""
        if depth > _DEEPEST:
            raise ValueError("too deep")
        found: dict[int, Any] = {}
        last = 0
        while (head := self._byte()) != 0:
            last = last + (head >> 4) if head >> 4 else self._zigzag()
            found[last] = self._value(head & 15, depth, in_list=False)
        return found

    def _value(self, kind: int, depth: int, *, in_list: bool) -> Any:
        if kind in (1, 2):
            return self._byte() == 1 if in_list else kind == 1
        if kind in (4, 5, 6):
            return self._zigzag()
        if kind in (9, 10):
            return self._list(depth)
        if kind == 12:
            return self.struct(depth + 1)
        return self._unneeded(kind, depth)

    def _unneeded(self, kind: int, depth: int) -> None:
        """A byte, a double, bytes or a map: read past."""
        if kind == 3:
            self._byte()
        elif kind == 7:
            self._take(8)
        elif kind == 8:
            self._take(self._varint())
        elif kind == 11:
            self._map(depth)
        else:
            raise ValueError(f"unknown type {kind}")

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        count = head >> 4 if head >> 4 < 15 else self._varint()
        self._expect(count)
        return [self._value(head & 15, depth + 1, in_list=True) for _ in range(count)]

    def _map(self, depth: int) -> None:
        count = self._varint()
        self._expect(count)
        kinds = self._byte() if count else 0
        for _ in range(count):
            self._value(kinds >> 4, depth + 1, in_list=True)
            self._value(kinds & 15, depth + 1, in_list=True)

    def _expect(self, count: int) -> None:
        """No element takes less than a byte."""
        if count > len(self._data) - self._at:
            raise ValueError("a list is longer than the footer")

    def _byte(self) -> int:
        value = self._data[self._at]
        self._at += 1
        return value

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a number is too long")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _take(self, length: int) -> None:
        if length > len(self._data) - self._at:
            raise IndexError("the footer ends too early")
        self._at += length
