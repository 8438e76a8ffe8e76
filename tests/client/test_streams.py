"""Event streams: parsing, taking up again, falling back to polling."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft import Graft, GraftError, JobCancelledError, JobFailedError, NotFoundError, WaitTimeoutError, _follow
from graft._sse import Message, messages
from tests.client.conftest import JOB, error, event, job
from tests.client.scripted import Answer, Seen, serving

Connect = Callable[..., Graft]
EVENTS = f"/jobs/{JOB}/events"


def frame(item: dict[str, Any]) -> str:
    return f"id: {item['seq']}\nevent: {item['kind']}\ndata: {json.dumps(item)}\n\n"


def sse(*frames: str, ended: bool = True, **end: Any) -> Answer:
    text = "".join(frames) + (f"event: end\ndata: {json.dumps(job(**end))}\n\n" if ended else "")
    return Answer(200, text.encode(), {"Content-Type": "text/event-stream; charset=utf-8"}, chunked=True)


STREAM = (
    '\ufeffid: 1\nevent: step\ndata: {"a":\ndata: 1}\n\n'
    ": keep-alive\n\n"
    "retry: 10\ndata:no space\n\n"
    "event: nothing\n\n"
    "id: 2\ndata: grün \u2028 one line\n\n"
    "data: cut off by the en"
)
PARSED = [
    Message("step", '{"a":\n1}', "1"),
    None,
    Message("message", "no space", "1"),
    Message("message", "grün \u2028 one line", "2"),
]


@given(st.sampled_from(["\n", "\r\n", "\r"]), st.lists(st.integers(1, 40), min_size=1))
def test_messages_do_not_depend_on_line_ends_or_on_where_chunks_end(end: str, sizes: list[int]) -> None:
    data = STREAM.replace("\n", end).encode()

    def chunks() -> Iterator[bytes]:
        at = 0
        while at < len(data):
            size = sizes[at % len(sizes)]
            yield data[at : at + size]
            at += size

    assert list(messages(chunks())) == PARSED


def test_a_cut_stream_goes_on_after_the_last_event(connect: Connect, naps: list[float]) -> None:
    first = sse(frame(event(1)), ": keep-alive\n\n", frame(event(2)), "id: 3\nevent: message\ndata: {", ended=False)
    with serving({("GET", EVENTS): [first, Answer(502, b""), sse(frame(event(2)), frame(event(3)))]}) as service:
        got = [item.seq for item in connect(service.url).jobs.stream(JOB)]
    assert got == [1, 2, 3]
    assert [seen.headers.get("last-event-id") for seen in service.seen] == [None, "2", "2"]
    assert all(seen.headers["accept"] == "text/event-stream" for seen in service.seen)
    assert naps


def test_wait_returns_the_job_and_hands_out_events(connect: Connect) -> None:
    got: list[int] = []
    with serving({("GET", EVENTS): [sse(frame(event(1)), frame(event(2)), metrics={"accuracy": 0.5})]}) as service:
        done = connect(service.url).jobs.wait(JOB, on_event=lambda item: got.append(item.seq))
    assert (done.metrics, got) == ({"accuracy": 0.5}, [1, 2])


def test_a_failed_job_is_an_error_with_code_and_hint(connect: Connect) -> None:
    failure = {"type": "job_failed", "code": "out_of_memory", "message": "No room.", "hint": "Smaller batch_size."}
    with serving({("GET", EVENTS): [sse(state="failed", error=failure)]}) as service:
        client = connect(service.url)
        with pytest.raises(JobFailedError, match=r"Smaller batch_size") as caught:
            client.jobs.wait(JOB)
        assert client.jobs.wait(JOB, raise_on_failure=False).state == "failed"
    assert (caught.value.code, caught.value.job.id) == ("out_of_memory", JOB)


def test_a_cancelled_job_is_an_error_of_its_own(connect: Connect) -> None:
    with (
        serving({("GET", EVENTS): [sse(state="cancelled")]}) as service,
        pytest.raises(JobCancelledError, match="was cancelled"),
    ):
        connect(service.url).jobs.wait(JOB)


def pages(seen: Seen) -> Answer:
    after = int(dict(pair.split("=") for pair in seen.query.split("&"))["after"]) if seen.query else 0
    data = [event(seq) for seq in (1, 2, 3) if seq > after][:2]
    return Answer(200, {"data": data, "has_more": after == 0, "next_cursor": None})


def test_without_an_event_stream_the_job_is_polled(connect: Connect, naps: list[float]) -> None:
    with serving(
        {("GET", EVENTS): [pages], ("GET", f"/jobs/{JOB}"): [Answer(200, job("running")), Answer(200, job())]}
    ) as s:
        client = connect(s.url)
        assert [item.seq for item in client.jobs.stream(JOB)] == [1, 2, 3]
    assert naps == [1.0]


def test_streams_that_only_break_end_in_polling(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_follow, "_PATIENCE", 0.05)

    def broken(seen: Seen) -> Answer:
        return sse(ended=False) if seen.headers["accept"] == "text/event-stream" else pages(seen)

    with serving({("GET", EVENTS): [broken], ("GET", f"/jobs/{JOB}"): [Answer(200, job())]}) as service:
        assert connect(service.url).jobs.wait(JOB).state == "succeeded"


def test_a_missing_job_is_told_at_once(connect: Connect) -> None:
    with (
        serving({("GET", EVENTS): [Answer(404, error("job_not_found", "not_found"))]}) as service,
        pytest.raises(NotFoundError),
    ):
        connect(service.url).jobs.wait(JOB)
    assert len(service.seen) == 1


def test_waiting_ends_in_time_while_the_stream_is_silent(connect: Connect) -> None:
    told = threading.Event()

    def silent(seen: Seen) -> Answer:
        told.wait(60)
        return sse()

    began = time.monotonic()
    with serving({("GET", EVENTS): [silent]}) as service:
        with pytest.raises(WaitTimeoutError, match="goes on") as caught:
            connect(service.url, max_retries=0).jobs.wait(JOB, timeout=0.2)
        waited = time.monotonic() - began
        told.set()
    assert isinstance(caught.value, (TimeoutError, GraftError))
    assert 0.2 <= waited < 20
