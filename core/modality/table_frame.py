"""Rows gathered piece by piece into columns, within the limits."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from core.contract.datasets import Split
from core.modality.faults import FaultBook
from core.modality.table_errors import check_columns, check_rows, too_large
from core.modality.table_source import dumps
from core.settings import Settings

PIECE = 10_000
_CELL = 16
_PLAIN = {type(None): pl.Null, str: pl.String, bool: pl.Boolean}
"""Bytes that a cell takes at least."""


@dataclass
class Table:
    """Columns as they were read, with the 1-based number of each row in its file; `mixed` held several types."""

    frame: pl.DataFrame
    rows: pl.Series
    name: str = ""
    split: Split | None = None
    decimal_comma: bool = False
    mixed: set[str] = field(default_factory=set)

    def keep(self, mask: pl.Series) -> None:
        """Only the rows for which `mask` is true."""
        self.frame, self.rows = self.frame.filter(mask), self.rows.filter(mask)


class Gathering:
    """Takes pieces of columns; a column that a piece lacks has no values there."""

    def __init__(self, limits: Settings) -> None:
        self.limits = limits
        self.length = 0
        self.mixed: set[str] = set()
        self.nested: set[str] = set()
        self._parts: dict[str, list[pl.Series]] = {}
        self._filled: dict[str, int] = {}
        self._rows: list[int] = []
        self._bytes = 0

    def add(self, columns: dict[str, list[Any]], rows: Sequence[int]) -> None:
        """One more piece: values of each column, and the rows' numbers."""
        check_columns(len(self._parts.keys() | columns.keys()), self.limits)
        for name, values in columns.items():
            parts = self._parts.setdefault(name, [])
            series = self._series(name, values)
            self._bytes += int(series.estimated_size())
            self._fill(name, self.length)
            parts.append(series)
            self._filled[name] = self.length + len(rows)
        self._rows += rows
        self.length += len(rows)
        check_rows(self.length, self.limits)
        self._check_size()

    def table(self) -> Table:
        """All pieces together; values of different types in one column become words."""
        for name in self._parts:
            self._fill(name, self.length)
        joined = {name: self._join(name, self._parts.pop(name)) for name in list(self._parts)}
        return Table(pl.DataFrame(joined), pl.Series(self._rows, dtype=pl.Int64), mixed=self.mixed)

    def _fill(self, name: str, length: int) -> None:
        gap = length - self._filled.get(name, 0)
        if gap:
            self._parts[name].append(pl.Series([None], dtype=pl.Null).new_from_index(0, gap))

    def _check_size(self) -> None:
        if max(self._bytes, self.length * len(self._parts) * _CELL) > self.limits.max_table_bytes:
            raise too_large("The table", self.limits)

    def _series(self, name: str, values: list[Any]) -> pl.Series:
        kinds = {type(value) for value in values} - {type(None)}
        if len(kinds) < 2 and (plain := _PLAIN.get(next(iter(kinds), type(None)))) is not None:
            return pl.Series(values, dtype=plain)
        if kinds == {int} and all(value is None or -(2**63) <= value < 2**63 for value in values):
            return pl.Series(values, dtype=pl.Int64)
        if kinds <= {int, float}:
            return pl.Series([None if value is None else _float(value) for value in values], dtype=pl.Float64)
        if kinds == {list} and all(value is None or all(_is_plain(one) for one in value) for value in values):
            lists = [None if value is None else [word(one) for one in value] for value in values]
            return pl.Series(lists, dtype=pl.List(pl.String))
        if kinds & {list, dict}:
            self.nested.add(name)
        else:
            self.mixed.add(name)
        return pl.Series([None if value is None else word(value) for value in values], dtype=pl.String)

    def _join(self, name: str, parts: list[pl.Series]) -> pl.Series:
        kinds = {part.dtype for part in parts} - {pl.Null()}
        if len(kinds) > 1 and not all(kind.is_numeric() for kind in kinds):
            self.mixed.add(name)
        return joined(parts)


def joined(parts: Sequence[pl.Series]) -> pl.Series:
    """Pieces of one column: numbers become one type of number, other differing types words."""
    kinds = {part.dtype for part in parts} - {pl.Null()}
    if not kinds:
        kind: pl.DataType = pl.String()
    elif len(kinds) == 1:
        kind = next(iter(kinds))
    else:
        kind = pl.Float64() if all(kind.is_numeric() for kind in kinds) else pl.String()
    return pl.concat([_cast(part, kind) for part in parts], rechunk=True)


def stacked(tables: Sequence[Table], book: FaultBook) -> Table:
    """Several tables below each other; a column that one lacks has no values there."""
    if len(tables) == 1:
        return tables[0]
    names = list(dict.fromkeys(name for table in tables for name in table.frame.columns))
    columns = []
    for name in names:
        if any(name not in table.frame.columns for table in tables):
            book.add("columns_differ", name)
        parts = [
            table.frame[name] if name in table.frame.columns else pl.Series([None] * len(table.rows), dtype=pl.Null)
            for table in tables
        ]
        columns.append(joined(parts).alias(name))
    rows = pl.concat([table.rows for table in tables])
    mixed = set().union(*(table.mixed for table in tables))
    comma = any(table.decimal_comma for table in tables)
    return Table(pl.DataFrame(columns), rows, mixed=mixed, decimal_comma=comma)


def unique_names(raw: Sequence[str], book: FaultBook) -> list[str]:
    """Names of columns that are printable, at most 256 characters long and different."""
    names: list[str] = []
    taken = {_clean(name) for name in raw}
    counts: Counter[str] = Counter()
    for number, name in enumerate((_clean(name) for name in raw), start=1):
        if not name:
            book.add("unnamed_column", f"column {number}")
        found = name or f"column_{number}"
        base = name or "column"
        while (counts[base] > 0 or not name) and found in taken:
            counts[base] += 1
            found = f"{base}_{counts[base]}"
        counts[base] += 1
        taken.add(found)
        if name and found != name:
            book.add("duplicate_column", f"{name}: the later one is {found}")
        names.append(found)
    return names


def word(value: Any) -> str:
    """A value as a word: as JSON writes it, whole floats without a point."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    if isinstance(value, (list, dict)):
        return dumps(value)
    return "null" if value is None else str(value).lower()


def _cast(part: pl.Series, kind: pl.DataType) -> pl.Series:
    if part.dtype == kind:
        return part
    if kind == pl.String() and part.dtype not in (pl.Null(), pl.String()):
        return pl.Series([None if value is None else word(value) for value in part.to_list()], dtype=pl.String)
    return part.cast(kind)


def _clean(name: str) -> str:
    return "".join(letter for letter in name if letter.isprintable()).strip()[:256]


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _is_plain(value: Any) -> bool:
    return value is not None and not isinstance(value, (list, dict))
