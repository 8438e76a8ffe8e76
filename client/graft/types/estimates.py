"""What a job costs, before and after."""

from datetime import datetime

from graft.types.base import Resource


class Figure(Resource):
    """An expected figure, the interval that nine of ten jobs fall into, and, once it is known, what it came to."""

    expected: float
    low: float
    high: float
    actual: float | None = None


class Estimate(Resource):
    """Time, memory and disk of a job; `basis` is `measured`, `history` or `assumed`, `parts` are seconds by step."""

    seconds: Figure
    memory_bytes: Figure
    disk_bytes: Figure
    parts: dict[str, float] = {}
    basis: str
    device: str
    fits: bool = True
    advice: list[str] = []
    made_at: datetime
