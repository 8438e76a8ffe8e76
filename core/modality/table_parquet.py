"""Parquet tables: sizes first, then columns as words, numbers, booleans and dates."""

from pathlib import Path

import polars as pl

from core.modality.faults import FaultBook
from core.modality.parquet_footer import read_sizes
from core.modality.table_errors import check_columns, check_rows, empty, too_large, unreadable
from core.modality.table_frame import Table, unique_names
from core.settings import Settings

_CELL = 16
_KEPT = (pl.String, pl.Boolean, pl.Date, pl.Datetime, pl.Null)


def read_parquet(path: Path, limits: Settings, book: FaultBook) -> Table:
    """Read it; columns of objects or bytes are left out.

    Raises `TableError`: `unreadable_table`, `empty_table`, `too_many_rows`, `too_many_columns`, `table_too_large`.
    """
    sizes = read_sizes(path)
    check_rows(sizes.rows, limits)
    check_columns(sizes.columns, limits)
    if max(sizes.unpacked, max(sizes.values, sizes.rows * sizes.columns) * _CELL) > limits.max_table_bytes:
        raise too_large("The table", limits)
    if sizes.rows == 0:
        raise empty("it has no row")
    try:
        frame = pl.read_parquet(path, glob=False, hive_partitioning=False, use_statistics=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        raise unreadable("the Parquet file is damaged, or written in a way that is not read") from error
    check_rows(frame.height, limits)
    frame = _named(frame, book)
    kept = {}
    for column in frame.iter_columns():
        plain = _plain(column, limits)
        if plain is None:
            book.add("nested_column", column.name)
        else:
            kept[column.name] = plain
    return Table(pl.DataFrame(kept), pl.int_range(1, frame.height + 1, eager=True))


def _named(frame: pl.DataFrame, book: FaultBook) -> pl.DataFrame:
    frame.columns = unique_names(frame.columns, book)
    return frame


def _plain(column: pl.Series, limits: Settings) -> pl.Series | None:
    """The column in one of the types that tables know; None where there is none."""
    kind = column.dtype
    if kind in (pl.Categorical, pl.Enum, pl.Time):
        column = column.cast(pl.String)
    if column.dtype == pl.String:
        _check_words(column, limits)
    if kind.is_numeric():
        fits = kind.is_integer() and kind not in (pl.UInt64, pl.Int128, pl.UInt128)
        return column.cast(pl.Int64 if fits else pl.Float64, strict=False)
    if kind == pl.Datetime and getattr(kind, "time_zone", None):
        return column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    if kind == pl.Duration:
        return column.dt.total_milliseconds().cast(pl.Float64) / 1000
    return column if column.dtype in _KEPT else _strange(column)


def _strange(column: pl.Series) -> pl.Series | None:
    kind = column.dtype
    if kind == pl.Binary:
        try:
            return column.cast(pl.String)
        except pl.exceptions.PolarsError:
            return None
    if isinstance(kind, pl.List) and (kind.inner.is_numeric() or kind.inner in (pl.String, pl.Boolean)):
        return column.cast(pl.List(pl.String))
    return None


def _check_words(column: pl.Series, limits: Settings) -> None:
    """Words are stored once but may stand in many rows."""
    if (column.str.len_bytes().cast(pl.Int64).sum() or 0) > limits.max_table_bytes:
        raise too_large(f"The column {column.name!r}", limits)
