"""Intervals that nine of ten jobs fall into: from the spread of what was seen, and from how wrong earlier ones were."""

import math
from collections.abc import Sequence

from core.estimating.rates import KEPT

Z = 1.645
"""Of a normal distribution: nine tenths lie within so many standard deviations."""
_SHARE = 0.9
_FEW = 9
"""Residuals below which their largest is no quantile yet."""


def half_width(spread: float, residuals: Sequence[float], *, least: float) -> float:
    """Half the interval's width on a logarithmic scale.

    `spread` is a relative standard deviation, `residuals` are logarithms of actual to predicted. With nine or more of
    them their quantile holds (split conformal prediction: Vovk, Gammerman, Shafer, 2005), whatever their distribution;
    with fewer the wider of the two.
    """
    sizes = sorted(abs(value) for value in residuals[-KEPT:])
    own = Z * math.log1p(spread)
    if not sizes:
        return max(own, least)
    rank = min(len(sizes), math.ceil((len(sizes) + 1) * _SHARE))
    seen = sizes[rank - 1]
    return max(seen, least) if len(sizes) >= _FEW else max(seen, own, least)


def bias(residuals: Sequence[float]) -> float:
    """The middle of the residuals, drawn to zero while they are few: what predictions are off by as a rule."""
    if not residuals:
        return 0.0
    newest = sorted(residuals[-KEPT:])
    middle = newest[len(newest) // 2] if len(newest) % 2 else sum(newest[len(newest) // 2 - 1 :][:2]) / 2
    return middle * len(newest) / (len(newest) + 5)


def around(expected: float, width: float) -> tuple[float, float]:
    """Lower and upper end."""
    return expected * math.exp(-width), expected * math.exp(width)
