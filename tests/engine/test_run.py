"""Whole jobs through the engine's door, on small real data."""

import io
import json
import re
import subprocess
import sys
import zipfile

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.numpy import load

from core.contract.errors import JobError
from core.contract.methods import FineTune, LinearProbe
from core.contract.models import ModelManifest
from core.modality.image import decode, prepare
from tests.builders import flat_zip, folder_zip, image_bytes
from tests.engine.jobs import TINY, Workshop
from worker.engine.backbones import load as load_backbone
from worker.engine.door import CancelledError
from worker.engine.metrics import softmax

CLASSES = {"cat": 30, "dog": 30, "owl": 30}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return Workshop(tmp_path_factory.mktemp("jobs"))


@pytest.fixture(scope="module")
def source(shop):
    return shop.data(folder_zip(CLASSES, size=(40, 48), format="JPEG"))


@pytest.fixture(scope="module")
def probe(shop, source):
    result = shop.run(LinearProbe(), source)
    return result, list(shop.events)


@pytest.fixture(scope="module")
def tuned(shop, source):
    options = FineTune(epochs=3, batch_size=16, head_lr=0.02, backbone_lr=1e-3, head_start=False, batch_norm="train")
    result = shop.run(options, source)
    return result, list(shop.events)


def member(result, name):
    with zipfile.ZipFile(result.bundle) as archive:
        return archive.read(name)


def predict(result, images):
    session = onnxruntime.InferenceSession(member(result, "model.onnx"))
    return session.run(["probabilities", "logits", "embedding"], {"image": images})


def fresh(count, config):
    return np.stack(
        [prepare(decode(image_bytes(9000 + i, (64, 50), i % 3), max_pixels=10**6), config) for i in range(count)]
    )


def check_report(result, epochs):
    report, manifest = result.report, result.manifest
    assert report.held_out_items == sum(map(sum, report.confusion)) == sum(row.support for row in report.class_table)
    assert report.train_items + report.validation_items + report.held_out_items == 90
    figures = {metric.name: metric for metric in report.metrics}
    right = sum(report.confusion[i][i] for i in range(3))
    assert figures["accuracy"].value == pytest.approx(right / report.held_out_items)
    assert figures["accuracy"].low <= figures["accuracy"].value <= figures["accuracy"].high
    assert len(report.mistakes) == min(20, report.held_out_items - right)
    assert [step.name for step in report.steps][-4:] == ["train", "compare", "evaluate", "export"]
    assert report.curve_axis == ("epoch" if epochs else "log10_regularisation")
    assert sum(bin.count for bin in report.calibration.bins) == report.held_out_items
    assert manifest.temperature == report.calibration.temperature
    assert manifest.classes == ["cat", "dog", "owl"]
    assert manifest.parity.items >= 8
    assert manifest.parity.max_abs_difference <= 1e-4
    assert ModelManifest.model_validate_json(member(result, "manifest.json")) == manifest


def test_a_probe_from_data_to_bundle(probe):
    result, events = probe
    check_report(result, epochs=False)
    assert result.report.metrics[0].value > 0.9
    steps = [(data["name"], data["state"]) for kind, data in events if kind == "step"]
    names = ["prepare", "features", "train", "compare", "evaluate", "export"]
    assert steps == [(name, state) for name in names for state in ("running", "done")]
    fractions = [data["fraction"] for kind, data in events if kind == "progress"]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_the_graph_of_a_probe_says_what_pytorch_says(probe, shop):
    result, _ = probe
    images = fresh(6, result.manifest.prepare)
    probabilities, logits, embedding = predict(result, images)
    module = load_backbone(TINY, weights_dir=shop.weights).module
    with torch.inference_mode():
        expected = module(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(embedding, expected, atol=1e-4 * np.abs(expected).max())
    tensors = load(member(result, "model.safetensors"))
    unit = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    by_hand = unit @ tensors["head.weight"].T + tensors["head.bias"]
    np.testing.assert_allclose(probabilities, softmax(by_hand, result.manifest.temperature), atol=1e-3)
    assert (logits.argmax(axis=1) == np.arange(6) % 3).all()


def test_a_second_probe_comes_from_the_cache_and_is_the_same(probe, shop, source):
    first, _ = probe
    second = shop.run(LinearProbe(), source)
    assert {step.name: step.note for step in second.report.steps}["features"] == "from cache"
    assert member(first, "model.onnx") == member(second, "model.onnx")


def test_a_network_is_tuned_and_its_graph_agrees(tuned, shop):
    result, events = tuned
    check_report(result, epochs=True)
    epochs = [data["epoch"] for kind, data in events if kind == "metric" and "epoch" in data]
    assert epochs == [0, 1, 2, 3]
    tensors = load(member(result, "model.safetensors"))
    backbone = load_backbone(TINY, weights_dir=shop.weights)
    before = {name: part.numpy().copy() for name, part in backbone.module.state_dict().items()}
    moved = [name for name, part in before.items() if not np.array_equal(part, tensors[f"backbone.{name}"])]
    assert len(moved) > 0.9 * len(before)
    state = {name: torch.from_numpy(tensors[f"backbone.{name}"]) for name in before}
    backbone.module.load_state_dict(state)
    images = fresh(6, result.manifest.prepare)
    with torch.inference_mode():
        embedding = backbone.module.eval()(torch.from_numpy(images)).numpy()
    logits = embedding @ tensors["head.weight"].T + tensors["head.bias"]
    np.testing.assert_allclose(predict(result, images)[0], softmax(logits, result.manifest.temperature), atol=1e-4)
    losses = [point.train_loss for point in result.report.curve[1:]]
    assert losses[-1] < losses[0]


def test_a_tuned_model_can_be_the_parent_of_another_job(tuned, shop, source):
    parent, _ = tuned
    child = shop.run(LinearProbe(), source, base_model=parent.manifest.model_id, parent=parent.bundle)
    assert child.manifest.lineage == [parent.manifest.model_id, TINY]
    images = fresh(4, child.manifest.prepare)
    np.testing.assert_allclose(predict(child, images)[2], predict(parent, images)[2], atol=1e-3)


def test_an_evaluation_data_set_is_held_out_whole_and_mapped_by_name(shop, source):
    # No cats, so its labels are other numbers than the source's.
    evaluation = shop.data(folder_zip({"cat": 0, "dog": 7, "owl": 8}, size=(40, 48), format="JPEG", seed=5))
    result = shop.run(LinearProbe(), source, evaluation)
    report = result.report
    assert report.evaluated_on == "evaluation_dataset"
    assert report.held_out_items == 15
    assert report.train_items + report.validation_items == 90
    assert [row.support for row in report.class_table] == [0, 7, 8]
    assert report.metrics[0].value > 0.8
    assert any("'cat'" in note for note in report.notes)
    assert [use.role for use in result.manifest.data] == ["source", "evaluation"]


def test_held_out_items_that_were_trained_on_are_told(shop, source):
    result = shop.run(LinearProbe(), source, shop.data(folder_zip(CLASSES, size=(40, 48), format="JPEG"), seed=1))
    assert any("90 held-out files stand among the training" in note for note in result.report.notes)


def test_options_and_costs_stand_in_the_manifest(probe):
    manifest = probe[0].manifest
    assert manifest.method["name"] == "linear_probe"
    assert isinstance(manifest.method["regularisation"], float)  # `auto` is resolved
    assert manifest.seconds > 0
    assert manifest.hardware["device"] == "cpu"
    assert "torch" in manifest.versions
    assert (
        manifest.data[0].splits == {"train": 63, "validation": 12, "test": 15}
        or sum(manifest.data[0].splits.values()) == 90
    )


@pytest.mark.parametrize(
    ("archive", "code"),
    [
        (lambda: flat_zip(12), "labels_required"),
        (lambda: folder_zip({"only": 12}, splits=["train", "val"]), "too_few_classes"),
    ],
)
def test_unusable_sources_are_refused(shop, archive, code):
    with pytest.raises(JobError) as caught:
        shop.run(LinearProbe(), shop.data(archive()))
    assert caught.value.code == code
    assert caught.value.hint
    assert caught.value.param == "source"


def test_a_foreign_class_in_the_evaluation_is_named(shop, source):
    with pytest.raises(JobError) as caught:
        shop.run(LinearProbe(), source, shop.data(folder_zip({"cat": 6, "yak": 6}, seed=3)))
    assert caught.value.code == "classes_differ"
    assert "'yak'" in caught.value.message


def test_an_unknown_stage_is_refused_before_anything_is_computed(shop, source):
    with pytest.raises(JobError) as caught:
        shop.run(FineTune(freeze="layer9"), source)
    assert caught.value.code == "unknown_stage"
    assert "layer1" in (caught.value.hint or "")
    assert [data["name"] for data in shop.said("step")] == ["prepare"]


@pytest.mark.parametrize("method", [LinearProbe(), FineTune(epochs=5)])
def test_cancel_ends_the_job(shop, source, method):
    asked = []

    def wish():
        asked.append(1)
        return "cancel" if any(data["name"] == "train" for data in shop.said("step")) else "go_on"

    with pytest.raises(CancelledError):
        shop.run(method, source, wish=wish)
    assert len(asked) > 1
    assert shop.said("step")[-1]["name"] == "train"
    assert shop.said("step")[-1]["state"] == "running"


def test_the_readme_runs_as_printed(probe, tmp_path):
    result, _ = probe
    for name in ("model.onnx", "manifest.json"):
        (tmp_path / name).write_bytes(member(result, name))
    picture = image_bytes(4711, (90, 60), label=1, format="JPEG")
    (tmp_path / "photo.jpg").write_bytes(picture)
    readme = member(result, "README.md").decode()
    code = re.search(r"```python\n(.*?)```", readme, re.DOTALL)[1]
    out = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    label, confidence = out.split()
    image = prepare(decode(picture, max_pixels=10**6), result.manifest.prepare)[None]
    probabilities = predict(result, image)[0][0]
    assert label == result.manifest.classes[probabilities.argmax()]
    assert float(confidence) == pytest.approx(probabilities.max(), abs=0.02)
    for fact in (result.manifest.data[0].content_sha256, result.manifest.licence, "Seed 0", "torch"):
        assert fact in readme


def test_bundle_members_are_stored(probe):
    with zipfile.ZipFile(io.BytesIO(probe[0].bundle.read_bytes())) as archive:
        assert archive.namelist() == ["model.onnx", "model.safetensors", "manifest.json", "README.md"]
        assert all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())
        assert json.loads(archive.read("manifest.json"))["model_id"] == probe[0].manifest.model_id
    assert list(probe[0].bundle.parent.iterdir()) == [probe[0].bundle]  # nothing else is left


def test_importing_the_engine_is_cheap():
    code = "import sys, worker.engine; sys.exit(any(name in sys.modules for name in ('torch', 'sklearn', 'onnx')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
