"""Bad input against a whole service: a clear answer each time, and nothing left behind."""

import gzip
import io
import json
import socket
import sqlite3
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from graft import Graft
from graft.types import Dataset, Job
from tests.builders import flat_zip, folder_files, folder_tar, folder_zip, image_bytes, make_tar, make_zip
from tests.e2e.conftest import Service

NEVER = "0" * 26
FOREIGN = "7" * 26
ZIP = {"Content-Type": "application/zip"}
ENDLESS = {"name": "fine_tune", "epochs": 1000, "early_stop": None}


def state(service: Service) -> dict[str, Any]:
    """Everything that a request could leave behind: files and rows."""
    blobs = service.root / "blobs"
    found: dict[str, Any] = {
        "blobs": {path.name for path in blobs.glob("??/*")},
        "pending": [path.name for path in (blobs / "pending").iterdir()],
        "work": [path.name for path in (service.root / "work").glob("*")],
    }
    database = sqlite3.connect(f"file:{service.root / 'graft.db'}?mode=ro", uri=True)
    for table in ("datasets", "jobs", "models", "idempotency_keys"):
        found[table] = database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    database.close()
    return found


def settled(service: Service, wanted: dict[str, Any]) -> dict[str, Any]:
    """The state once it is as wanted: workers tidy up a moment after the row has ended."""
    deadline = time.monotonic() + 60
    while not wanted.items() <= (found := state(service)).items():
        assert time.monotonic() < deadline, (found, wanted)
        time.sleep(0.02)
    return found


@pytest.fixture
def nothing_left(service: Service) -> Iterator[None]:
    """The test leaves the service as it found it."""
    before = settled(service, {"pending": [], "work": []})  # other tests' jobs have ended, and may not have tidied up
    yield
    settled(service, before)


@pytest.fixture(scope="module")
def http(service_url: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=service_url, timeout=60) as value:
        yield value


@pytest.fixture(scope="module")
def data(service_url: str) -> Dataset:
    """A data set with nothing wrong about it."""
    with Graft(service_url) as client:
        return client.datasets.wait(client.datasets.upload(io.BytesIO(folder_zip({"a": 12, "b": 12})), name="good"))


@pytest.fixture(scope="module")
def job(service_url: str, data: Dataset) -> Job:
    """A job that has made a model."""
    with Graft(service_url) as client:
        return client.jobs.wait(client.jobs.create(source=data.id).id, timeout=120)


def upload(http: httpx2.Client, body: bytes, **query: Any) -> dict[str, Any]:
    """Upload and wait for the verdict."""
    reply = http.post("/datasets", content=body, headers=ZIP, params=query)
    assert reply.status_code == 201, reply.text
    path = f"/datasets/{reply.json()['id']}"
    while (dataset := http.get(path).json())["state"] == "validating":
        time.sleep(0.02)
    return dict(dataset)


def finish(http: httpx2.Client, **spec: Any) -> dict[str, Any]:
    """Run a job to its end."""
    reply = http.post("/jobs", json=spec)
    assert reply.status_code == 201, reply.text
    while (job := http.get(f"/jobs/{reply.json()['id']}").json())["state"] in ("queued", "running"):
        time.sleep(0.05)
    return dict(job)


def refused(reply: httpx2.Response, status: int, code: str, param: str | None = None) -> dict[str, Any]:
    """The error of a reply that says what, where, and what to do."""
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (status, code, param), reply.text
    assert error["message"]
    assert error["hint"]
    assert error["request_id"] == reply.headers["X-Request-ID"]
    return dict(error)


def huge_png(width: int = 60_000, height: int = 60_000) -> bytes:
    """A small file that claims to be gigapixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(999))) + chunk(b"IEND", b"")
    )


def zip_bomb() -> bytes:
    return make_zip({"a/1.png": bytes(50_000_000), "b/1.png": image_bytes(1)}, deflate=True)


def cut(archive: bytes) -> bytes:
    return archive[: len(archive) * 6 // 10]


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (zip_bomb, "archive_bomb"),
        (lambda: gzip.compress(make_tar({"a/1.png": bytes(50_000_000)}), 9), "archive_bomb"),
        (lambda: make_zip({"a/x.png": huge_png(), "b/x.png": huge_png(height=59_999)}), "mostly_unreadable"),
        (lambda: cut(folder_zip({"a": 5, "b": 5})), "unreadable_archive"),
        (lambda: cut(folder_tar({"a": 5, "b": 5})), "unreadable_archive"),
        (lambda: cut(folder_tar({"a": 5, "b": 5}, gz=True)), "unreadable_archive"),
        (lambda: make_zip({f"{i:05d}/x.png": image_bytes(0, (4, 4)) for i in range(10_000)}), "too_many_classes"),
        (lambda: b"<html>no archive</html>", "not_an_archive"),
        (lambda: image_bytes(1), "not_an_archive"),
    ],
)
@pytest.mark.usefixtures("nothing_left")
def test_a_bad_archive_is_rejected_with_a_reason(http: httpx2.Client, make: Callable[[], bytes], code: str) -> None:
    dataset = upload(http, make())
    assert dataset["state"] == "rejected"
    assert (dataset["error"]["code"], bool(dataset["error"]["hint"])) == (code, True)
    report = http.get(f"/datasets/{dataset['id']}/report").json()
    assert code in {fault["code"] for fault in report["faults"] if fault["severity"] == "error"}
    assert http.delete(f"/datasets/{dataset['id']}").status_code == 204


@pytest.mark.parametrize(
    ("extra", "codes"),
    [
        ({"../../evil.png": image_bytes(99), "/abs/evil.png": image_bytes(98)}, {"unsafe_path"}),
        ({"a/bomb.png": huge_png()}, {"image_too_large"}),
        ({"a/cut.png": image_bytes(97)[:300], "a/none.png": b""}, {"unreadable_image", "empty_file"}),
        ({"empty/": b""}, {"empty_class"}),
        ({"lonely/1.png": image_bytes(96, label=3)}, {"class_too_small"}),
    ],
)
@pytest.mark.usefixtures("nothing_left")
def test_what_is_bad_is_left_out_and_named(
    service: Service, http: httpx2.Client, extra: dict[str, bytes], codes: set[str]
) -> None:
    dataset = upload(http, folder_zip({"a": 8, "b": 8}, extra=extra))
    assert dataset["state"] == "ready"
    assert dataset["items"] == 16 + ("lonely/1.png" in extra)
    faults = http.get(f"/datasets/{dataset['id']}/report").json()["faults"]
    assert codes <= {fault["code"] for fault in faults}
    assert all(fault["remedy"] for fault in faults)
    assert not list(service.root.parent.rglob("evil*"))
    assert http.delete(f"/datasets/{dataset['id']}").status_code == 204


@pytest.mark.usefixtures("nothing_left")
def test_an_upload_that_is_none_is_refused_at_once(http: httpx2.Client) -> None:
    text = http.post("/datasets", content=b"x", headers={"Content-Type": "text/plain"})
    refused(text, 415, "unsupported_media_type", "Content-Type")
    refused(http.post("/datasets", content=b"", headers=ZIP), 422, "empty_upload", "file")
    refused(http.post("/datasets?seed=-1", content=b"x", headers=ZIP), 422, "out_of_range", "seed")
    refused(http.post("/datasets?nmae=x", content=b"x", headers=ZIP), 422, "unknown_field", "nmae")
    refused(http.post("/datasets", files={"fil": b"x"}), 422, "unknown_field", "fil")


@pytest.mark.usefixtures("nothing_left")
def test_clients_that_go_away_in_the_middle_leave_nothing(service: Service) -> None:
    archive = folder_zip({"a": 100, "b": 100}, size=(64, 64))
    head, tail = b'--B\r\nContent-Disposition: form-data; name="file"; filename="x.zip"\r\n\r\n', b"\r\n--B--\r\n"
    for media, body in (("application/zip", archive), ("multipart/form-data; boundary=B", head + archive + tail)):
        for abruptly in (False, True):
            fields = f"Host: localhost\r\nContent-Type: {media}\r\nContent-Length: {len(body)}\r\n"
            lines = f"POST /datasets HTTP/1.1\r\n{fields}\r\n"
            with socket.create_connection(service.url.removeprefix("http://").split(":")) as connection:
                connection.sendall(lines.encode() + cut(body))
                while not state(service)["pending"]:
                    time.sleep(0.01)
                if abruptly:  # a reset in place of an orderly end
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            while state(service)["pending"]:
                time.sleep(0.01)


@pytest.mark.parametrize(
    ("change", "status", "code", "param"),
    [
        ({"method": {"name": "liner_probe"}}, 422, "unknown_method", "method.name"),
        ({"method": {"name": "fine_tune", "epoch": 1}}, 422, "unknown_field", "method.epoch"),
        ({"method": {"name": "fine_tune", "freeze": "layer9"}}, 422, "unknown_stage", "method.freeze"),
        ({"method": {"name": "linear_probe", "regularisation": -1}}, 422, "out_of_range", "method.regularisation"),
        ({"base_model": "resnet19"}, 422, "unknown_base_model", "base_model"),
        ({"base_model": f"mdl_{NEVER}"}, 404, "model_not_found", "base_model"),
        ({"source": f"ds_{NEVER}"}, 404, "dataset_not_found", "source"),
        ({"source": "ds_x"}, 422, "invalid_value", "source"),
        ({"evaluation": f"ds_{NEVER}"}, 404, "dataset_not_found", "evaluation"),
        ({"sede": 1}, 422, "unknown_field", "sede"),
    ],
)
@pytest.mark.usefixtures("nothing_left")
def test_a_job_with_a_wrong_field_is_refused(
    http: httpx2.Client, data: Dataset, change: dict[str, Any], status: int, code: str, param: str
) -> None:
    refused(http.post("/jobs", json={"source": data.id, **change}), status, code, param)


@pytest.mark.usefixtures("nothing_left")
def test_a_body_that_is_no_job_is_refused(http: httpx2.Client, data: Dataset) -> None:
    text = http.post("/jobs", content=json.dumps({"source": data.id}), headers={"Content-Type": "text/plain"})
    refused(text, 415, "unsupported_media_type")
    json_ = {"Content-Type": "application/json"}
    refused(http.post("/jobs", content="{", headers=json_), 400, "invalid_json")
    refused(http.post("/jobs", content="[" * 100_000, headers=json_), 400, "invalid_json")
    refused(http.post("/jobs", content=b'"' + bytes(100_000_000) + b'"', headers=json_), 413, "too_large")


@pytest.mark.parametrize(
    ("archive", "code"),
    [
        (lambda: flat_zip(6), "labels_required"),
        (lambda: folder_zip({"only": 6}, splits=["train", "test"]), "too_few_classes"),
        (lambda: folder_zip({"a": 1, "b": 1}), "no_held_out_items"),
        (
            lambda: make_zip(
                {**folder_files({"a": 6}, prefix="train"), **folder_files({"a": 3, "b": 3}, prefix="test", seed=1)}
            ),
            "class_without_items",
        ),
    ],
)
@pytest.mark.usefixtures("nothing_left")
def test_data_that_cannot_be_learnt_from_is_refused(
    http: httpx2.Client, archive: Callable[[], bytes], code: str
) -> None:
    dataset = upload(http, archive())
    assert dataset["state"] == "ready"
    refused(http.post("/jobs", json={"source": dataset["id"]}), 409, code, "source")
    assert http.delete(f"/datasets/{dataset['id']}").status_code == 204
    refused(http.post("/jobs", json={"source": dataset["id"]}), 404, "dataset_not_found", "source")


@pytest.mark.usefixtures("nothing_left")
def test_what_belongs_to_another_reads_like_what_never_was(
    service: Service, http: httpx2.Client, data: Dataset, job: Job
) -> None:
    database = sqlite3.connect(service.root / "graft.db", timeout=10, isolation_level=None)
    for table, noun in (("models", "mdl"), ("datasets", "ds"), ("jobs", "job")):
        names = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        chosen = ", ".join({"id": f"'{noun}_{FOREIGN}'", "tenant": "'other'"}.get(name, name) for name in names)
        database.execute(f"INSERT INTO {table} SELECT {chosen} FROM {table} WHERE tenant = 'default' LIMIT 1")
    try:
        told = []
        for tail in (FOREIGN, NEVER):
            replies = [
                http.get(f"/models/mdl_{tail}"),
                http.post(f"/models/mdl_{tail}/predict", files={"files": image_bytes(1)}),
                http.delete(f"/models/mdl_{tail}"),
                http.get(f"/datasets/ds_{tail}"),
                http.delete(f"/datasets/ds_{tail}"),
                http.get(f"/jobs/job_{tail}/events"),
                http.post(f"/jobs/job_{tail}/cancel"),
                http.post("/jobs", json={"source": data.id, "base_model": f"mdl_{tail}"}),
                http.post("/jobs", json={"source": f"ds_{tail}"}),
            ]
            errors = [reply.json()["error"] | {"request_id": None} for reply in replies]
            assert {reply.status_code for reply in replies} == {404}
            told.append(json.dumps(errors).replace(tail, "*"))
        assert told[0] == told[1]
        assert all(FOREIGN not in http.get(f"/{noun}?limit=100").text for noun in ("models", "datasets", "jobs"))
    finally:
        for table in ("models", "datasets", "jobs"):
            database.execute(f"DELETE FROM {table} WHERE tenant = 'other'")
        database.close()


def test_what_a_job_needs_cannot_be_deleted_under_it(http: httpx2.Client, data: Dataset, job: Job) -> None:
    running = http.post("/jobs", json={"source": data.id, "method": ENDLESS}).json()["id"]
    queued = http.post("/jobs", json={"source": data.id, "base_model": job.model_id}).json()["id"]
    while http.get(f"/jobs/{running}").json()["state"] == "queued":
        time.sleep(0.02)
    refused(http.delete(f"/datasets/{data.id}"), 409, "dataset_in_use")
    refused(http.delete(f"/models/{job.model_id}"), 409, "model_in_use")
    refused(http.post(f"/jobs/{queued}/stop"), 409, "job_not_started")
    assert http.post(f"/jobs/{queued}/cancel").json()["state"] == "cancelled"
    refused(http.get(f"/jobs/{running}/report"), 409, "report_not_ready")
    assert http.post(f"/jobs/{running}/cancel").status_code == 202
    while http.get(f"/jobs/{running}").json()["state"] == "running":
        time.sleep(0.05)
    refused(http.post(f"/jobs/{running}/stop"), 409, "job_finished")


def odd_images(seed: int, label: int) -> dict[str, bytes]:
    """The same picture in many unusual shapes."""
    colour = Image.open(io.BytesIO(image_bytes(seed, (64, 48), label)))
    grey, turned = colour.convert("L"), Image.Exif()
    turned[0x0112] = 6
    wide = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    return {
        "grey.png": _encoded(grey, "PNG"),
        "cmyk.jpg": _encoded(colour.convert("CMYK"), "JPEG"),
        "sixteen.png": _encoded(wide, "PNG"),
        "animated.gif": _encoded(colour, "GIF", save_all=True, append_images=[colour.rotate(90)]),
        "palette.png": _encoded(colour.quantize(16), "PNG"),
        "alpha.png": _encoded(colour.convert("RGBA"), "PNG"),
        "turned.jpg": _encoded(colour, "JPEG", exif=turned),
        "strip.png": _encoded(colour.resize((5000, 10)), "PNG"),
        "dot.png": _encoded(colour.resize((1, 1)), "PNG"),
    }


def _encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def test_images_of_every_shape_are_trained_on_and_predicted(http: httpx2.Client) -> None:
    files = {
        f"{name}/{seed}_{kind}": image
        for label, name in enumerate("ab")
        for seed in range(2)
        for kind, image in odd_images(10 * label + seed, label).items()
    }
    dataset = upload(http, make_zip(files))
    assert (dataset["state"], dataset["items"]) == ("ready", len(files))
    done = finish(http, source=dataset["id"])
    assert done["state"] == "succeeded", done["error"]
    images = [("files", (name, image)) for name, image in odd_images(5, 1).items()]
    answers = http.post(f"/models/{done['model_id']}/predict", files=images).json()["predictions"]
    assert [one["label"] in ("a", "b") for one in answers] == [True] * len(images)


def test_strange_class_names_go_through_to_the_page_and_the_bundle(http: httpx2.Client) -> None:
    names = ["naïve café", "🐜🐝", "<script>alert(1)<", "{{7*7}}", "a'b\"c&amp;", "=cmd()", "y" * 250, " space "]
    dataset = upload(http, folder_zip(dict.fromkeys(names, 3)), name="<b>🐜</b>")
    assert sorted(dataset["classes"]) == sorted(names)
    done = finish(http, source=dataset["id"])
    assert done["state"] == "succeeded", done["error"]
    page = http.get(f"/jobs/{done['id']}/report", headers={"Accept": "text/html"}).text
    assert "<script>alert" not in page
    assert "{{7*7}}" in page
    with zipfile.ZipFile(io.BytesIO(http.get(f"/models/{done['model_id']}").content)) as bundle:
        assert json.loads(bundle.read("manifest.json"))["classes"] == dataset["classes"]


@pytest.mark.parametrize(
    "archive",
    [
        lambda: folder_zip({"a": 2, "b": 2}),
        lambda: make_zip(
            {**folder_files({"a": 6, "b": 6}, prefix="train"), **folder_files({"a": 4}, prefix="test", seed=1)}
        ),
    ],
    ids=["two of each class", "a class that is not measured"],
)
@pytest.mark.parametrize("method", ["linear_probe", "fine_tune"])
def test_the_smallest_data_still_gives_a_model(http: httpx2.Client, archive: Callable[[], bytes], method: str) -> None:
    options = {"name": method} | ({"epochs": 1, "freeze": "all"} if method == "fine_tune" else {})
    done = finish(http, source=upload(http, archive())["id"], method=options)
    assert done["state"] == "succeeded", done["error"]
    assert http.get(f"/jobs/{done['id']}/report", headers={"Accept": "text/html"}).status_code == 200


def test_an_evaluation_set_must_fit(http: httpx2.Client, data: Dataset) -> None:
    some = upload(http, folder_zip({"a": 4}, splits=["train", "val"], seed=8))["id"]
    other = upload(http, folder_zip({"a": 4, "z": 4}, seed=8))["id"]
    flat = upload(http, flat_zip(4, seed=80))["id"]
    for evaluation, code in ((other, "classes_differ"), (flat, "labels_required")):
        refused(http.post("/jobs", json={"source": data.id, "evaluation": evaluation}), 409, code, "evaluation")
    refused(
        http.post("/jobs", json={"source": data.id, "evaluation": data.id}), 422, "evaluation_is_source", "evaluation"
    )
    done = finish(http, source=data.id, evaluation=some)
    assert done["state"] == "succeeded", done["error"]
    report = http.get(f"/jobs/{done['id']}/report").json()
    assert (report["evaluated_on"], report["held_out_items"]) == ("evaluation_dataset", 8)
