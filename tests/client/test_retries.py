"""When a request is sent again, and with what."""

import io
from collections.abc import Callable

import pytest

from graft import APIConnectionError, ConflictError, Graft, InvalidRequestError, RateLimitError, UnavailableError
from graft._retries import backoff, retry_after
from tests.client.conftest import DATASET, JOB, MODEL, dataset, error, job
from tests.client.scripted import Answer, Seen, serving

Connect = Callable[..., Graft]


def test_a_503_is_tried_again_with_the_same_idempotency_key(connect: Connect, naps: list[float]) -> None:
    down = Answer(503, error("database_unavailable", "unavailable"), {"Retry-After": "7"})
    with serving({("POST", "/jobs"): [down, Answer(502, b"bad gateway"), Answer(201, job("queued"))]}) as service:
        made = connect(service.url).jobs.create(DATASET, method="fine_tune", epochs=2)
        keys = {seen.headers["idempotency-key"] for seen in service.seen}
    assert made.state == "queued"
    assert len(service.seen) == 3
    assert len(keys) == 1
    assert naps[0] == 7
    assert 0.5 <= naps[1] <= 1.0


def test_every_call_has_a_key_of_its_own(connect: Connect) -> None:
    with serving({("POST", "/jobs"): [Answer(201, job("queued"))]}) as service:
        client = connect(service.url)
        client.jobs.create(DATASET)
        client.jobs.create(DATASET)
    assert len({seen.headers["idempotency-key"] for seen in service.seen}) == 2


def test_the_first_request_still_under_way_is_waited_for(connect: Connect) -> None:
    busy = Answer(409, error("idempotency_in_progress", "conflict"))
    with serving({("POST", "/jobs"): [busy, Answer(201, job("queued"))]}) as service:
        assert connect(service.url).jobs.create(DATASET).id == JOB


def test_any_other_conflict_is_told_at_once(connect: Connect) -> None:
    with serving({("POST", f"/jobs/{JOB}/stop"): [Answer(409, error("job_finished", "conflict"))]}) as service:
        with pytest.raises(ConflictError) as caught:
            connect(service.url).jobs.stop(JOB)
        assert (caught.value.code, len(service.seen)) == ("job_finished", 1)


def test_an_upload_is_sent_whole_again(connect: Connect) -> None:
    script = {("POST", "/datasets"): [Answer(503, error("x", "unavailable")), Answer(201, dataset("validating"))]}
    counted: list[tuple[int, int]] = []
    with serving(script) as service:
        file = io.BytesIO(b"skip" + b"PK" * 10)
        file.seek(4)
        connect(service.url).datasets.upload(file, name="x", on_progress=lambda *n: counted.append(n))
    assert [seen.body for seen in service.seen] == [b"PK" * 10] * 2
    assert service.seen[0].headers["content-length"] == "20"
    assert "transfer-encoding" not in service.seen[0].headers
    assert service.seen[0].headers["content-type"] == "application/zip"
    assert counted == [(20, 20)] * 2


def test_a_cut_reply_is_asked_for_again(connect: Connect) -> None:
    with serving({("GET", f"/jobs/{JOB}"): [Answer(200, job(), cut_after=10), Answer(200, job())]}) as service:
        assert connect(service.url).jobs.get(JOB).id == JOB


def test_retries_end_and_tell_the_last_error(connect: Connect, naps: list[float]) -> None:
    with serving({("GET", f"/jobs/{JOB}"): [Answer(503, error("broker_down", "unavailable"))]}) as service:
        with pytest.raises(UnavailableError) as caught:
            connect(service.url, max_retries=2).jobs.get(JOB)
        assert (caught.value.code, len(service.seen), len(naps)) == ("broker_down", 3, 2)


def test_a_long_retry_after_is_told_instead_of_slept(connect: Connect, naps: list[float]) -> None:
    full = Answer(429, error("quota", "rate_limited"), {"Retry-After": "3600"})
    with serving({("GET", f"/jobs/{JOB}"): [full]}) as service, pytest.raises(RateLimitError) as caught:
        connect(service.url).jobs.get(JOB)
    assert caught.value.retry_after == 3600
    assert naps == []


def test_a_repeated_delete_that_finds_nothing_has_done_its_work(connect: Connect) -> None:
    gone = Answer(404, error("model_not_found", "not_found"))
    with serving({("DELETE", f"/models/{MODEL}"): [Answer(502, b""), gone]}) as service:
        connect(service.url).models.delete(MODEL)


def test_errors_carry_what_the_service_said(connect: Connect) -> None:
    body = error("unknown_field", param="method.epoch", hint="Did you mean `epochs`?", request_id="req_1")
    with serving({("POST", "/jobs"): [Answer(422, body)]}) as service, pytest.raises(InvalidRequestError) as caught:
        connect(service.url).jobs.create(DATASET, method={"name": "fine_tune", "epoch": 1})
    found = caught.value
    assert (found.status, found.param, found.request_id) == (422, "method.epoch", "req_1")
    assert "Did you mean `epochs`?" in str(found)


def test_an_error_that_is_not_the_services_own_is_explained(connect: Connect) -> None:
    moved = Answer(308, b"", {"Location": "https://graft.example/jobs", "X-Request-ID": "proxy-7"})
    with (
        serving({("POST", "/jobs"): [moved]}) as service,
        pytest.raises(Exception, match=r"use that address") as caught,
    ):
        connect(service.url).jobs.create(DATASET)
    assert caught.value.request_id == "proxy-7"  # type: ignore[attr-defined]


def test_another_program_on_the_port_is_noticed(connect: Connect) -> None:
    with (
        serving({("GET", f"/jobs/{JOB}"): [Answer(200, b"<html>hello</html>")]}) as service,
        pytest.raises(Exception, match=r"a Graft service"),
    ):
        connect(service.url).jobs.get(JOB)


def test_nobody_there_says_how_to_start_the_service(connect: Connect, naps: list[float]) -> None:
    with serving({}) as service:
        url = service.url
    with pytest.raises(APIConnectionError, match="graftd up") as caught:
        connect(url).jobs.stop(JOB)
    assert isinstance(caught.value, ConnectionError)
    assert len(naps) == 3


def test_the_key_goes_along_and_newer_fields_are_kept(connect: Connect) -> None:
    def check(seen: Seen) -> Answer:
        return Answer(200, job(novelty={"a": 1}) if seen.headers["authorization"] == "Bearer secret" else {})

    with serving({("GET", f"/jobs/{JOB}"): [check]}) as service:
        found = connect(service.url, api_key="secret").jobs.get(JOB)
    assert found.model_extra == {"novelty": {"a": 1}}
    assert found.method.solver == "ridge"  # type: ignore[attr-defined]


def test_backoff_doubles_up_to_a_limit() -> None:
    waits = [backoff(attempt) for attempt in (0, 1, 2, 10_000)]
    assert all(low <= wait <= 2 * low for low, wait in zip([0.25, 0.5, 1, 4], waits, strict=True))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("2", 2), ("-1", 0), ("soon", None), ("Wed, 01 Jan 2020 00:00:00 GMT", 0)],
)
def test_retry_after_is_a_number_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after(header) == seconds
