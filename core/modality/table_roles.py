"""Which column is the target, which the split, which the text: as it was said, else by names and contents."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from core.contract.datasets import Problem, Reading
from core.modality.faults import FaultBook
from core.modality.layout import split_of
from core.modality.table_columns import Understood, as_text, numbers_of, understand, words_of
from core.modality.table_errors import unknown_column, wrong_reading
from core.modality.table_frame import Table

TARGETS = (
    *("label", "labels", "target", "targets", "class", "classes", "y", "category", "categories"),
    *("sentiment", "tag", "tags", "value", "outcome", "output", "price", "score", "rating", "answer"),
)
"""Names of targets in any case of letters, the surest first."""
SPLITS = ("split", "subset", "partition")
TEXTS = (
    *("text", "review", "sentence", "content", "comment", "body", "message"),
    *("document", "tweet", "question", "caption"),
)
QUANTITIES = ("value", "price", "score")
_NO_TARGET = "none"
_MANY = 20
_DOMINATING = 0.75
_SEPARATORS = "|;"


@dataclass(frozen=True)
class Roles:
    """Names of columns. Several `targets` hold 0 and 1 each."""

    targets: tuple[str, ...] = ()
    split: str | None = None
    text: str | None = None
    features: list[Understood] = field(default_factory=list)


def find_roles(table: Table, reading: Reading, book: FaultBook, *, aside: Sequence[str] = ()) -> Roles:
    """Find out what each column is for; those `aside` have a use already.

    Raises `TableError`: `unknown_column`, `wrong_reading`.
    """
    names = [name for name in table.frame.columns if name not in aside]
    for said in ("split", "text"):
        name = getattr(reading, said)
        if name is not None and name not in names:
            raise unknown_column(said, name, names)
    split = reading.split or _find_split(table.frame, names)
    names = [name for name in names if name != split]
    targets = _said_targets(reading, names)
    if targets is None:
        targets = _find_target([name for name in names if name != reading.text])
    features = _features(table, names, targets or (), reading, book)
    if targets is None:
        targets = _last_column(features, reading, book)
        features = [one for one in features if one.column.name not in targets]
    if reading.text in targets:
        raise wrong_reading("The text is the target, too.", "Name two different columns.")
    return Roles(targets, split, _find_text(features, reading), features)


def infer_problem(target: pl.Series, *, decimal_comma: bool = False) -> Problem:
    """Lists are several classes; many different numbers are quantities; anything else is a class."""
    if isinstance(target.dtype, pl.List) or separator_of(target) is not None:
        return "multi_label"
    return "regression" if _is_quantity(target, decimal_comma) else "classification"


def _is_quantity(target: pl.Series, decimal_comma: bool) -> bool:
    if target.dtype in (pl.Boolean, pl.Date, pl.Datetime):
        return False
    present = words_of(target).str.strip_chars().drop_nulls()
    present = present.filter(present != "")
    numbers = numbers_of(present, decimal_comma=decimal_comma).drop_nulls()
    if len(numbers) == 0 or len(numbers) < 0.95 * len(present):
        return False
    distinct = numbers.unique().sort()
    if not bool((distinct == distinct.round()).all()):
        return len(distinct) > 2
    if target.name.lower() in QUANTITIES and len(distinct) > 5:
        return True
    counted = distinct[0] in (0, 1) and distinct[-1] == distinct[0] + len(distinct) - 1
    return len(distinct) > _MANY and not (counted and len(numbers) >= 10 * len(distinct))


def separator_of(target: pl.Series) -> str | None:
    """What separates several labels in one cell (`|`, `;`, or `[` for a list as JSON), if it does so consistently."""
    if target.dtype != pl.String:
        return None
    present = target.str.strip_chars().drop_nulls()
    present = present.filter(present != "")
    if len(present) == 0:
        return None
    if bool((present.str.starts_with("[") & present.str.ends_with("]")).all()):
        return "["
    for separator in _SEPARATORS:
        several = present.filter(present.str.contains(separator, literal=True))
        if len(several) < max(2, len(present) / 50):
            continue
        parts = present.str.split(separator).explode().str.strip_chars()
        parts = parts.filter(parts != "")
        if len(parts) >= 2 * parts.n_unique():
            return separator
    return None


def _said_targets(reading: Reading, names: Sequence[str]) -> tuple[str, ...] | None:
    """The columns that were named; `none` is no column, unless there is one of that name."""
    said = reading.target
    if said is None:
        return None
    if said in names:
        return (said,)
    if said.lower() == _NO_TARGET:
        return ()
    several = tuple(dict.fromkeys(part.strip() for part in said.split(",")))
    for name in several:
        if name not in names:
            raise unknown_column("target", name, names)
    return several


def _find_split(frame: pl.DataFrame, names: Sequence[str]) -> str | None:
    for name in names:
        if name.lower() in SPLITS and frame[name].dtype == pl.String:
            values = frame[name].str.strip_chars().drop_nulls().unique().head(20)
            if len(values) and all(value == "" or split_of(value) for value in values):
                return name
    return None


def _find_target(names: Sequence[str]) -> tuple[str, ...] | None:
    lower = {name.lower(): name for name in reversed(names)}
    return next(((lower[name],) for name in TARGETS if name in lower), None)


def _features(
    table: Table, names: Sequence[str], targets: Sequence[str], reading: Reading, book: FaultBook
) -> list[Understood]:
    features = []
    for name in names:
        if name in targets:
            continue
        raw = table.frame[name]
        if isinstance(raw.dtype, pl.List):
            book.add("nested_column", name)
        elif name == reading.text:
            features.append(as_text(raw))
        else:
            comma, mixed = table.decimal_comma, name in table.mixed
            features.append(understand(raw, book, decimal_comma=comma, mixed=mixed))
    return features


def _last_column(features: Sequence[Understood], reading: Reading, book: FaultBook) -> tuple[str, ...]:
    """The last column, if it can be a target and something is left to learn from."""
    usable = [one for one in features if one.kind not in ("identifier", "constant")]
    if len(usable) < 2 or features[-1] is not usable[-1] or usable[-1].kind not in ("number", "category", "boolean"):
        return ()
    name = usable[-1].column.name
    if name == reading.text:
        return ()
    book.add("target_guessed", name)
    return (name,)


def _find_text(features: Sequence[Understood], reading: Reading) -> str | None:
    """The one free text that all the rest is nothing beside; None where the table is one of figures."""
    if reading.text is not None:
        return reading.text
    if reading.modality == "tabular":
        return None
    learnt = [one for one in features if one.kind not in ("identifier", "constant")]
    texts = [one for one in features if _may_be_text(one, alone=len(learnt) <= 1 or reading.modality == "text")]
    if not texts:
        if reading.modality == "text":
            raise wrong_reading("No column holds texts.", "Name the column with `text=`.")
        return None
    sizes = {one.column.name: _characters(one) for one in {id(one): one for one in [*learnt, *texts]}.values()}
    longest = max(texts, key=lambda one: sizes[one.column.name])
    others = [one for one in learnt if one.kind != "text" and one is not longest]
    dominates = sizes[longest.column.name] >= _DOMINATING * sum(sizes.values())
    return longest.column.name if dominates or not others or reading.modality == "text" else None


def _may_be_text(one: Understood, *, alone: bool) -> bool:
    if one.kind == "text":
        return True
    if one.values.dtype != pl.String or one.kind in ("date", "constant"):
        return False
    if re.sub(r"[^a-z]", "", one.column.name.lower()) in TEXTS and one.column.distinct > 2:
        return alone or float(one.values.drop_nulls().str.contains(r"\S\s+\S").mean() or 0) > 0.5  # type: ignore[arg-type]
    return False


def _characters(one: Understood) -> int:
    values = one.values
    return int(values.str.len_chars().sum() or 0) if values.dtype == pl.String else 8 * len(values)
