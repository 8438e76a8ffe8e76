"""Be told of a signal to end before the server waits for open connections: an event stream would keep it waiting."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def before_exit(tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell` first when the process is asked to end, then do what was to be done anyway."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can handle signals; whoever runs us in another ends us by other means
        return
    before: dict[int, Any] = {number: signal.getsignal(number) for number in _SIGNALS}

    def handle(number: int, frame: FrameType | None) -> None:
        tell()
        if callable(before[number]):
            before[number](number, frame)
        elif before[number] == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    for number in _SIGNALS:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in _SIGNALS:
            if signal.getsignal(number) is handle:
                signal.signal(number, before[number])
