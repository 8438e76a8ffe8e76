"""Looking at something that may hang: in a thread of its own, for so long and no longer."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class NoAnswerError(Exception):
    """What was looked at has not answered in time."""


class Look(Generic[T]):
    """One question that is asked again and again. While an answer is overdue no second thread waits for it."""

    def __init__(self, ask: Callable[[], T], name: str) -> None:
        self._ask = ask
        self._name = name
        self._lock = threading.Lock()
        self._pending: _Answer[T] | None = None

    def start(self) -> "_Answer[T]":
        """Ask, unless an earlier question is still open: then its answer is the one to wait for."""
        with self._lock:
            if self._pending is None or self._pending.done.is_set():
                self._pending = _Answer(self._ask)
                threading.Thread(target=self._pending.find, name=f"look-{self._name}", daemon=True).start()
            return self._pending

    def __call__(self, seconds: float) -> T:
        """The answer, or what it raised; `NoAnswerError` if it takes longer than `seconds`."""
        return self.start().get(time.monotonic() + seconds)


class _Answer(Generic[T]):
    def __init__(self, ask: Callable[[], T]) -> None:
        self.done = threading.Event()
        self._ask = ask
        self._value: list[T] = []
        self._error: BaseException | None = None

    def find(self) -> None:
        """Ask and keep what comes of it."""
        try:
            self._value.append(self._ask())
        except BaseException as error:
            self._error = error
        finally:
            self.done.set()

    def get(self, until: float) -> T:
        """The answer, waited for until that moment of the monotonic clock."""
        if not self.done.wait(max(0.0, until - time.monotonic())):
            raise NoAnswerError
        if self._error is not None:
            raise self._error
        return self._value[0]
