"""How an estimate looks on a terminal."""

from graft.cli.output import note, pairs, seconds, size
from graft.types import Estimate, Figure

_BASIS = {
    "measured": "steps timed on the device",
    "history": "jobs that ran there",
    "assumed": "neither measured nor run there yet",
}


def estimate(found: Estimate, said: str = "") -> None:
    """What a job would cost, with its interval and what it rests on."""
    pairs(
        [
            ("seconds", _span(found.seconds)),
            ("memory", _bytes(found.memory_bytes)),
            ("disk", _bytes(found.disk_bytes)),
            ("by step", ", ".join(f"{name} {seconds(value)}" for name, value in found.parts.items() if value >= 0.05)),
            ("rests on", _BASIS.get(found.basis, found.basis)),
            ("device", found.device),
            ("fits", "yes" if found.fits else "no"),
        ]
    )
    for line in (*found.advice, *([said] if said else [])):
        note(line)


def _span(figure: Figure) -> str:
    return f"{seconds(figure.expected)} ({seconds(figure.low)} to {seconds(figure.high)})"


def _bytes(figure: Figure) -> str:
    return f"{size(round(figure.expected))} ({size(round(figure.low))} to {size(round(figure.high))})"
