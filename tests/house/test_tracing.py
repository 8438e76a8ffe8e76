"""Traces: nothing without a collector, whole with one, and no harm from a dead one."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from core import tracing
from core.settings import Settings
from core.store.store import Store
from tests.collector import Collector, black_hole, collector, nobody

ROOT = Path(__file__).parents[2]
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
SECRET = "graft_k7Qm2xZ81bTfWq93LsPd0aYv_Nc-4RhE6uJiOpX"

START = """
import sys
from core import logs, tracing
from core.settings import Settings
logs.configure("probe")
"""


@pytest.fixture
def taken() -> Iterator[Collector]:
    with collector() as found:
        yield found
    tracing.stop()


@pytest.fixture
def traced(taken: Collector, settings: Settings) -> Collector:
    """A collector that this process sends its spans to."""
    tracing.start("probe", settings.model_copy(update={"otlp_endpoint": taken.url}))
    return taken


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "GRAFT_"))}
    command = [sys.executable, "-W", "error", "-c", START + code]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=clean | environment, timeout=120)


def complaints(output: str) -> list[str]:
    return [line for line in output.splitlines() if "traces are not delivered" in line]


def test_without_a_collector_the_package_is_not_even_imported() -> None:
    done = run(
        "import worker.__main__, core.store.store\n"
        "tracing.start('probe', Settings())\n"
        "with tracing.span('x', kind='server', traceparent='y', a=1) as span: span.set(b=2); span.fail('E')\n"
        "tracing.record('y', 1.0, 2.0); assert tracing.current_traceparent() is None; tracing.stop()\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])\n"
        "from app.main import create_app; create_app(Settings())\n"  # FastAPI may import a part of it by itself
        "print([name for name in sys.modules if name.startswith('opentelemetry.exporter')])\n"
    )
    assert (done.returncode, done.stdout.split()) == (0, ["[]", "[]"]), done.stderr


def test_a_span_that_nobody_collects_costs_next_to_nothing() -> None:
    def once() -> float:
        began = time.perf_counter()
        for _ in range(2000):
            with tracing.span("step", kind="server", traceparent=None, items=1):
                pass
        return (time.perf_counter() - began) / 2000

    assert min(once() for _ in range(50)) < 2e-6  # the best of many: the machine may be busy


def test_a_missing_package_is_said_once_with_its_remedy() -> None:
    hide = "sys.modules['opentelemetry'] = None\ntracing.start('probe', Settings())\n"
    use = "with tracing.span('x'): print(tracing.current_traceparent())\n"
    done = run(hide + use, GRAFT_OTLP_ENDPOINT="http://127.0.0.1:4318")
    assert (done.returncode, done.stdout.strip()) == (0, "None"), done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "pip install 'graft-server[otel]'" in done.stderr


def test_an_address_that_is_no_url_is_said() -> None:
    done = run("tracing.start('probe', Settings())", GRAFT_OTLP_ENDPOINT="collector:4318")
    assert done.returncode == 0
    assert "GRAFT_OTLP_ENDPOINT" in done.stderr


@pytest.mark.parametrize("path", ["", "/", "/v1/traces", "/v1/traces/"])
def test_the_variable_of_the_standard_counts_too_with_or_without_the_path(path: str, taken: Collector) -> None:
    code = "tracing.start('probe', Settings())\nwith tracing.span('x'): pass\ntracing.stop()"
    done = run(code, OTEL_EXPORTER_OTLP_ENDPOINT=taken.url + path, OTEL_EXPORTER_OTLP_COMPRESSION="gzip")
    assert (done.returncode, done.stderr) == (0, "")
    assert [span.name for span in taken.spans] == ["x"]
    assert taken.encodings == {"gzip"}


def test_spans_nest_also_into_threads_and_backwards_in_time(traced: Collector) -> None:
    with tracing.span("outer", traceparent=TRACEPARENT, nothing=None) as outer:
        at = tracing.current_traceparent()
        assert at is not None
        with tracing.span("inner", items=3):
            tracing.record("past", 1_000.0, 1_002.5, note="from cache")
        outer.set(done=True)
        thread = threading.Thread(target=lambda: tracing.record("elsewhere", 5.0, 4.0, traceparent=at))
        thread.start()
        thread.join()
    tracing.stop()
    seen = {span.name: span for span in traced.spans}
    assert {span.trace for span in seen.values()} == {TRACE}
    assert seen["outer"].parent == PARENT
    assert seen["inner"].parent == seen["elsewhere"].parent == seen["outer"].id == at.split("-")[2]
    assert seen["past"].parent == seen["inner"].id
    assert (seen["past"].begun, seen["past"].ended) == (1_000_000_000_000, 1_002_500_000_000)
    assert seen["elsewhere"].ended == seen["elsewhere"].begun  # a clock that was set back makes no negative span
    assert (seen["outer"].attributes, seen["inner"].attributes) == ({"done": True}, {"items": 3})
    assert seen["outer"].resource["service.version"]


def test_an_exception_is_told_by_its_type_alone(traced: Collector) -> None:
    def fail() -> None:
        with tracing.span("fails", note=f"Bearer {SECRET}"):
            raise ValueError(f"[parameters: ('{SECRET}',)]")

    with pytest.raises(ValueError, match="parameters"):
        fail()
    assert tracing.current_traceparent() is None
    tracing.stop()
    (span,) = traced.spans
    assert (span.failed, span.said, span.attributes["error.type"]) == (True, "ValueError", "ValueError")
    assert not any(SECRET.encode() in body or b"parameters" in body for body in traced.bodies)


@pytest.fixture
def client(taken: Collector, settings: Settings, sqlite_store: Store) -> Iterator[TestClient]:
    app = create_app(settings.model_copy(update={"otlp_endpoint": taken.url}))

    @app.get("/broken")
    def broken() -> None:
        raise RuntimeError(f"the secret is {SECRET}")

    local = ("127.0.0.1", 50000)
    with TestClient(app, "http://127.0.0.1", raise_server_exceptions=False, client=local) as value:
        yield value


def test_every_request_is_a_span_but_those_that_only_look(client: TestClient, taken: Collector) -> None:
    known = client.get("/jobs/job_01k9zq3w6v8d4m2x7c5t0b1n9r?x=1", headers={"traceparent": TRACEPARENT})
    for path in ("/healthz", "/readyz", "/metrics", "/no/such/place", "/broken"):
        client.get(path, headers={"X-Request-ID": f"see{path.replace('/', '.')}"})
    client.__exit__(None, None, None)  # the service ends, and sends what it has
    seen = {span.name: span for span in taken.spans}
    assert sorted(seen) == ["GET", "GET /broken", "GET /jobs/{job_id}"]
    job = seen["GET /jobs/{job_id}"]
    assert (job.trace, job.parent, job.kind, job.service) == (TRACE, PARENT, "server", "graft-api")
    assert job.attributes == {
        "http.request.method": "GET",
        "http.route": "/jobs/{job_id}",
        "http.response.status_code": known.status_code,
        "graft.request_id": known.headers["X-Request-ID"],
    }
    assert not job.failed
    assert (seen["GET"].attributes["graft.request_id"], seen["GET"].parent) == ("see.no.such.place", "")
    assert (seen["GET /broken"].failed, seen["GET /broken"].said) == (True, "RuntimeError")
    assert not any(SECRET.encode() in body for body in taken.bodies)


@pytest.mark.parametrize(
    "values",
    [["nonsense"], [f"00-{'0' * 32}-{PARENT}-01"], [f"ff-{TRACE}-{PARENT}-01"], [TRACEPARENT] * 2, ["\xff"], [""]],
)
def test_a_traceparent_that_is_none_is_ignored(client: TestClient, taken: Collector, values: list[str]) -> None:
    headers = [(b"traceparent", value.encode("latin-1")) for value in values]
    assert client.get("/jobs", headers=headers).status_code == 200
    span = taken.wait_for("GET /jobs")
    assert span.parent == ""
    assert span.trace != TRACE


def test_the_callers_wish_not_to_be_traced_is_respected(client: TestClient, taken: Collector) -> None:
    client.get("/jobs", headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
    client.get("/datasets")
    client.__exit__(None, None, None)
    assert [span.name for span in taken.spans] == ["GET /datasets"]


@pytest.mark.parametrize("dead", [black_hole, nobody])
def test_a_dead_collector_delays_nothing_and_is_said_once(dead: "type[AbstractContextManager[str]]") -> None:
    code = """
import time
tracing.start('probe', Settings())
slowest = 0.0
for number in range(6000):
    began = time.thread_time()
    with tracing.span('x', number=number): pass
    slowest = max(slowest, time.thread_time() - began)
began = time.monotonic(); time.sleep(2.5)
with tracing.span('y'): pass
print(slowest)
began = time.monotonic()
tracing.stop()
print(time.monotonic() - began)
tracing.stop()
"""
    with dead() as url:
        began = time.monotonic()
        done = run(code, GRAFT_OTLP_ENDPOINT=url)
    assert done.returncode == 0, done.stderr
    slowest, stopping = (float(line) for line in done.stdout.split())
    assert slowest < 0.1  # of the thread's own time: six thousand spans, of which two thousand fit the queue
    assert stopping < 5  # one second, whatever is left to send, and a margin for a busy machine
    assert len(complaints(done.stderr)) == 1, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert time.monotonic() - began < 60
