"""A worker's hold on a row while it works: heartbeats, and patience with a database that is away for a moment."""

import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError

from core import logs
from core.store.leases import LostLeaseError

T = TypeVar("T")
log = logs.get_logger(__name__)
PAUSE_SECONDS = 0.5


class ShuttingDownError(Exception):
    """The worker has been told to end: hand the work back."""


class Lease:
    """When the next heartbeat is due, and until when the row is certainly ours."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._next = 0.0
        self._until = 0.0
        self.renewed()

    def renewed(self) -> None:
        """A heartbeat has gone through (or the row was just claimed)."""
        now = time.monotonic()
        self._next = now + self.seconds / 3
        self._until = now + self.seconds

    @property
    def due(self) -> bool:
        """Whether a heartbeat is due."""
        return time.monotonic() >= self._next

    def attempt(self, work: Callable[[], T]) -> T | None:
        """Do something with the database; if it is away, None until the lease has run out, then `LostLeaseError`."""
        try:
            return work()
        except DBAPIError as error:
            if time.monotonic() >= self._until:
                raise LostLeaseError("the database was away for longer than the lease") from error
            log.warning("database away, trying again", error=type(error.orig).__name__)
            self._next = time.monotonic() + PAUSE_SECONDS
            return None


def persist(work: Callable[[], T], patience: float) -> T:
    """Do the last write of a run, trying for `patience` seconds if the database is away; the fence guards it."""
    give_up = time.monotonic() + patience
    while True:
        try:
            return work()
        except DBAPIError as error:
            if time.monotonic() >= give_up:
                raise
            log.warning("database away, trying again", error=type(error.orig).__name__)
            time.sleep(PAUSE_SECONDS)
