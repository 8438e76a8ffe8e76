"""Traces of a whole service: one connected trace from the request to the last step, and none that anybody waits for."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import httpx2
import pytest

from benchmarks.common import free_port
from graft import Graft
from tests.builders import digits_zip, image_bytes
from tests.collector import black_hole, collector
from tests.e2e.conftest import BIN, Service

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
STEPS = ["prepare", "features", "train", "compare", "evaluate", "export", "store"]


@contextmanager
def service(root: Path, collector_url: str) -> Iterator[tuple[Service, list[float]]]:
    """A service that sends its traces there; afterwards the list holds how long it took to end, in seconds."""
    port = free_port()
    env = os.environ | {"GRAFT_DATA_DIR": str(root), "GRAFT_PORT": str(port), "GRAFT_OTLP_ENDPOINT": collector_url}
    env["OTEL_EXPORTER_OTLP_COMPRESSION"] = "gzip"
    up = subprocess.run([BIN / "graftd", "up", "--detach"], env=env, capture_output=True, text=True, timeout=150)
    assert up.returncode == 0, up.stdout + up.stderr
    ending: list[float] = []
    try:
        yield Service(f"http://127.0.0.1:{port}", root), ending
    finally:
        began = time.monotonic()
        down = subprocess.run([BIN / "graftd", "down"], env=env, capture_output=True, text=True, timeout=60)
        ending.append(time.monotonic() - began)
    assert down.returncode == 0, down.stdout + down.stderr


def adapt(url: str) -> tuple[str, str, httpx2.Response]:
    """Upload digits, adapt a model with a `traceparent`, predict once: data set, job, and the reply to POST /jobs."""
    with Graft(url) as client:
        dataset = client.datasets.wait(client.datasets.upload(BytesIO(digits_zip(limit=200)), name="d"), timeout=120)
        spec = {"source": dataset.id, "method": {"name": "linear_probe", "solver": "ridge"}}
        made = httpx2.post(f"{url}/jobs", json=spec, headers={"traceparent": f"00-{TRACE}-{PARENT}-01"}, timeout=60)
        assert made.status_code == 201, made.text
        job = client.jobs.wait(made.json()["id"], timeout=240)
        assert (job.state, job.model_id is not None) == ("succeeded", True)
        list(client.jobs.stream(job.id))
        assert client.models.predict(job.model_id or "", images=[image_bytes(1)]).predictions[0].label
    return dataset.id, job.id, made


@pytest.mark.timeout(600)
def test_one_trace_leads_from_the_request_to_every_step(tmp_path: Path) -> None:
    with collector() as found:
        with service(tmp_path / "data", found.url) as (running, _):
            dataset, job, made = adapt(running.url)
        spans = list(found.spans)  # the programs have ended: everything is here
    assert found.encodings == {"gzip"}
    trace = {span.name: span for span in spans if span.trace == TRACE}
    assert sorted(trace) == sorted(["POST /jobs", "attempt", *STEPS])
    assert len(trace) == sum(span.trace == TRACE for span in spans)
    request, attempt = trace["POST /jobs"], trace["attempt"]
    assert (request.parent, request.kind, request.service) == (PARENT, "server", "graft-api")
    assert request.attributes["http.response.status_code"] == 201
    assert request.attributes["graft.request_id"] == made.headers["X-Request-ID"]
    assert (attempt.parent, attempt.kind, attempt.service, attempt.failed) == (
        request.id,
        "consumer",
        "graft-worker",
        False,
    )
    assert attempt.attributes == {
        "graft.job_id": job,
        "graft.method": "linear_probe",
        "graft.attempt": 1,
        "graft.request_id": made.headers["X-Request-ID"],
        "graft.state": "succeeded",
    }
    begun = [trace[name].begun for name in STEPS]
    assert begun == sorted(begun)
    for name in STEPS:
        step = trace[name]
        assert (step.parent, step.service, step.attributes["graft.step.state"]) == (attempt.id, "graft-worker", "done")
        assert attempt.begun <= step.begun <= step.ended <= attempt.ended
        assert step.attributes["graft.step.seconds"] >= 0
    assert any(trace[name].attributes.get("graft.step.note") for name in STEPS)

    by_name = {span.name: span for span in spans}
    ingest, predict = by_name["ingest"], by_name["POST /models/{model_id}/predict"]
    assert (ingest.parent, ingest.attributes["graft.dataset_id"]) == ("", dataset)
    assert ingest.attributes["graft.state"] == "ready"
    for name in ("decode", "infer"):
        assert (by_name[name].parent, by_name[name].trace) == (predict.id, predict.trace)
        assert by_name[name].attributes == {"items": 1}
    assert by_name["GET /jobs/{job_id}/events"].attributes["http.response.status_code"] == 200
    assert not {"GET /healthz", "GET /readyz", "GET /metrics"} & set(by_name)


@pytest.mark.timeout(600)
def test_a_collector_that_never_answers_delays_nothing(tmp_path: Path) -> None:
    with black_hole() as url, service(tmp_path / "data", url) as (running, ending):
        adapt(running.url)
        began = time.monotonic()
        with httpx2.Client(base_url=running.url, timeout=30) as client:
            took = sorted(client.get("/jobs").elapsed.total_seconds() for _ in range(200))
        assert time.monotonic() - began < 60
        assert took[100] < 0.5  # an export takes a second: nobody waits for one
    assert ending[0] < 20
    said = [line for line in (running.root / "logs" / "graftd.log").read_text().splitlines() if "not delivered" in line]
    lived = time.monotonic() - began
    assert 1 <= len(said) <= 3 * (2 + lived // 60 + 4), said  # three programs, each once a minute
