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

    Put together they are `seconds` again, so that a repetition is foretold exactly. What is over, or missing, goes
    where it most likely belongs: each part's regression on their sum, where both are off by as much as a rule.
    """
    over = seconds - usual.once - usual.growing
    variance = usual.once**2 + usual.growing**2 + 2 * _ALIKE * usual.once * usual.growing
    pace = 1 + over * (usual.growing + _ALIKE * usual.once) / variance
    pace = min(max(pace, 0.0), seconds / usual.growing if usual.growing else pace)  # nothing takes less than no time
    return seconds - pace * usual.growing, pace
