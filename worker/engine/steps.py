"""What a running job says and hears: steps with their seconds, progress of the whole, the user's wish to stop."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from core.contract.jobs import Progress, Step, StepName
from worker.engine.door import CancelledError, ShouldStop, Sink, SuspendedError, Wish

_EVERY = 0.25  # seconds between two progress events: more would only fill the books


class Wishes:
    """The user's wish, asked for at every step."""

    def __init__(self, should_stop: ShouldStop) -> None:
        self._ask = should_stop
        self.stopped = False
        """Whether a `stop` was ever heeded."""

    def ask(self) -> Wish:
        """What the user wants now."""
        return self._ask()

    def check(self) -> None:
        """Raise `CancelledError` if the job is not wanted any more, `SuspendedError` if it is to go on elsewhere."""
        self._heard()

    def stop(self) -> bool:
        """Whether to finish now and keep the best so far; raises as `check` does."""
        self.stopped |= self._heard() == "stop"
        return self.stopped

    def _heard(self) -> Wish:
        wish = self._ask()
        if wish == "cancel":
            raise CancelledError
        if wish == "suspend":
            raise SuspendedError
        return wish


class Until(Wishes):
    """The user's wishes, and one of the service's own: to finish once the time is up (a `time.monotonic`)."""

    def __init__(self, wishes: Wishes, end: float) -> None:
        super().__init__(wishes.ask)
        self._end = end

    def _heard(self) -> Wish:
        wish = super()._heard()
        return "stop" if wish == "go_on" and time.monotonic() >= self._end else wish


class Note:
    """The note that a step leaves in the books; set while it runs."""

    text = ""


class Steps:
    """Emits `step` and `progress` events and keeps the finished steps for the report.

    `shares` tells which part of the whole job each step is expected to take; they are scaled to sum to 1.
    """

    def __init__(self, sink: Sink, shares: dict[StepName, float]) -> None:
        self._sink = sink
        total = sum(shares.values())
        self._shares = {name: share / total for name, share in shares.items()}
        self._before = 0.0
        self._begun = time.monotonic()
        self._said = 0.0
        self.done: list[Step] = []

    @contextmanager
    def step(self, name: StepName) -> Iterator[Note]:
        """Run one step: says `running` and `done`, with its seconds and note."""
        note = Note()
        begun = time.monotonic()
        self._sink("step", Step(name=name, state="running").model_dump(mode="json"))
        yield note
        seconds = round(time.monotonic() - begun, 4)
        step = Step(name=name, state="done", seconds=seconds, note=note.text)
        self.done.append(step)
        self._before = min(1.0, self._before + self._shares.get(name, 0.0))
        self._sink("step", step.model_dump(mode="json"))

    def say(self, text: str) -> None:
        """Tell the user something."""
        self._sink("message", {"text": text})

    def progress(
        self,
        name: StepName,
        fraction: float,
        *,
        epoch: int | None = None,
        epochs: int | None = None,
        eta_seconds: float | None = None,
    ) -> None:
        """Say that `fraction` of step `name` is done; said at most four times a second, and at the step's end."""
        moment = time.monotonic()
        if moment - self._said < _EVERY and fraction < 1:
            return
        self._said = moment
        whole = min(1.0, self._before + self._shares.get(name, 0.0) * min(1.0, max(0.0, fraction)))
        if eta_seconds is None and whole > 0.02:
            eta_seconds = (moment - self._begun) * (1 - whole) / whole
        progress = Progress(
            step=name,
            fraction=round(whole, 4),
            epoch=epoch,
            epochs=epochs,
            eta_seconds=None if eta_seconds is None else round(eta_seconds, 2),
        )
        self._sink("progress", progress.model_dump(mode="json"))

    def seconds(self) -> float:
        """Seconds since the job began."""
        return time.monotonic() - self._begun
