"""Work of which a part costs the same whatever its size: what was seen of one size, taken apart for others.

A probe on a hundred items is mostly what it costs to begin. Told per item that would make a thousand far too dear, and
told per item of one network it would say little of another that is wider.
"""

from dataclasses import dataclass

_ALIKE = 0.5
"""How far both parts are off together, as a correlation: a device is slow at all it does, an assumption at one part."""


@dataclass(frozen=True)
class Usual:
    """Seconds as they are assumed: what is done once, and what grows with the work."""

    once: float
    growing: float


def apart(seconds: float, usual: Usual) -> tuple[float, float]:
    """Seconds of what is done once, and how many times the assumed figure the growing part took.

    Put together they are `seconds` again, so that a repetition is foretold exactly. What is over goes where it most
    likely belongs: each part's regression on their sum, with both off by the same factor as a rule.
    """
    whole = usual.once + usual.growing
    over = seconds - whole
    if over <= 0:  # less of both; no part takes less than nothing
        return usual.once * seconds / whole, seconds / whole
    variance = usual.once**2 + usual.growing**2 + 2 * _ALIKE * usual.once * usual.growing
    pace = 1 + over * (usual.growing + _ALIKE * usual.once) / variance
    return seconds - pace * usual.growing, pace
