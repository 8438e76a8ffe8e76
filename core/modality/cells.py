"""Cells of a table as figures: whatever a user sends for a column, without an error; nan and '' are missing."""

import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from numbers import Real
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["number", "date", "boolean"]
MISSING = ("", "na", "n/a", "#n/a", "nan", "null", "?")
"""What stands for no value, in any case of letters; in a text only the empty one does."""

_YES = {"true", "yes", "y", "t", "on"}
_NO = {"false", "no", "n", "f", "off"}
_GROUPED = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_YEAR_FIRST = re.compile(r"(\d{4})[/.](\d{1,2})[/.](\d{1,2})")
_YEAR_LAST = re.compile(r"(\d{1,2})([/.])(\d{1,2})\2(\d{4})")
_EPOCH = datetime(1970, 1, 1)
_LONGEST = 64  # characters of a number or date; more is no such thing


def number(value: object) -> float:
    """A finite number, of a text too (`1.5`, `1,234.5`, `1,5`); a boolean is 0 or 1; nan for everything else."""
    try:
        found = float(_numeric(value)) if isinstance(value, str) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return found if math.isfinite(found) and (isinstance(value, str | Real)) else math.nan


def _numeric(text: str) -> str:
    found = text.strip()[:_LONGEST]
    if _GROUPED.fullmatch(found):
        return found.replace(",", "")
    return found.replace(",", ".") if _DECIMAL_COMMA.fullmatch(found) else found


def boolean(value: object) -> float:
    """0 or 1, of words (`yes`, `false`, …) too; nan for everything else."""
    if isinstance(value, str):
        word = value.strip().casefold()
        if word in _YES or word in _NO:
            return float(word in _YES)
    found = number(value)
    return found if found in (0, 1) else math.nan


def days(value: object) -> float:
    """A date as days since 1970, with the time of day (UTC) as a fraction; nan for everything else.

    Texts: ISO 8601, `2024/12/31`, `31.12.2024`, and `31/12/2024` or `12/31/2024` where the days tell which it is.
    """
    if isinstance(value, str):
        value = _moment(value.strip()[:_LONGEST])
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime):
        return math.nan
    try:
        plain = value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)
    except OverflowError:
        return math.nan
    return (plain - _EPOCH).total_seconds() / 86400


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        pass
    parts = _dated(text)
    try:
        return None if parts is None else datetime(*parts)
    except ValueError:
        return None


def _dated(text: str) -> tuple[int, int, int] | None:
    """Year, month and day of the forms that are not ISO's."""
    if found := _YEAR_FIRST.fullmatch(text):
        year, month, day = map(int, found.groups())
        return year, month, day
    found = _YEAR_LAST.fullmatch(text)
    if found is None:
        return None
    first, second, year = int(found[1]), int(found[3]), int(found[4])
    if found[2] == "." or first > 12 or first == second:
        return year, second, first
    return (year, first, second) if second > 12 else None


def text(value: object) -> str:
    """A category's name; the number 1 is `1` in whatever type it comes, a boolean `true` or `false`."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if abs(value) < 10**_LONGEST else ""
    found = number(value)
    if math.isnan(found):
        return ""
    return str(int(found)) if found.is_integer() and abs(found) < 1e15 else repr(found)


def alternatives(name: str) -> list[str]:
    """Other spellings of a category's name, to be tried where the name itself is unknown: `1.0` for `1`, `True`."""
    found = number(name)
    spelt = [] if math.isnan(found) else [text(found), repr(found)]
    return [*spelt, name.lower(), name.capitalize()]


PARSE: dict[Kind, Callable[[object], float]] = {
    "number": number,
    "boolean": boolean,
    "date": days,
}
_PLAIN: dict[Kind, set[type]] = {
    "number": {float, int, type(None)},
    "boolean": {bool, type(None)},
    "date": {type(None)},
}


def column(values: Sequence[object], kind: Kind) -> NDArray[np.float64]:
    """Cells of one column as figures (n,), nan where there is none."""
    if set(map(type, values)) <= _PLAIN[kind]:
        try:
            found = np.array(values, dtype=np.float64)
        except OverflowError:  # an integer beyond any float
            pass
        else:
            found[~np.isfinite(found)] = np.nan
            return found
    parse = PARSE[kind]
    return np.array([parse(value) for value in values], dtype=np.float64)
