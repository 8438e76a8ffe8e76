"""The PyTorch engine: a library with one door, `run`; see `worker.engine.door` for what goes in and comes out.

Importing this package is cheap. torch is imported by the first `run`.
"""

from core.contract.jobs import JobSpec
from worker.engine.door import CancelledError, Inputs, Places, Result, ShouldStop, Sink

__all__ = ["CancelledError", "run"]


def run(spec: JobSpec, inputs: Inputs, places: Places, *, sink: Sink, should_stop: ShouldStop) -> Result:
    """Run one job; raises `JobError` with a code and a remedy, `CancelledError` when it is not wanted any more."""
    from worker.engine.job import run_job

    return run_job(spec, inputs, places, sink=sink, should_stop=should_stop)
