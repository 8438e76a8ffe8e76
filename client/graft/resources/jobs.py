"""`/jobs`."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from graft._follow import follow
from graft._pages import iterate
from graft._transport import Call, Transport
from graft.errors import GraftError, JobCancelledError, JobFailedError
from graft.resources._ids import id_of, segment
from graft.types import Dataset, Delivery, DryRun, Event, Job, MethodSpec, Model, Page, Report


class Jobs:
    """Launch jobs, watch them, read what they found out."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        source: str | Dataset | None = None,
        *,
        method: str | Mapping[str, Any] | MethodSpec | None = None,
        base_model: str | Model | None = None,
        evaluation: str | Dataset | None = None,
        target: str | Dataset | None = None,
        target_labels: str | None = None,
        target_base_model: str | None = None,
        max_seconds: int | None = None,
        seed: int | None = None,
        metadata: Mapping[str, str] | None = None,
        webhook: str | None = None,
        **options: Any,
    ) -> Job:
        """Launch a job; what is left out takes the service's default.

        Options of the method go beside its name or as keywords: `method={"name": "fine_tune", "epochs": 5}` is
        `method="fine_tune", epochs=5`. `source` is the labelled data set to learn from; `shot` can do without, and then
        adapts one of your own models, the `base_model`, to the `target`. `evaluation` is a data set of its own to
        measure on. `target` is data of the new domain, for methods that adapt; `target_labels` says what labels it has
        may be used for: `evaluation` (only to measure, the default), `few` (some choose, too), `none`;
        `target_base_model` is for a target of another modality. `max_seconds` is the budget. `webhook` is an address
        that is told, signed, when the job has ended.
        """
        given = _spec(
            source,
            method=_method(method, options),
            base_model=base_model,
            evaluation=evaluation,
            target=target,
            target_labels=target_labels,
            target_base_model=target_base_model,
            max_seconds=max_seconds,
            seed=seed,
            metadata=metadata,
            webhook=webhook,
        )
        return self._transport.parse(Job, self._transport.send(Call("POST", "/jobs", json=given, creates=True)))

    def estimate(
        self,
        source: str | Dataset | None = None,
        *,
        method: str | Mapping[str, Any] | MethodSpec | None = None,
        base_model: str | Model | None = None,
        evaluation: str | Dataset | None = None,
        target: str | Dataset | None = None,
        target_labels: str | None = None,
        target_base_model: str | None = None,
        max_seconds: int | None = None,
        **options: Any,
    ) -> DryRun:
        """Check a job and say what it would cost, without launching it; arguments and errors are those of `create`.

        Takes up to 20 s, where a worker has to time a few steps first. What cannot fit has `estimate.fits` false.
        """
        given = _spec(
            source,
            method=_method(method, options),
            base_model=base_model,
            evaluation=evaluation,
            target=target,
            target_labels=target_labels,
            target_base_model=target_base_model,
            max_seconds=max_seconds,
        )
        call = Call("POST", "/jobs", params={"dry_run": "true"}, json=given, repeatable=True)
        return self._transport.parse(DryRun, self._transport.send(call))

    def list(
        self,
        *,
        state: str | None = None,
        method: str | None = None,
        source: str | Dataset | None = None,
        target: str | Dataset | None = None,
        limit: int | None = None,
    ) -> Iterator[Job]:
        """Your jobs, newest first; pages are fetched as you go."""
        data = {name: one and id_of(one) for name, one in (("source", source), ("target", target))}
        return iterate(self._transport, Job, "/jobs", limit=limit, state=state, method=method, **data)

    def get(self, job: str | Job) -> Job:
        """One job."""
        return self._transport.get(Job, f"/jobs/{segment(job)}")

    def stream(self, job: str | Job, *, after: int = 0) -> Iterator[Event]:
        """Every event after number `after` as it happens, each once, until the job is finished.

        Cut connections are taken up again where they broke.
        """
        return (item for item in follow(self._transport, segment(job), after=after) if isinstance(item, Event))

    def wait(
        self,
        job: str | Job,
        *,
        timeout: float | None = None,
        on_event: Callable[[Event], None] | None = None,
        raise_on_failure: bool = True,
    ) -> Job:
        """Wait until the job is finished and return it.

        Raises `JobFailedError` (code and hint) or `JobCancelledError`, unless `raise_on_failure` is false;
        `WaitTimeoutError` after `timeout` seconds (looked at when something arrives, so it may come up to 15 s late):
        the job itself goes on then. `on_event` is called with every event from the beginning.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        for item in follow(self._transport, segment(job), deadline=deadline):
            if isinstance(item, Job):
                return _succeeded(item) if raise_on_failure else item
            if on_event is not None:
                on_event(item)
        raise GraftError(f"The events of job {id_of(job)} ended without its result.")

    def stop(self, job: str | Job) -> Job:
        """Finish now and keep the best so far."""
        return self._wish(job, "stop")

    def cancel(self, job: str | Job) -> Job:
        """Discard the job."""
        return self._wish(job, "cancel")

    def delete(self, job: str | Job) -> None:
        """Delete a finished job with its events and report; its model stays. `ConflictError` while it is not over."""
        self._transport.send(Call("DELETE", f"/jobs/{segment(job)}"))

    def deliveries(self, job: str | Job) -> Sequence[Delivery]:
        """What its webhook was sent, newest first, and what came of it."""
        return self._transport.get(Page[Delivery], f"/jobs/{segment(job)}/deliveries").data

    def retry_delivery(self, job: str | Job, delivery: str | Delivery) -> Delivery:
        """Send it again at once."""
        call = Call("POST", f"/jobs/{segment(job)}/deliveries/{segment(delivery)}/retry", repeatable=True)
        return self._transport.parse(Delivery, self._transport.send(call))

    def _wish(self, job: str | Job, what: str) -> Job:
        call = Call("POST", f"/jobs/{segment(job)}/{what}", repeatable=True)  # asking twice is asking once
        return self._transport.parse(Job, self._transport.send(call))

    def report(self, job: str | Job) -> Report:
        """What a succeeded job found out."""
        return self._transport.get(Report, f"/jobs/{segment(job)}/report")

    def report_html(self, job: str | Job) -> str:
        """The report as one HTML page that needs nothing else."""
        call = Call("GET", f"/jobs/{segment(job)}/report", headers={"Accept": "text/html"})
        return self._transport.send(call).text


def _spec(
    source: str | Dataset | None,
    *,
    method: dict[str, Any] | None,
    base_model: str | Model | None,
    evaluation: str | Dataset | None,
    target: str | Dataset | None,
    target_labels: str | None,
    target_base_model: str | None,
    max_seconds: int | None,
    seed: int | None = None,
    metadata: Mapping[str, str] | None = None,
    webhook: str | None = None,
) -> dict[str, Any]:
    """The body of a job: what was given, and nothing else."""
    spec = {
        "source": None if source is None else id_of(source),
        "method": method,
        "base_model": None if base_model is None else id_of(base_model),
        "evaluation": None if evaluation is None else id_of(evaluation),
        "target": None if target is None else id_of(target),
        "target_labels": target_labels,
        "target_base_model": target_base_model,
        "budget": None if max_seconds is None else {"max_seconds": max_seconds},
        "seed": seed,
        "metadata": None if metadata is None else dict(metadata),
        "webhook": None if webhook is None else {"url": webhook},
    }
    return {name: value for name, value in spec.items() if value is not None}


def _method(method: str | Mapping[str, Any] | MethodSpec | None, options: Mapping[str, Any]) -> dict[str, Any] | None:
    if method is None:
        if options:
            raise TypeError(f"Unknown keyword {next(iter(options))!r}: options of a method need method='<name>'.")
        return None
    if isinstance(method, MethodSpec):
        method = method.model_dump()
    named = {"name": method} if isinstance(method, str) else dict(method)
    return named | dict(options)


def _succeeded(job: Job) -> Job:
    if job.state == "cancelled":
        raise JobCancelledError(job)
    if job.state == "failed":
        raise JobFailedError(job)
    return job
