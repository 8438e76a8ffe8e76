"""A table's preparation, made from its training rows in one pass; memory is bounded whatever their number."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from core.contract.datasets import Column
from core.contract.prepare import CategoryColumn, NumberColumn, TabularPrepare
from core.modality import cells

Row = Mapping[str, Any]
Part = Literal["value", "year_sin", "year_cos", "week_sin", "week_cos", "day_sin", "day_cos"]
Floats = NDArray[np.float64]

_CHUNK = 4096  # rows read at a time
_CELLS = 4_000_000  # of the sample that quantiles are taken from
_QUARTILES = 1.349  # standard deviations between the quartiles of a normal distribution
_LEAST = 1e-12  # of the centre; less is rounding
_HUGE = 1e150  # more has no square
_TAIL = 0.01  # share of values at each end that is drawn in before moments are taken
_VALUES = 256  # categories of a column that get a number of their own
_ALL_VALUES = 2048  # of all columns together, for each is an input of the linear model
_COUNTED = 20_000  # categories counted at a time; those seen least are forgotten beyond
_ENOUGH = 100  # rows; from here on a category seen only once is taken for an unknown one
_YEAR, _WEEK = 180.0, 14.0  # days that dates must span before their place in the year or week says anything


def fit(rows: Iterable[Row], columns: Sequence[Column], parent: TabularPrepare | None = None) -> TabularPrepare:
    """Means, scales and categories of training rows, which are read once.

    Numbers are centred at their median and scaled by their quartiles (`moments`). Categories are numbered by frequency.
    Columns that `parent` knows keep what it says of them, and those that only it has stay: they
    are missing everywhere. New columns come after them.
    """
    parent = parent or TabularPrepare()
    old = {(column.name, column.kind == "date") for column in parent.numbers}
    numbers = [
        (column.name, column.kind)
        for column in columns
        if column.kind in {"number", "date", "boolean"} and (column.name, column.kind == "date") not in old
    ]
    old_names = {column.name for column in parent.categories}
    categories = [column.name for column in columns if column.kind == "category" and column.name not in old_names]
    seen = _Seen(numbers, categories)
    for chunk in _chunks(rows):
        seen.add(chunk)
    room = _ALL_VALUES - sum(len(column.values) for column in parent.categories)
    found = TabularPrepare(
        numbers=[*parent.numbers, *seen.numbers()],
        categories=[*parent.categories, *seen.categories(room)],
        rows=seen.rows,
    )
    used = {column.name for column in found.numbers} | {column.name for column in found.categories}
    known = dict.fromkeys([*parent.ignored, *(column.name for column in columns)])
    return found.model_copy(update={"ignored": [name for name in known if name not in used]})


def _chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    source = iter(rows)
    while chunk := list(islice(source, _CHUNK)):
        yield chunk


class _Seen:
    """What was seen of the rows so far."""

    def __init__(self, numbers: Sequence[tuple[str, cells.Kind]], categories: Sequence[str]) -> None:
        self.rows = 0
        self._numbers = numbers
        self._counts: dict[str, Counter[str]] = {name: Counter() for name in categories}
        self._size = max(1000, _CELLS // max(1, len(numbers)))
        self._rng = np.random.default_rng(0)
        self._keys: Floats = np.empty(0)
        self._sample: Floats = np.empty((0, len(numbers)))
        self._timed = np.zeros(len(numbers), dtype=bool)

    def add(self, chunk: Sequence[Row]) -> None:
        """Take some rows."""
        self.rows += len(chunk)
        if self._numbers:
            self._add_numbers(chunk)
        for name, counts in self._counts.items():
            counts.update(cells.text(row.get(name)) for row in chunk)
            if len(counts) > 2 * _COUNTED:
                self._counts[name] = Counter(dict(counts.most_common(_COUNTED)))

    def _add_numbers(self, chunk: Sequence[Row]) -> None:
        """Keep an even sample of rows: those with the smallest random keys."""
        raw = np.column_stack([cells.column([row.get(name) for row in chunk], kind) for name, kind in self._numbers])
        self._timed |= (np.nan_to_num(raw) % 1 != 0).any(axis=0)
        keys = np.concatenate([self._keys, self._rng.random(len(raw))])
        sample = np.concatenate([self._sample, raw])
        if len(keys) > self._size:
            kept = np.sort(np.argpartition(keys, self._size)[: self._size])
            keys, sample = keys[kept], sample[kept]
        self._keys, self._sample = keys, sample

    def numbers(self) -> list[NumberColumn]:
        """The numbers, and of dates their place in the year, week and day, as far as the data show any."""
        found = []
        for place, (name, kind) in enumerate(self._numbers):
            values = self._sample[:, place]
            values = values[~np.isnan(values)]
            mean, scale = moments(values)
            found.append(NumberColumn(name=name, kind=kind, mean=mean, scale=scale))
            if kind == "date":
                found += [
                    NumberColumn(name=name, kind=kind, part=part, mean=0.0, scale=0.5**0.5)
                    for part in _parts(values, timed=bool(self._timed[place]))
                ]
        return found

    def categories(self, room: int) -> list[CategoryColumn]:
        """The categories, most frequent first, at most `room` in all."""
        least = 2 if self.rows >= _ENOUGH else 1
        ranked = {}
        for name, counts in self._counts.items():
            often = [(value, count) for value, count in counts.items() if value and count >= least]
            ranked[name] = [value for value, _ in sorted(often, key=lambda pair: (-pair[1], pair[0]))]
        each = _share([len(values) for values in ranked.values()], room)
        return [CategoryColumn(name=name, values=values[:each]) for name, values in ranked.items() if values]


def moments(values: Floats) -> tuple[float, float]:
    """Median and spread of values (n,): up to a quarter of them may be wild, and nothing moves much.

    The spread is the distance of the quartiles, as a normal distribution's standard deviation. Where that is none, for
    most values are the same, mean and standard deviation of values drawn in to their 1 % and 99 % quantiles, and then
    of all values. Of a constant it is 1; of no values, 0 and 1.
    """
    if len(values) == 0:
        return 0.0, 1.0
    tame = np.clip(values, -_HUGE, _HUGE)
    lowest, low, middle, high, highest = np.quantile(tame, [_TAIL, 0.25, 0.5, 0.75, 1 - _TAIL])
    inner = np.clip(tame, lowest, highest)
    candidates = [(middle, (high - low) / _QUARTILES), (inner.mean(), inner.std()), (tame.mean(), tame.std())]
    for centre, spread in candidates:
        if spread > _LEAST * abs(centre):
            return float(centre), float(spread)
    return float(middle), 1.0


def _parts(days: Floats, *, timed: bool) -> list[Part]:
    span = float(np.ptp(days)) if len(days) else 0.0
    found: list[Part] = []
    if span >= _YEAR:
        found += ["year_sin", "year_cos"]
    if span >= _WEEK:
        found += ["week_sin", "week_cos"]
    return [*found, "day_sin", "day_cos"] if timed else found


def _share(sizes: Sequence[int], room: int) -> int:
    """The most values that each column may have so that all together keep to the room; at least 8."""
    each = _VALUES
    while each > 8 and sum(min(size, each) for size in sizes) > room:
        each -= 1
    return each
