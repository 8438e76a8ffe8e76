"""The main job through the SDK on a real service: upload, adapt, watch, read the report, download, predict."""

import hashlib
import json
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from core.contract.models import ModelManifest
from core.modality.image import decode, prepare
from graft import Graft
from graft.errors import ConflictError, DatasetRejectedError, NotFoundError
from graft.types import Dataset, Job
from tests.builders import digits_zip, flat_zip, folder_zip, image_bytes


def upload(client: Graft, data: bytes, name: str) -> Dataset:
    return client.datasets.wait(client.datasets.upload(BytesIO(data), name=name), timeout=60)


@pytest.fixture(scope="module")
def digits(service_url: str) -> Dataset:
    with Graft(service_url) as client:
        return upload(client, digits_zip(limit=400), "digits")


@pytest.fixture(scope="module")
def probe(service_url: str, digits: Dataset) -> Job:
    with Graft(service_url) as client:
        return client.jobs.wait(client.jobs.create(source=digits.id, method="linear_probe").id, timeout=180)


def test_probe_learns_and_tells_its_steps(client: Graft, probe: Job) -> None:
    assert probe.state == "succeeded"
    assert probe.metrics["accuracy"] > 0.85
    names = ["prepare", "features", "train", "compare", "evaluate", "export", "store"]
    assert [step.name for step in probe.steps] == names
    assert all(step.state == "done" and step.seconds is not None for step in probe.steps)


def test_events_are_numbered_and_tell_the_whole_story(client: Graft, probe: Job) -> None:
    history = list(client.jobs.stream(probe.id))
    assert [event.seq for event in history] == list(range(1, len(history) + 1))
    states = [event.data["state"] for event in history if event.kind == "state"]
    assert states == ["queued", "running", "succeeded"]


def test_second_job_takes_the_features_from_the_cache(client: Graft, digits: Dataset, probe: Job) -> None:
    method = {"name": "linear_probe", "solver": "ridge"}
    again = client.jobs.wait(client.jobs.create(source=digits.id, method=method).id, timeout=60)
    notes = {step.name: step.note for step in again.steps}
    assert "cache" in notes["features"]
    assert "cache" not in {step.name: step.note for step in probe.steps}["features"]
    assert again.metrics["accuracy"] > 0.85


def test_downloaded_graph_predicts_what_the_service_predicts(client: Graft, probe: Job, tmp_path: Path) -> None:
    assert probe.model_id is not None
    path = client.models.download(probe.model_id, tmp_path / "model.zip")
    with zipfile.ZipFile(path) as bundle:
        assert {"model.onnx", "model.safetensors", "manifest.json", "README.md"} <= set(bundle.namelist())
        manifest = ModelManifest.model_validate_json(bundle.read("manifest.json"))
        graph = bundle.read("model.onnx")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == client.models.get(probe.model_id).sha256
    assert manifest.parity.max_abs_difference <= 1e-4

    with zipfile.ZipFile(BytesIO(digits_zip(limit=400))) as archive:
        names = [name for name in archive.namelist() if name.endswith(".png")][::40]
        images = [archive.read(name) for name in names]
    session = onnxruntime.InferenceSession(graph)
    batch = np.stack([prepare(decode(data, max_pixels=10**7), manifest.prepare) for data in images])
    wanted = session.run(["probabilities"], {"image": batch})[0]
    answer = client.models.predict(probe.model_id, images=images, top_k=10)
    for row, prediction in zip(wanted, answer.predictions, strict=True):
        assert prediction.label == manifest.classes[int(row.argmax())]
        assert prediction.probability == pytest.approx(float(row.max()), abs=1e-5)
        assert sum(score.probability for score in prediction.top) == pytest.approx(1, abs=1e-4)


def test_one_bad_item_fails_alone(client: Graft, probe: Job) -> None:
    assert probe.model_id is not None
    good, bad = client.models.predict(probe.model_id, images=[image_bytes(1), b"no image"]).predictions
    assert good.label is not None
    assert bad.error is not None
    assert bad.error.code == "unsupported_format"


def test_report_agrees_with_itself(client: Graft, probe: Job) -> None:
    report = client.jobs.report(probe.id)
    confusion = np.array(report.confusion)
    accuracy = next(metric for metric in report.metrics if metric.name == "accuracy")
    assert confusion.sum() == report.held_out_items == accuracy.n
    assert accuracy.value == pytest.approx(np.trace(confusion) / confusion.sum(), abs=1e-6)
    assert accuracy.low is not None
    assert accuracy.high is not None
    assert accuracy.low < accuracy.value <= accuracy.high


def test_fine_tune_starts_from_the_users_own_model(client: Graft, digits: Dataset, probe: Job) -> None:
    method = {"name": "fine_tune", "epochs": 1, "freeze": "all", "augmentation": "none"}
    job = client.jobs.create(source=digits.id, method=method, base_model=probe.model_id)
    done = client.jobs.wait(job.id, timeout=180)
    assert done.state == "succeeded"
    assert done.model_id is not None
    lineage = client.models.get(done.model_id).manifest["lineage"]
    assert lineage == [probe.model_id, "efficientnet_lite0"]


def test_cancel_leaves_no_model(client: Graft, digits: Dataset) -> None:
    method = {"name": "fine_tune", "epochs": 500, "early_stop": None}
    job = client.jobs.create(source=digits.id, method=method)
    for event in client.jobs.stream(job.id):
        if event.kind == "step" and event.data["name"] == "train":
            client.jobs.cancel(job.id)
    ended = client.jobs.get(job.id)
    assert (ended.state, ended.model_id) == ("cancelled", None)


def test_stop_keeps_the_best_so_far(client: Graft, digits: Dataset) -> None:
    method = {"name": "fine_tune", "epochs": 500, "early_stop": None, "freeze": "all", "augmentation": "none"}
    job = client.jobs.create(source=digits.id, method=method)
    for event in client.jobs.stream(job.id):
        if event.kind == "metric":
            client.jobs.stop(job.id)
            break
    ended = client.jobs.wait(job.id, timeout=60)
    assert ended.state == "succeeded"
    assert ended.stop_requested
    assert ended.model_id is not None


def test_identical_bytes_are_stored_once(client: Graft, digits: Dataset) -> None:
    twin = upload(client, digits_zip(limit=400), "the same again")
    assert twin.id != digits.id
    assert twin.sha256 == digits.sha256
    client.datasets.delete(twin.id)
    assert client.datasets.get(digits.id).state == "ready"
    assert next(iter(client.datasets.samples(digits.id)))


def test_unlabelled_data_is_refused_for_a_supervised_method(client: Graft) -> None:
    flat = upload(client, flat_zip(6), "flat")
    assert flat.labelled is False
    with pytest.raises(ConflictError) as caught:
        client.jobs.create(source=flat.id, method="linear_probe")
    assert caught.value.code == "labels_required"


def test_deleted_data_set_is_gone(client: Graft) -> None:
    data = upload(client, folder_zip({"a": 4, "b": 4}), "short-lived")
    client.datasets.delete(data.id)
    with pytest.raises(NotFoundError):
        client.jobs.create(source=data.id, method="linear_probe")


def test_rejected_upload_names_every_fault(client: Graft) -> None:
    with pytest.raises(DatasetRejectedError) as caught:
        upload(client, b"PK\x03\x04 not really a zip", "broken")
    assert "archive" in str(caught.value)


def test_missing_weights_fail_the_job_with_the_file_to_fetch(client: Graft, digits: Dataset) -> None:
    job = client.jobs.create(source=digits.id, base_model="vgg16_bn")
    ended = client.jobs.wait(job.id, timeout=120, raise_on_failure=False)
    assert ended.state == "failed"
    assert ended.error is not None
    assert ended.error.code == "weights_missing"
    assert "GRAFT_WEIGHTS_DIR" in json.dumps(ended.error.model_dump())
