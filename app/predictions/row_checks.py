"""Rows of a table: their figures, and what is doubtful about them.

A column that is not there, or a value that is not understood, counts as missing: said, but no error.
"""

from collections.abc import Iterable

import numpy as np

from app.nearest import nearest
from app.predictions.items import Cell, Prepared, RawItem
from core.contract.models import ItemError
from core.modality.cells import MISSING
from core.modality.preparers import Arrays
from core.modality.tabular import TabularPreparer

_NAMED = 10  # columns in one sentence
_CELL = 40


class RowChecks:
    """Prepares rows of one model; `target` is a column that they may have and that nothing is said of."""

    def __init__(self, preparer: TabularPreparer, target: str | None) -> None:
        self.preparer = preparer
        self.numbers = [column.name for column in preparer.config.numbers]
        self.categories = [column.name for column in preparer.config.categories]
        self.columns = list(dict.fromkeys([*self.numbers, *self.categories]))
        self.targets = set() if target is None else {target, *(name.strip() for name in target.split(","))}

    def __call__(self, items: list[RawItem]) -> list[Prepared]:
        """All of them, in their order."""
        memo: dict[tuple[str, ...], Prepared] = {}
        found = [self._columns(item, memo) for item in items]
        good = [place for place, one in enumerate(found) if one.error is None]
        rows = [_row(items[place]) for place in good]
        if rows:
            arrays = self.preparer.many(rows)
            doubts = self._doubts(rows, arrays)
            for at, place in enumerate(good):
                warnings = (*found[place].warnings, *doubts.get(at, ()))
                found[place] = Prepared(tuple(part[at] for part in arrays), warnings=warnings)
        return found

    def _columns(self, item: RawItem, memo: dict[tuple[str, ...], Prepared]) -> Prepared:
        """What its columns' names tell; rows of one table have the same."""
        if item.error is not None:
            return Prepared(error=item.error)
        names = tuple(_row(item))
        if names not in memo:
            memo[names] = self._named(names)
        return memo[names]

    def _named(self, names: tuple[str, ...]) -> Prepared:
        given = set(names)
        missing = [name for name in self.columns if name not in given]
        if len(missing) == len(self.columns):
            said = "The row has none of the model's columns."
            hint = f"They are: {_listed(self.columns)}."
            return Prepared(error=ItemError(code="no_known_column", message=said, hint=hint))
        unknown = [name for name in self.preparer.unknown(dict.fromkeys(names)) if name not in self.targets]
        warnings = []
        if missing:
            warnings.append(f"Columns that are not there, and count as missing values: {_listed(missing)}.")
        if unknown:
            meant = (self._meant(name, missing) for name in unknown[:_NAMED])
            warnings.append(f"Columns that the model does not know: {_listed(meant, len(unknown))}.")
        return Prepared(warnings=tuple(warnings))

    def _meant(self, name: str, missing: list[str]) -> str:
        close = nearest(name, missing)
        return f"{name[:100]} (did you mean {close}?)" if close else name[:100]

    def _doubts(self, rows: list[dict[str, Cell]], arrays: Arrays) -> dict[int, tuple[str]]:
        """For rows with values that stand for none: which these are."""
        found: dict[int, dict[str, str]] = {}
        for names, lost in self._lost(arrays):
            for at, column in np.argwhere(lost):
                name = names[column]
                value = rows[at].get(name)
                if value is not None and str(value).strip().lower() not in MISSING:
                    found.setdefault(int(at), {})[name] = f"{name} = {str(value)[:_CELL]!r}"
        said = "Values that the model does not know, and take for missing: "
        return {at: (f"{said}{_listed(cells.values(), len(cells))}.",) for at, cells in found.items()}

    def _lost(self, arrays: Arrays) -> Iterable[tuple[list[str], np.ndarray]]:
        """Names of columns, and where their values are taken for missing (n, columns)."""
        for name, part in zip(self.preparer.names, arrays, strict=True):
            if name == "numbers":
                yield self.numbers, part[:, len(self.numbers) :] > 0
            else:
                yield self.categories, part == 0


def _row(item: RawItem) -> dict[str, Cell]:
    return item.data if isinstance(item.data, dict) else {}


def _listed(names: Iterable[str], count: int | None = None) -> str:
    shown = list(names)
    more = (len(shown) if count is None else count) - _NAMED
    return ", ".join(shown[:_NAMED]) + (f" and {more} more" if more > 0 else "")
