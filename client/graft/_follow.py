"""Following a job: server-sent events that survive cut connections, or polling where they cannot be had."""

import time
from collections.abc import Iterator

import httpx2

from graft._retries import backoff
from graft._sse import messages
from graft._transport import Call, Transport
from graft.errors import APIConnectionError, WaitTimeoutError
from graft.types import Event, Job, Page

_SILENCE = 45.0  # seconds; the service sends a keep-alive every 15
_PATIENCE = 60.0  # seconds of nothing but broken streams before polling takes over
_POLL = 1.0  # seconds


class _NoStreamError(Exception):
    """The service (or a proxy before it) gives no event stream."""


def follow(
    transport: Transport, job_id: str, *, after: int = 0, deadline: float | None = None
) -> Iterator[Event | Job]:
    """Yield every event after number `after`, each once and in order, and last the finished job.

    `deadline` is a reading of `time.monotonic()`; `WaitTimeoutError` once it has passed.
    """
    broken_since: float | None = None
    tries = 0
    while broken_since is None or time.monotonic() - broken_since < _PATIENCE:
        try:
            for item in _listen(transport, job_id, after, deadline):
                broken_since, tries = None, 0
                if isinstance(item, Event):
                    if item.seq <= after:
                        continue
                    after = item.seq
                yield item
                if isinstance(item, Job):
                    return
        except _NoStreamError:
            break
        except (httpx2.TransportError, APIConnectionError):
            pass
        _check(deadline, job_id)
        broken_since = broken_since or time.monotonic()
        transport.retries.sleep(backoff(tries))
        tries += 1
    yield from _poll(transport, job_id, after, deadline)


def _listen(transport: Transport, job_id: str, after: int, deadline: float | None) -> Iterator[Event | Job]:
    headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"} | (
        {"Last-Event-ID": str(after)} if after else {}
    )
    silence = _SILENCE if deadline is None else max(0.1, min(_SILENCE, deadline - time.monotonic()))
    call = Call("GET", f"/jobs/{job_id}/events", headers=headers, read_timeout=silence)
    with transport.open(call) as response:
        if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
            raise _NoStreamError
        for message in messages(response.iter_bytes()):
            _check(deadline, job_id)
            if message is None:
                continue
            if message.event == "end":
                # (a job that was deleted meanwhile ends with null: asking for it tells so)
                gone = message.data == "null"
                yield transport.get(Job, f"/jobs/{job_id}") if gone else Job.model_validate_json(message.data)
                return
            yield Event.model_validate_json(message.data)


def _poll(transport: Transport, job_id: str, after: int, deadline: float | None) -> Iterator[Event | Job]:
    while True:
        job = transport.get(Job, f"/jobs/{job_id}")
        while True:
            page = transport.get(Page[Event], f"/jobs/{job_id}/events", after=after, limit=100)
            yield from page.data
            if not page.data:
                break
            after = page.data[-1].seq
        if job.finished:
            yield job
            return
        _check(deadline, job_id)
        transport.retries.sleep(_POLL)


def _check(deadline: float | None, job_id: str) -> None:
    if deadline is not None and time.monotonic() >= deadline:
        raise WaitTimeoutError(f"Job {job_id} was not finished in time.", hint="It goes on; wait again, or cancel it.")
