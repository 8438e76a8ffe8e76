"""Target cells -> classes, sets of classes or numbers; rows that say none of these are left out."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
from pydantic_core import from_json

from core.contract.datasets import Problem, Reading
from core.modality.answers import Answer
from core.modality.faults import FaultBook
from core.modality.table_columns import numbers_of, words_of
from core.modality.table_errors import TableError, wrong_reading
from core.modality.table_frame import Table, word
from core.modality.table_roles import infer_problem, separator_of
from core.settings import Settings

_MISSING = ("", "na", "n/a", "#n/a", "nan", "null", "?")
_LONGEST = 256
_BINARY = {"1": 1.0, "0": 0.0, "true": 1.0, "false": 0.0, "1.0": 1.0, "0.0": 0.0}


@dataclass(frozen=True)
class Target:
    """The answer of each row, None where it has none; `target` is the name for people.

    `open` are rows without an answer that are kept although others have one: a class may be missing, for such rows are
    what a job adapts to.
    """

    problem: Problem
    target: str | None
    answers: list[Answer]
    open: frozenset[int] = frozenset()

    def usable(self) -> list[bool]:
        """Which rows are kept."""
        return [answer is not None or row in self.open for row, answer in enumerate(self.answers)]


@dataclass(frozen=True)
class Notes:
    """Where faults go, and how a row is called."""

    book: FaultBook
    names: Sequence[str]

    def each(self, code: str, rows: pl.Series, values: pl.Series | None = None) -> None:
        """Note a fault of every row for which `rows` is true, with its value."""
        found = rows.arg_true().to_list()
        for index in found[:10]:
            self.book.add(code, self.names[index] + ("" if values is None else f": {str(values[index])[:60]}"))
        if len(found) > 10:
            self.book.count(code, len(found) - 10)


def read_target(table: Table, targets: Sequence[str], reading: Reading, limits: Settings, notes: Notes) -> Target:
    """What each row's target says, as the problem asks for it.

    Raises `TableError`: `wrong_reading`, `too_many_classes`.
    """
    if not targets:
        return Target(reading.problem or "classification", None, [None] * len(table.rows))
    if len(targets) > 1:
        if reading.problem not in (None, "multi_label"):
            raise wrong_reading(
                f"Several target columns are several labels, not {reading.problem}.",
                "Name one column, or leave out `problem`.",
            )
        target = Target("multi_label", ", ".join(targets), _binaries(table, targets, notes))
    else:
        target = _one(table, targets[0], reading, notes)
    _check_classes(target, limits)
    return target


def _one(table: Table, name: str, reading: Reading, notes: Notes) -> Target:
    column = table.frame[name]
    problem = reading.problem or infer_problem(column, decimal_comma=table.decimal_comma)
    if problem == "regression":
        return Target(problem, name, _values(column, table.decimal_comma, notes))
    if problem == "multi_label":
        return Target(problem, name, _sets(column, notes))
    if isinstance(column.dtype, pl.List):
        raise wrong_reading(f"The target {name!r} holds lists.", "Upload it with `problem=multi_label`.")
    answers, missing = _classes(column, notes, guessed=reading.problem is None)
    if all(answer is None for answer in answers):
        notes.each("missing_target", missing)
        return Target(problem, name, answers)
    return Target(problem, name, answers, frozenset(missing.arg_true().to_list()))


def _values(column: pl.Series, decimal_comma: bool, notes: Notes) -> list[Answer]:
    if isinstance(column.dtype, pl.List) or column.dtype in (pl.Date, pl.Datetime):
        raise wrong_reading(f"The target {column.name!r} holds no numbers.", "Name another column.")
    numbers = numbers_of(column, decimal_comma=decimal_comma)
    missing = _is_missing(column)
    notes.each("missing_target", missing)
    wrong = numbers.is_null() & ~missing
    notes.each("target_not_a_number", wrong, column)
    if len(numbers.drop_nulls()) < int((~missing).sum() or 0) / 2:
        raise wrong_reading(
            f"Most values of the target {column.name!r} are no numbers.",
            "Upload it with `problem=classification`, or name another column.",
        )
    return list(numbers.to_list())


def _classes(column: pl.Series, notes: Notes, *, guessed: bool) -> tuple[list[Answer], pl.Series]:
    """The classes, and which rows have none."""
    missing = _is_missing(column)
    words = words_of(column).str.strip_chars()
    strange = (words.str.contains(r"\p{Cc}") | (words.str.len_chars() > _LONGEST)).fill_null(value=False)
    notes.each("unprintable_label", strange & ~missing)
    words = words.set(missing | strange, None)
    numbers = numbers_of(words).unique().drop_nulls()
    if guessed and len(numbers) > 2 and len(numbers) == words.drop_nulls().n_unique():
        notes.book.add("numbers_as_classes", f"{column.name}: {len(numbers)} different numbers")
    return list(words.to_list()), missing


def _sets(column: pl.Series, notes: Notes) -> list[Answer]:
    missing = _is_missing(column)
    notes.each("missing_target", missing)
    if isinstance(column.dtype, pl.List):
        found = [None if value is None else [word(one) for one in value] for value in column.to_list()]
    else:
        separator = separator_of(column) or "|"
        found = [None if value is None else _parts(value, separator) for value in words_of(column).to_list()]
    answers: list[Answer] = []
    for index, (parts, lacks) in enumerate(zip(found, missing, strict=True)):
        names = None if parts is None or lacks else tuple(sorted({part.strip() for part in parts} - {""}))
        if names is not None and any(len(name) > _LONGEST or not name.isprintable() for name in names):
            notes.book.add("unprintable_label", notes.names[index])
            names = None
        answers.append(names)
    return answers


def _parts(cell: str, separator: str) -> list[str]:
    if separator != "[":
        return cell.split(separator)
    try:
        value = from_json(cell)
    except ValueError:
        return [part.strip(" '\"") for part in cell.strip()[1:-1].split(",")]
    return [word(one) for one in value] if isinstance(value, list) else [word(value)]


def _binaries(table: Table, targets: Sequence[str], notes: Notes) -> list[Answer]:
    columns = []
    for name in targets:
        words = words_of(table.frame[name]).str.strip_chars().str.to_lowercase()
        columns.append(words.replace_strict(_BINARY, default=None, return_dtype=pl.Float64))
    missing = pl.Series([True] * len(table.rows), dtype=pl.Boolean)
    wrong = pl.Series([False] * len(table.rows), dtype=pl.Boolean)
    for name, column in zip(targets, columns, strict=True):
        lacks = _is_missing(table.frame[name])
        missing &= lacks
        wrong |= column.is_null()
    notes.each("missing_target", missing)
    notes.each("target_not_binary", wrong & ~missing)
    held = [column.to_list() for column in columns]
    return [
        None if bad else tuple(sorted(name for name, values in zip(targets, held, strict=True) if values[row] == 1))
        for row, bad in enumerate(wrong)
    ]


def _is_missing(column: pl.Series) -> pl.Series:
    if column.dtype != pl.String:
        lacks = column.is_null()
        return lacks | column.is_nan().fill_null(value=True) if column.dtype.is_float() else lacks
    return column.str.strip_chars().str.to_lowercase().is_in(_MISSING).fill_null(value=True)


def _check_classes(target: Target, limits: Settings) -> None:
    if target.problem == "regression":
        return
    classes: set[str] = set()
    for answer in target.answers:
        classes.update(answer if isinstance(answer, tuple) else (answer,) if isinstance(answer, str) else ())
    if len(classes) > limits.max_classes:
        raise TableError(
            f"The target {target.target!r} has {len(classes):,} classes; the limit is {limits.max_classes:,}.",
            code="too_many_classes",
            hint="Name the right column with `target=`; `problem=regression` if it holds quantities. Or raise "
            "GRAFT_MAX_CLASSES.",
            details={"classes": len(classes), "limit": limits.max_classes},
        )
