"""What is measured of predictions: how long each phase takes, and how many items could be answered."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from core.contract.models import Prediction

Phase = Literal["decode", "infer", "total"]
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Measures:
    """The figures of one predictor; `register` puts them on the metrics page, `unregister` takes them off."""

    def __init__(self) -> None:
        self._seconds = Histogram(
            "graft_predict_seconds",
            "Time of one prediction request after its body was read: to decode and prepare, to infer, in all.",
            ["phase"],
            buckets=BUCKETS,
            registry=None,
        )
        self._items = Counter("graft_predict_items", "Items of prediction requests.", ["outcome"], registry=None)
        self.sessions = Gauge("graft_predict_sessions", "Models that are open for predictions.", registry=None)
        for outcome in ("answered", "refused"):
            self._items.labels(outcome)

    def register(self, registry: CollectorRegistry) -> None:
        """Show them."""
        for one in (self._seconds, self._items, self.sessions):
            registry.register(one)

    def unregister(self, registry: CollectorRegistry) -> None:
        """Show them no more."""
        for one in (self._seconds, self._items, self.sessions):
            registry.unregister(one)

    @contextmanager
    def time(self, phase: Phase) -> Iterator[None]:
        """Note how long something takes."""
        begun = time.perf_counter()
        yield
        self.note(phase, time.perf_counter() - begun)

    def note(self, phase: Phase, seconds: float) -> None:
        """Note how long something took."""
        self._seconds.labels(phase).observe(seconds)

    def count(self, answers: Sequence[Prediction]) -> None:
        """Count the items of one reply."""
        refused = sum(answer.error is not None for answer in answers)
        self._items.labels("refused").inc(refused)
        self._items.labels("answered").inc(len(answers) - refused)
