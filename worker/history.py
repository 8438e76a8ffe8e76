"""A curve without gaps or doubles, however often a job was broken off.

A new attempt goes on from the last checkpoint, and that is older than the last metrics that the attempt before it
wrote: it measures those once more (to the same figures, where the machine computes the same way twice). Each point
stands in the books as it was measured first. A checkpoint is written in one transaction with all events before it, so
there is no gap either. Where a job starts from the beginning again, its first points are known, too.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection

from core.store import events
from core.store.events import NewEvent
from core.store.leases import Fence

AXES = ("epoch", "log10_regularisation")
Point = tuple[str, Any, str]


class History:
    """The points that earlier attempts at a job have written; they are read once, when they are needed."""

    def __init__(self, fence: Fence) -> None:
        self._fence = fence
        self._known: frozenset[Point] | None = None if fence.attempt > 1 else frozenset()

    def without_known(self, tx: Connection, new: Sequence[NewEvent]) -> list[NewEvent]:
        """The events, less the figures that stand in the books for the same place on the axis already."""
        if not any(event.kind == "metric" for event in new):
            return list(new)
        if self._known is None:
            self._known = self._load(tx)
        return [kept for event in new if (kept := _less(event, self._known)) is not None]

    def _load(self, tx: Connection) -> frozenset[Point]:
        found = events.of_kind(tx, self._fence.id, "metric", before_attempt=self._fence.attempt)
        return frozenset(point for data in found for point in _points(data))


def _points(data: dict[str, Any]) -> Iterable[Point]:
    """(axis, place on it, name) of every figure; without an axis a figure is known by its name alone."""
    axis = next((axis for axis in AXES if axis in data), "")
    return ((axis, data.get(axis), name) for name in data if name != axis)


def _less(event: NewEvent, known: frozenset[Point]) -> NewEvent | None:
    if event.kind != "metric" or not known:
        return event
    fresh = [name for _, _, name in (point for point in _points(event.data) if point not in known)]
    if not fresh:
        return None
    kept = {name: value for name, value in event.data.items() if name in (*AXES, *fresh)}
    return NewEvent(event.kind, kept, event.at)
