"""Keeps a few programs running until SIGINT, SIGTERM or SIGHUP, then ends them in order."""

import signal
import time
from collections.abc import Callable
from types import FrameType

from core import logs
from graftd.problems import ProblemError
from graftd.programs import Program

log = logs.get_logger(__name__)
TICK_SECONDS = 0.1
END_SECONDS = 14.0
MARGIN_SECONDS = 6.0  # more than a worker takes beyond `shutdown_seconds`
START_SECONDS = 120.0
MOST_FAILURES = 4


class Supervisor:
    """Programs in the order of their start; the first is ended last."""

    def __init__(self, end_seconds: float = END_SECONDS) -> None:
        self._end_seconds = end_seconds
        self._programs: list[Program] = []
        self._stopping = False

    def catch_signals(self) -> None:
        """Let signals end `run` and `wait_for` instead of this process."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def add(self, program: Program) -> None:
        """Look after a program; it is started if it does not run yet."""
        self._programs.append(program)
        if program.process is None:
            program.start()

    def wait_for(self, ready: Callable[[], bool]) -> bool:
        """Wait until the service is ready; False if told to stop, `ProblemError` if it does not get there."""
        deadline = time.monotonic() + START_SECONDS
        while not self._stopping:
            if ready():
                return True
            self._look_after()
            broken = [program for program in self._programs if program.failures >= MOST_FAILURES]
            if broken or time.monotonic() > deadline:
                names = ", ".join(program.name for program in broken) or "the service"
                raise ProblemError(
                    f"Could not start: {names} " + ("keeps ending." if broken else "is not ready yet."),
                    "The lines above (or logs/graftd.log in the data folder) tell why.",
                )
        return False

    def run(self) -> None:
        """Keep everything running until told to stop."""
        while not self._stopping:
            self._look_after()

    def _look_after(self) -> None:
        for program in self._programs:
            program.look_after()
        time.sleep(TICK_SECONDS)

    def stop(self) -> None:
        """End the programs: all but the first at the same time, then the first, on which they may depend."""
        log.info("stopping")
        for group in (self._programs[1:], self._programs[:1]):
            for program in reversed(group):
                program.ask_to_end()
            deadline = time.monotonic() + self._end_seconds
            for program in reversed(group):
                program.make_end(max(0.0, deadline - time.monotonic()))
        self._programs = []
