"""Counting in a moving window, in memory and within bounds, whoever calls."""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Standing:
    """Where somebody stands: `remaining` hits now, and `reset` seconds until there is room for one more."""

    allowed: bool
    limit: int
    remaining: int
    reset: float


class MovingWindow:
    """At most `limit` hits of one name in any `seconds`; counts of at most `names` names are kept.

    Whoever was quiet longest is forgotten first. (The memory storage of the library `limits` keeps a list for every
    name for ever, so that a caller with many addresses could fill the memory, and starts a thread for each sweep.)
    """

    def __init__(
        self, limit: int, seconds: float = 60.0, *, names: int = 4096, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limit = limit
        self.seconds = seconds
        self._names = names
        self._clock = clock
        self._hits: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def hit(self, name: str) -> Standing:
        """Count a hit if there is room for it; a hit that is refused does not count."""
        with self._lock:
            at = self._clock()
            hits = self._recent(name, at)
            allowed = len(hits) < self.limit
            if allowed:
                hits.append(at)
            while len(self._hits) > self._names:
                self._hits.popitem(last=False)
            remaining = self.limit - len(hits)
            reset = hits[0] + self.seconds - at if hits else self.seconds
            return Standing(allowed, self.limit, remaining, reset)

    def _recent(self, name: str, at: float) -> deque[float]:
        hits = self._hits.setdefault(name, deque())
        self._hits.move_to_end(name)
        while hits and hits[0] <= at - self.seconds:
            hits.popleft()
        return hits

    def __len__(self) -> int:
        """How many names are counted."""
        return len(self._hits)
