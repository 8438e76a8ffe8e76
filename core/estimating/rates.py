"""What earlier runs took, per item or per call, and how to find the figure that fits best."""

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

Source = Literal["measured", "history"]
KEPT = 24
"""Figures that a profile keeps: the newest ones."""


@dataclass(frozen=True)
class Observation:
    """One figure of one run. What `kind` and `variant` mean stands in `core.estimating.observing`."""

    kind: str
    value: float
    variant: str = ""
    network: str = ""
    """Empty: the same for all networks."""
    data: str = ""
    """Empty: the same for all data."""
    facts: dict[str, Any] | None = None


@dataclass(frozen=True)
class Profile:
    """The newest figures of one kind on one device."""

    device: str
    network: str
    kind: str
    variant: str
    data: str
    values: tuple[float, ...]
    source: Source
    updated: datetime
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rate:
    """A figure to reckon with."""

    value: float
    spread: float
    """Relative standard deviation of one more figure."""
    basis: Literal["measured", "history", "assumed"]
    exact: bool = False
    """Whether it was seen on this very data."""


_LEAST_SPREAD = {"exact": 0.06, "other": 0.3}


class Rates:
    """Profiles of one device."""

    def __init__(self, profiles: Iterable[Profile] = ()) -> None:
        self._all = list(profiles)

    def find(self, kind: str, *, network: str = "", data: str = "", variant: str = "") -> Rate | None:
        """The figure for this data; else what other data came to, in the middle; None without any."""
        rows = [row for row in self._all if (row.kind, row.network, row.variant) == (kind, network, variant)]
        own = [row for row in rows if row.data == data]
        if own:
            return _rate(own[0].values, own[0].source, exact=True)
        newest = sorted(rows, key=lambda row: row.updated)[-8:]
        middles = tuple(statistics.median(row.values) for row in newest if row.values)
        return _rate(middles, "history", exact=False) if middles else None

    def usual(self, kind: str, *, modality: str, variant: str = "") -> Rate | None:
        """What it came to with any network, on data of that modality if there were such."""
        found = self.find(kind, data=modality, variant=variant)
        return None if found is None else replace(found, spread=max(found.spread, _LEAST_SPREAD["other"]), exact=False)

    def variants(self, kind: str, *, network: str, data: str = "") -> dict[str, Rate]:
        """What there is of a kind, by variant."""
        names = {row.variant for row in self._all if (row.kind, row.network) == (kind, network)}
        found = {name: self.find(kind, network=network, data=data, variant=name) for name in sorted(names)}
        return {name: rate for name, rate in found.items() if rate is not None}

    def values(self, kind: str, *, network: str = "", data: str = "", variant: str = "") -> tuple[float, ...]:
        """The figures themselves."""
        key = (kind, network, data, variant)
        return next((row.values for row in self._all if (row.kind, row.network, row.data, row.variant) == key), ())

    def facts(self, kind: str, *, network: str = "", data: str = "", variant: str = "") -> dict[str, Any] | None:
        """What a profile says besides figures."""
        key = (kind, network, data, variant)
        return next((row.facts for row in self._all if (row.kind, row.network, row.data, row.variant) == key), None)


def _rate(values: tuple[float, ...], source: Source, *, exact: bool) -> Rate | None:
    if not values:
        return None
    middle = statistics.median(values[-7:])
    least = _LEAST_SPREAD["exact" if exact else "other"]
    if len(values) < 2 or middle <= 0:
        return Rate(middle, 2 * least, source, exact)
    deviation = 1.48 * statistics.median(abs(value - middle) for value in values[-7:]) / middle
    return Rate(middle, math.hypot(least, deviation), source, exact)
