"""What a trace tells of jobs that do not succeed, or not at once."""

import pytest

from tests.collector import Seen, collector
from tests.worker.conftest import Place


def traced(place: Place, do: str) -> tuple[str, list[Seen], list[bytes]]:
    """Run a job to its end with a traced worker: its id, all spans, and what was sent."""
    job_id = place.submit(do)
    with collector() as found:
        place.worker(otlp_endpoint=found.url)
        place.until_done(job_id)
        place.end()  # a worker sends what it has before it ends
    return job_id, found.spans, found.bodies


@pytest.mark.parametrize(("do", "code"), [("refuse", "too_few_items"), ("fault", "internal_error")])
def test_a_failed_attempt_tells_its_code_and_the_step_it_broke_off(sqlite_place: Place, do: str, code: str) -> None:
    job_id, spans, bodies = traced(sqlite_place, do)
    error = sqlite_place.job(job_id).error
    assert error is not None
    attempt, step = sorted(spans, key=lambda span: span.name)
    assert (attempt.name, attempt.failed, attempt.said) == ("attempt", True, error.code)
    assert (attempt.attributes["graft.state"], attempt.attributes["graft.job_id"]) == ("failed", job_id)
    assert error.code == code
    assert (step.name, step.parent, step.trace) == ("train", attempt.id, attempt.trace)
    assert step.attributes == {"graft.step.state": "broken_off"}
    assert not any(error.message.encode() in body or b"secret detail" in body for body in bodies)


def test_every_attempt_is_a_span_of_its_own(sqlite_place: Place) -> None:
    _, spans, _ = traced(sqlite_place, "passing")
    attempts = [span for span in spans if span.name == "attempt"]
    told = [(span.attributes["graft.attempt"], span.attributes["graft.state"], span.failed) for span in attempts]
    assert told == [(1, "queued", True), (2, "succeeded", False)]
    for attempt, state in zip(attempts, ("broken_off", "done"), strict=True):
        train = [span for span in spans if (span.name, span.parent) == ("train", attempt.id)]
        assert [span.attributes["graft.step.state"] for span in train] == [state]
