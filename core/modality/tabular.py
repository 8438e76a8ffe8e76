"""Rows of tables: decoding, and their figures as a preparation says.

A number becomes `z / sqrt(1 + (z / limit)^2)` of its standardised figure z: as good as z near the middle, and never
beyond the limit, however wild it is (Holzmüller, Grinsztajn, Steinwart: Better by Default, NeurIPS 2024).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.contract.prepare import CategoryColumn, NumberColumn, TabularPrepare
from core.modality import cells
from core.modality.errors import UnreadableItemError
from core.modality.tabular_fit import fit

__all__ = ["Row", "TabularPreparer", "decode", "fit"]

Row = Mapping[str, Any]
Arrays = tuple[NDArray[Any], ...]
_PERIODS = {"year": 365.2425, "week": 7.0, "day": 1.0}  # days
_WILD = 1e9  # scales; more is no figure to square


def decode(data: bytes) -> Row:
    """A stored row; `UnreadableItemError` if it is not a JSON object."""
    try:
        row = json.loads(data)
    except ValueError as error:
        raise UnreadableItemError("The row is not JSON.", code="not_json", hint="Send a JSON object.") from error
    if not isinstance(row, dict):
        raise UnreadableItemError("The row is not an object.", code="not_json", hint="Send a JSON object.")
    return row


class TabularPreparer:
    """`numbers` float32 (2 m,) where there are m > 0 numbers, `categories` int64 (k,) where there are k > 0.

    Never raises on a value: what cannot be understood is missing (numbers) or unknown (categories).
    """

    def __init__(self, config: TabularPrepare) -> None:
        self.config = config
        named = (("numbers", config.numbers), ("categories", config.categories))
        self.names = tuple(name for name, columns in named if columns)
        self._codes = [_Codes(column) for column in config.categories]
        self._known = {column.name for column in config.numbers} | {column.name for column in config.categories}
        self._known.update(config.ignored)
        # Several figures may come from one date: it is read once.
        self._read = list(dict.fromkeys((column.name, column.kind) for column in config.numbers))
        places = {key: place for place, key in enumerate(self._read)}
        self._place = [places[column.name, column.kind] for column in config.numbers]
        self._scaling = _Scaling(config.numbers)

    def __call__(self, item: Any) -> Arrays:
        """The figures of one row."""
        found: list[NDArray[Any]] = []
        if self.config.numbers:
            raw = np.array([cells.PARSE[kind](item.get(name)) for name, kind in self._read], dtype=np.float64)
            found.append(self._scaling(raw[None, self._place])[0])
        if self.config.categories:
            found.append(np.array([codes(item.get(codes.name)) for codes in self._codes], dtype=np.int64))
        return tuple(found)

    def collate(self, items: Sequence[Arrays]) -> Arrays:
        """(n, …)."""
        return tuple(np.stack(parts) for parts in zip(*items, strict=True))

    def many(self, rows: Sequence[Row]) -> Arrays:
        """The figures of rows, (n, …): the same as one by one, and many times quicker."""
        found: list[NDArray[Any]] = []
        if self.config.numbers:
            raw = np.column_stack([cells.column([row.get(name) for row in rows], kind) for name, kind in self._read])
            found.append(self._scaling(raw[:, self._place]))
        if self.config.categories:
            columns = [[codes(row.get(codes.name)) for row in rows] for codes in self._codes]
            found.append(np.array(columns, dtype=np.int64).reshape(len(self._codes), len(rows)).T.copy())
        return tuple(found)

    def unknown(self, row: Row) -> list[str]:
        """Names in the row that the table did not have: most likely misspelt."""
        return [str(name) for name in row if name not in self._known]


class _Scaling:
    """Raw figures (n, m), nan where missing -> float32 (n, 2 m): standardised ones, then what was missing."""

    def __init__(self, columns: Sequence[NumberColumn]) -> None:
        self._mean = np.array([column.mean for column in columns])
        self._scale = np.array([column.scale for column in columns])
        self._limit = np.array([column.limit for column in columns])
        self._cycles = [(place, column.part) for place, column in enumerate(columns) if column.part != "value"]

    def __call__(self, raw: NDArray[np.float64]) -> NDArray[np.float32]:
        missing = np.isnan(raw)
        for place, part in self._cycles:
            period, _, wave = part.partition("_")
            angle = raw[:, place] * (2 * np.pi / _PERIODS[period])
            raw[:, place] = np.sin(angle) if wave == "sin" else np.cos(angle)
        with np.errstate(over="ignore"):
            z = np.clip((raw - self._mean) / self._scale, -_WILD, _WILD)
        figures = np.where(missing, 0.0, z / np.sqrt(1 + (z / self._limit) ** 2))
        return np.concatenate([figures, missing], axis=1).astype(np.float32)


class _Codes:
    """Numbers of one column's categories."""

    def __init__(self, column: CategoryColumn) -> None:
        self.name = column.name
        self._number = {value: number for number, value in enumerate(column.values, start=1)}

    def __call__(self, value: object) -> int:
        if isinstance(value, str):
            number = self._number.get(value)
            if number is not None:
                return number
        name = cells.text(value)
        for spelling in [name, *cells.alternatives(name)] if name else []:
            if spelling in self._number:
                return self._number[spelling]
        return 0
