"""What a column holds: numbers, categories, dates, booleans, texts, identifiers, or always the same."""

import re
from dataclasses import dataclass
from datetime import time

import polars as pl

from core.contract.datasets import Column, ColumnKind
from core.modality.cells import MISSING
from core.modality.faults import FaultBook
from core.modality.table_frame import word

_MISSING_NUMBER = (*MISSING, "none", "-", "--", "missing", "unknown", "inf", "-inf", "+inf", "infinity", "-infinity")
_NEARLY = 0.95
_FEW_ROWS = 20
_DATE = r"^\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([T ].*)?$"
_DATES = (
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%d.%m.%Y",
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%d-%m-%Y",
    "%m-%d-%Y",
)
_TIMES = ("", " %H:%M:%S%.f", "T%H:%M:%S%.f", " %H:%M", "T%H:%M", "T%H:%M:%S%.fZ")
_ID_NAME = re.compile(r"(^|[_\s.-])(id|ids|uuid|guid|key|index|idx|rowid|row_number)$|^unnamed|[a-z]Id$|[a-z]ID$")


@dataclass(frozen=True)
class Understood:
    """A column and its values: Int64 or Float64, Boolean, or words (dates in ISO form); null is missing."""

    column: Column
    values: pl.Series

    @property
    def kind(self) -> ColumnKind:
        """What it holds."""
        return self.column.kind


def understand(raw: pl.Series, book: FaultBook, *, decimal_comma: bool = False, mixed: bool = False) -> Understood:
    """Find out what a column holds; notes what is odd about it."""
    values, kind = _typed(raw, book, decimal_comma)
    if mixed:
        book.add("mixed_types", raw.name)
    values = values.alias(raw.name)
    present = values.drop_nulls()
    distinct = present.n_unique()
    if distinct == 0:
        book.add("empty_column", raw.name)
    if distinct == 0 or (distinct == 1 and len(present) == len(values)):
        kind = "constant"
    elif kind in ("number", "category") and _is_identifier(raw.name, present, distinct):
        kind = "identifier"
    column = Column(
        name=raw.name,
        kind=kind,
        missing=1 - len(present) / max(len(values), 1),
        distinct=distinct,
        examples=[word(value)[:80] for value in present.unique(maintain_order=True).head(5).to_list()],
    )
    return Understood(column, values)


def as_text(raw: pl.Series) -> Understood:
    """The column as texts, just as they are; one without letters is missing."""
    words = words_of(raw)
    words = _null_where(words, words.str.strip_chars() == "")
    present = words.drop_nulls()
    column = Column(
        name=raw.name,
        kind="text",
        missing=1 - len(present) / max(len(words), 1),
        distinct=present.n_unique(),
        examples=[text[:80] for text in present.head(5).to_list()],
    )
    return Understood(column, words.alias(raw.name))


def words_of(raw: pl.Series) -> pl.Series:
    """Any column as words."""
    if raw.dtype == pl.String:
        return raw
    if raw.dtype in (pl.Date, pl.Datetime):
        return _iso(raw)
    return pl.Series(raw.name, [None if value is None else word(value) for value in raw.to_list()], dtype=pl.String)


def numbers_of(raw: pl.Series, *, decimal_comma: bool = False) -> pl.Series:
    """The column as finite Float64; null where there is none."""
    if raw.dtype.is_numeric() or raw.dtype == pl.Boolean:
        numbers = raw.cast(pl.Float64)
    else:
        words = words_of(raw).str.strip_chars()
        if decimal_comma and bool(words.str.contains(r"^[+-]?\d+,\d+$").any()):
            words = words.str.replace(",", ".", literal=True)
        numbers = words.cast(pl.Float64, strict=False)
    return _null_where(numbers, ~numbers.is_finite())


def _typed(raw: pl.Series, book: FaultBook, decimal_comma: bool) -> tuple[pl.Series, ColumnKind]:
    kind = raw.dtype
    if kind.is_integer():
        return raw, "number"
    if kind.is_numeric():
        finite = _null_where(raw, ~raw.is_finite())
        if bool(raw.is_infinite().any()):
            book.add("not_finite", raw.name)
        return _whole(finite), "number"
    if kind == pl.Boolean:
        return raw, "boolean"
    if kind in (pl.Date, pl.Datetime):
        return _iso(raw), "date"
    return _from_words(words_of(raw), book, decimal_comma)


def _from_words(raw: pl.Series, book: FaultBook, decimal_comma: bool) -> tuple[pl.Series, ColumnKind]:
    words = raw.str.strip_chars()
    lower = words.str.to_lowercase()
    words = _null_where(words, lower.is_in(MISSING))
    present = words.drop_nulls()
    if len(present) == 0:
        return words, "category"
    if (numbers := _numbers(words, present, book, decimal_comma)) is not None:
        return numbers, "number"
    if (dates := _dates(words, present, book)) is not None:
        return dates, "date"
    if set(present.str.to_lowercase().unique().head(3)) <= {"true", "false"}:
        return words.str.to_lowercase() == "true", "boolean"
    if _is_text(present):
        return raw, "text"
    return words, "category"


def _numbers(words: pl.Series, present: pl.Series, book: FaultBook, decimal_comma: bool) -> pl.Series | None:
    """The words as numbers, if nearly all are; codes with leading zeros or more than 15 digits are none."""
    if not bool(present.head(100).str.contains(r"\d|(?i)inf").any()):
        return None
    if bool(present.str.contains(r"^[+-]?0\d|^[+-]?\d{16,}$").any()):
        return None
    numbers = numbers_of(words, decimal_comma=decimal_comma)
    strange = words.filter(numbers.is_null() & words.is_not_null())
    known = strange.str.to_lowercase().is_in(_MISSING_NUMBER)
    if bool(strange.str.contains(r"(?i)^[+-]?inf(inity)?$").any()):
        book.add("not_finite", words.name)
    odd = strange.filter(~known)
    good = len(present) - len(strange)
    if good == 0 or len(odd) > (1 - _NEARLY) * len(present):
        return None
    if len(odd):
        book.add("mixed_types", f"{words.name}: {', '.join(odd.unique(maintain_order=True).head(3).to_list())}"[:200])
    return _whole(numbers)


def _whole(numbers: pl.Series) -> pl.Series:
    """As Int64 where every number is a whole one."""
    present = numbers.drop_nulls()
    if len(present) and bool((present == present.round()).all()) and float(present.abs().max() or 0) < 2**53:  # type: ignore[arg-type]
        return numbers.cast(pl.Int64)
    return numbers


def _dates(words: pl.Series, present: pl.Series, book: FaultBook) -> pl.Series | None:
    if not bool(present.str.contains(_DATE).all()):
        return None
    forms = [(day, hour) for day in _DATES for hour in _TIMES if _parses(present.head(100), day + hour)]
    fitting = [(day, hour) for day, hour in forms if _parses(present, day + hour)]
    if not fitting:
        return None
    if len({day for day, _ in fitting}) > 1:
        book.add("ambiguous_dates", f"{words.name}: {present[0]}")
    day, hour = min(fitting, key=lambda found: "%m" not in found[0][:2])
    return _iso(words.str.to_datetime(day + hour, strict=False, time_unit="us"))


def _parses(present: pl.Series, form: str) -> bool:
    return present.str.to_datetime(form, strict=False, time_unit="us").null_count() == 0


def _iso(dates: pl.Series) -> pl.Series:
    """`2024-12-31`, with the time of day where any has one."""
    if dates.dtype == pl.Date or bool((dates.drop_nulls().dt.time() == time(0, 0)).all()):
        return dates.dt.strftime("%Y-%m-%d")
    return dates.dt.strftime("%Y-%m-%dT%H:%M:%S")


def _is_text(present: pl.Series) -> bool:
    """Whether these are sentences: several words each, hardly ever the same twice."""
    sample = present.head(20_000)
    if sample.n_unique() < len(sample) / 2:
        return False
    return _mean(sample.str.count_matches(r"\s+")) >= 3 or _mean(sample.str.len_chars()) >= 60


def _is_identifier(name: str, present: pl.Series, distinct: int) -> bool:
    if present.dtype == pl.Float64:
        return False
    named = bool(_ID_NAME.search(name if "I" in name else name.lower()))
    if present.dtype == pl.Int64:
        counted = len(present) >= _FEW_ROWS and bool((present.diff().drop_nulls() == 1).all())
        return distinct == len(present) and (named or counted)
    return (named and distinct == len(present)) or (len(present) >= _FEW_ROWS and distinct >= 0.98 * len(present))


def _mean(values: pl.Series) -> float:
    return float(values.mean() or 0)  # type: ignore[arg-type]


def _null_where(values: pl.Series, mask: pl.Series) -> pl.Series:
    null = pl.Series([None], dtype=values.dtype)
    return values.zip_with(~mask.fill_null(value=True), null.new_from_index(0, len(values)))
