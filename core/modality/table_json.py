"""JSON lines (an object a line), or one JSON array of objects."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from core.modality.faults import FaultBook
from core.modality.table_csv import Lines
from core.modality.table_errors import empty, mostly_unreadable, unreadable
from core.modality.table_frame import PIECE, Gathering, Table, unique_names
from core.settings import Settings


def read_json(path: Path, lines: Lines, limits: Settings, book: FaultBook) -> Table:
    """Read it; lines that are no object are left out.

    Raises `TableError`: `empty_table`, `unreadable_table`, `too_many_rows`, `too_many_columns`, `table_too_large`,
    `mostly_unreadable`.
    """
    first = next((line for line in lines() if line.strip()), "").lstrip("\ufeff \t")
    values = _array(path, lines, limits) if first.startswith("[") else _parsed(lines())
    gathering = Gathering(limits)
    piece: list[dict[str, Any]] = []
    numbers: list[int] = []
    number = bad = 0
    for value in values:
        number += 1
        if isinstance(value, dict):
            piece.append(value)
            numbers.append(number)
        else:
            bad += 1
            book.add("bad_json", f"row {number}: {value if isinstance(value, _Broken) else 'no object'}")
        if len(piece) == PIECE:
            _take(gathering, piece, numbers, limits)
            piece, numbers = [], []
    _take(gathering, piece, numbers, limits)
    if gathering.length == 0 and not bad:
        raise empty("it has no row")
    if bad > gathering.length:
        raise mostly_unreadable(bad, number)
    return _named(gathering, book)


class _Broken(str):
    """Why a line is no JSON."""


def _parsed(lines: Iterator[str]) -> Iterator[Any]:
    for line in lines:
        if not line.isspace():
            try:
                yield from_json(line.strip().removeprefix("\ufeff"), cache_strings="keys")
            except ValueError as error:
                yield _Broken(error)


def _array(path: Path, lines: Lines, limits: Settings) -> Iterator[Any]:
    if path.stat().st_size > limits.max_item_bytes:
        raise unreadable(
            "it is one large JSON array", "Write one object a line: orient='records', lines=True in pandas."
        )
    try:
        value = from_json("".join(lines()).removeprefix("\ufeff"))
    except ValueError as error:
        raise unreadable(f"it is no JSON ({error})") from error
    return iter(value if isinstance(value, list) else [value])


def _take(gathering: Gathering, piece: list[dict[str, Any]], numbers: list[int], limits: Settings) -> None:
    names = dict.fromkeys(name for row in piece for name in row)
    if len(names) > limits.max_columns:
        names = dict.fromkeys(list(names)[: limits.max_columns + 1])
    gathering.add({name: [row.get(name) for row in piece] for name in names}, numbers)


def _named(gathering: Gathering, book: FaultBook) -> Table:
    table = gathering.table()
    nested = [name for name in table.frame.columns if name in gathering.nested]
    for name in nested:
        book.add("nested_column", name)
    table.frame = table.frame.drop(nested)
    names = unique_names(table.frame.columns, book)
    table.mixed = {new for old, new in zip(table.frame.columns, names, strict=True) if old in table.mixed}
    table.frame.columns = names
    return table
