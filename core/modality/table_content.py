"""Items of a table as one file: texts, or rows as compact JSON, back to back."""

import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from core.contract.base import new_id
from core.contract.errors import InsufficientStorageError
from core.modality.table_source import dumps

_PIECE = 10_000


@dataclass
class Content:
    """Where each item lies in the file, in order."""

    path: Path
    sha256: str = ""
    offsets: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)


def write_content(scratch: Path, items: Iterator[bytes], tick: Callable[[int], None]) -> Content:
    """Write the items to a new file, fsynced; `tick` is told how many were, now and then.

    Raises `InsufficientStorageError`; the file is gone after an error.
    """
    content = Content(scratch / f"{new_id('req')}.items")
    whole = hashlib.sha256()
    at = 0
    try:
        with content.path.open("xb") as out:
            for data in items:
                if len(content.offsets) % _PIECE == 0:
                    tick(len(content.offsets))
                out.write(data)
                whole.update(data)
                content.offsets.append(at)
                content.lengths.append(len(data))
                content.digests.append(hashlib.sha256(data).hexdigest())
                at += len(data)
            out.flush()
            os.fsync(out.fileno())
    except BaseException as error:
        content.path.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InsufficientStorageError(
                "The disk is too full to keep the table's rows.", hint="Free space and upload it again."
            ) from error
        raise
    content.sha256 = whole.hexdigest()
    return content


def texts(column: pl.Series) -> Iterator[bytes]:
    """Each text in UTF-8."""
    for start in range(0, len(column), _PIECE):
        for text in column.slice(start, _PIECE).to_list():
            yield text.encode()


def rows(columns: Sequence[pl.Series]) -> Iterator[bytes]:
    """Each row as a compact JSON object; numbers stay numbers, nothing stays null."""
    names = [column.name for column in columns]
    length = len(columns[0]) if columns else 0
    for start in range(0, length, _PIECE):
        cells: list[list[Any]] = [column.slice(start, _PIECE).to_list() for column in columns]
        for values in zip(*cells, strict=True):
            yield dumps(dict(zip(names, values, strict=True))).encode()
