"""A job's attempt in the trace of the request that asked for it: one span, with one below it for each step.

The process that runs the engine knows nothing of traces: its parent hears of every step and tells it here.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from core import tracing
from core.contract.errors import ErrorBody
from core.contract.jobs import JobState, Step
from core.store.datasets import DatasetClaim
from core.store.jobs import JobClaim

_LOST = "lost"  # nobody wrote the end: another worker has the work


@contextmanager
def attempt(claim: JobClaim) -> Iterator[None]:
    """The span of one attempt; call `ended` or `failed` inside. The job's request is its parent, if that was traced."""
    with tracing.span(
        "attempt",
        kind="consumer",
        traceparent=claim.traceparent,
        **{
            "graft.job_id": claim.fence.id,
            "graft.method": claim.spec.method.name,
            "graft.attempt": claim.fence.attempt,
            "graft.request_id": claim.request_id,
            "graft.state": _LOST,
        },
    ):
        yield


def ended(state: JobState) -> None:
    """The attempt's end is in the books: the job's state then, `queued` if it will be tried again."""
    tracing.current().set(**{"graft.state": state})


def failed(error: ErrorBody) -> None:
    """The attempt did not succeed; only the code is told, a message may hold what a user sent."""
    tracing.current().fail(error.code)


@contextmanager
def ingest(claim: DatasetClaim) -> Iterator[None]:
    """The span of the look at one upload, a trace of its own; `ingested` tells its end."""
    with tracing.span(
        "ingest",
        kind="consumer",
        traceparent="",
        **{
            "graft.dataset_id": claim.fence.id,
            "graft.attempt": claim.fence.attempt,
            "graft.request_id": claim.request_id,
            "graft.state": _LOST,
        },
    ):
        yield


def ingested(state: str, code: str | None = None) -> None:
    """What became of the upload, and why not."""
    tracing.current().set(**{"graft.state": state, "graft.error_code": code})


class Steps:
    """The steps of one attempt."""

    def __init__(self) -> None:
        self._running: dict[str, float] = {}

    def take(self, step: Step) -> None:
        """A step begins, or is done and becomes a span below the one around this call."""
        if step.state == "running":
            self._running.setdefault(step.name, time.time())
            return
        now = time.time()
        begun = self._running.pop(step.name, now - (step.seconds or 0.0))
        said: dict[str, Any] = {"state": step.state, "seconds": step.seconds, "note": step.note or None}
        tracing.record(step.name, begun, now, **{f"graft.step.{name}": value for name, value in said.items()})

    def close(self) -> None:
        """The attempt is over: steps that it broke off become spans that say so."""
        for name, begun in self._running.items():
            tracing.record(name, begun, time.time(), **{"graft.step.state": "broken_off"})
        self._running.clear()
