"""What a Parquet file says of its sizes, read before anything of it is decoded (parquet.thrift, compact protocol).

A count that is negative or beyond what the file can hold makes a decoder ask for more memory than there is, and some
end their process then. So pages' headers are looked at, too.
"""

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from core.modality.table_errors import unreadable
from core.modality.thrift import Compact

_MOST_FOOTER = 64 * 1024 * 1024
_MAGIC = b"PAR1"
_HEADERS = tuple(4096 * 16**step for step in range(4))  # bytes that are looked at for a page's header: up to 16 MiB


@dataclass(frozen=True)
class Sizes:
    """`unpacked`: bytes of all pages after inflating; `values`: of all columns, lists have many in a row."""

    rows: int
    columns: int
    unpacked: int
    values: int


def read_sizes(path: Path) -> Sizes:
    """Rows, columns and bytes by the file's footer; `unreadable_table` where it or a page's header makes no sense."""
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
            meta = Compact(footer).struct()
            sizes = _sizes(meta)
            for group in meta.get(4, []):
                for chunk in group[1]:
                    _check_pages(file, chunk[3], length - 8 - size)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError, struct.error) as error:
            raise unreadable("the footer or a page of the Parquet file is not valid") from error
    return sizes


def _sizes(meta: dict[int, Any]) -> Sizes:
    """FileMetaData: 2 schema, 3 num_rows, 4 row_groups; RowGroup: 1 columns; ColumnChunk: 3 meta_data, of which 5 is
    num_values and 6 total_uncompressed_size."""
    rows, unpacked, values = _count(meta[3]), 0, 0
    for group in meta.get(4, []):
        for chunk in group[1]:
            unpacked += _count(chunk[3][6])
            values += _count(chunk[3][5])
    leaves = sum(1 for element in meta[2] if not element.get(5))
    return Sizes(rows, leaves, unpacked, values)


def _check_pages(file: BinaryIO, chunk: dict[int, Any], end: int) -> None:
    """ColumnMetaData: 5 num_values, 9 data_page_offset, 11 dictionary_page_offset.

    PageHeader: 2 uncompressed_page_size, 3 compressed_page_size, and the header of its kind, of which 1 is num_values:
    5 data, 7 dictionary, 8 data of version 2. Raises `ValueError` and what reading raises.
    """
    at, wanted = min(_count(chunk[9]), _count(chunk.get(11)) or end), _count(chunk[5])
    seen = 0
    while seen < wanted:
        header, at = _page(file, at, end)
        unpacked, packed = _count(header[2]), _count(header[3])
        of_data, of_words = header.get(5) or header.get(8), header.get(7)
        if packed > end - at:
            raise ValueError("a page is longer than the file")
        if of_words is not None and _count(of_words[1]) > unpacked:
            raise ValueError("a dictionary has more values than bytes")
        if of_data is not None:
            seen += _count(of_data[1])
            for name in (2, 3, 5, 6) if 8 in header else ():  # num_nulls, num_rows, lengths of levels
                _count(of_data[name])
        at += packed
    if seen > wanted:
        raise ValueError("pages have more values than their column")


def _page(file: BinaryIO, at: int, end: int) -> tuple[dict[int, Any], int]:
    """The header that begins at `at`, and where it ends; long words in its statistics can make it long."""
    for most in _HEADERS:
        file.seek(at)
        compact = Compact(file.read(min(most, end - at)))
        try:
            return compact.struct(), at + compact.read
        except (IndexError, ValueError):
            if most == _HEADERS[-1] or end - at <= most:
                raise
    raise AssertionError


def _count(value: object) -> int:
    """A number that may not be negative; 0 where it is left out."""
    number = 0 if value is None else value
    if not isinstance(number, int) or number < 0:
        raise ValueError("not a count")
    return number
