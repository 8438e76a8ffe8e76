"""Imports: an honest network comes through with the same answers, everything else is refused with a reason."""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from safetensors.torch import load
from torch import Tensor
from torchvision import models

from core.contract.base import new_id
from core.contract.errors import GraftError
from core.contract.methods import FineTune, LinearProbe
from core.contract.models import ModelManifest
from tests.builders import folder_zip
from tests.engine.jobs import TINY, Workshop, tiny_state
from tests.engine.uploads import entry, forged, members, state_bytes, with_manifest, zipped
from worker.engine.door import CancelledError, DataRef, Places, Wish
from worker.engine.importing import Imported, ImportSpec, check_and_export

CLASSES = [f"class {number}" for number in range(1000)]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("imports"))


@pytest.fixture(scope="module")
def source(shop: Workshop) -> DataRef:
    return shop.data(folder_zip({"cat": 16, "dog": 16, "owl": 16}, size=(40, 48), format="JPEG"))


@pytest.fixture(scope="module")
def bundle(shop: Workshop, source: DataRef) -> bytes:
    """A bundle that a job made."""
    return shop.run(LinearProbe(normalise="standardise"), source).bundle.read_bytes()


@pytest.fixture(scope="module")
def files(bundle: bytes) -> dict[str, bytes]:
    return members(bundle)


def _import(shop: Workshop, upload: bytes, wish: Wish = "go_on", **said: Any) -> Imported:
    folder = shop.root / new_id("req")
    folder.mkdir()
    path = folder / "upload"
    path.write_bytes(upload)
    spec = ImportSpec(new_id("mdl"), "mine", hashlib.sha256(upload).hexdigest(), **said)
    places = Places(folder / "out", shop.root / "cache", device="cpu", threads=1)
    return check_and_export(path, spec, places, should_stop=lambda: wish)


def _refused(shop: Workshop, upload: bytes, **said: Any) -> GraftError:
    with pytest.raises(GraftError) as caught:
        _import(shop, upload, **said)
    assert caught.value.hint
    assert len(caught.value.message) < 600
    return caught.value


def _answers(graph: bytes, images: np.ndarray, output: str = "probabilities") -> np.ndarray:
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    answer: np.ndarray = session.run([output], {"image": images})[0]
    return answer


def _images(size: int = 160) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(3, 3, size, size)).astype(np.float32)


def test_a_bundle_comes_through_with_the_same_answers(shop: Workshop, bundle: bytes, files: dict[str, bytes]) -> None:
    made = _import(shop, bundle)
    new = members(made.bundle)
    images = _images()
    assert np.abs(_answers(new["model.onnx"], images) - _answers(files["model.onnx"], images)).max() < 1e-4
    old = ModelManifest.model_validate_json(files["manifest.json"])
    manifest = made.manifest
    assert ModelManifest.model_validate_json(new["manifest.json"]) == manifest
    assert (manifest.classes, manifest.temperature, manifest.prepare) == (old.classes, old.temperature, old.prepare)
    assert manifest.model_id != old.model_id
    assert manifest.metrics == []
    assert manifest.data == []
    assert manifest.held_out_items == 0
    assert manifest.method == {"name": "import"}
    assert manifest.job_id is None
    assert manifest.imported is not None
    assert manifest.imported.origin_model_id == old.model_id
    assert manifest.imported.claimed_metrics == old.metrics
    assert manifest.imported.sha256 == hashlib.sha256(bundle).hexdigest()
    assert "was not measured here" in new["README.md"].decode()
    assert load(new["model.safetensors"]).keys() == load(files["model.safetensors"]).keys()


@pytest.mark.parametrize("method", [LinearProbe(normalise="l2"), FineTune(epochs=1, freeze="none", batch_size=8)])
def test_what_the_head_does_to_the_embedding_is_not_lost(shop: Workshop, source: DataRef, method: Any) -> None:
    first = shop.run(method, source).bundle
    made = _import(shop, first.read_bytes())
    images = _images()
    before, after = (_answers(members(path)["model.onnx"], images) for path in (first, made.bundle))
    assert np.abs(before - after).max() < 1e-4


def test_an_imported_model_can_be_imported_again_and_be_a_base_model(
    shop: Workshop, bundle: bytes, files: dict[str, bytes], source: DataRef
) -> None:
    once = _import(shop, bundle)
    twice = _import(shop, once.bundle.read_bytes())
    assert twice.manifest.imported is not None
    claimed = ModelManifest.model_validate_json(files["manifest.json"]).metrics
    assert twice.manifest.imported.claimed_metrics == claimed
    result = shop.run(LinearProbe(), source, base_model=twice.manifest.model_id, parent=twice.bundle)
    assert result.manifest.lineage == [twice.manifest.model_id, TINY]
    assert result.manifest.metrics[0].value > 0.5


def test_plain_weights_answer_as_torch_does(shop: Workshop) -> None:
    state = dict(tiny_state())
    made = _import(shop, state_bytes(state), base_model=TINY, classes=CLASSES)
    import timm

    network = timm.create_model("test_resnet", pretrained=False)
    network.load_state_dict(state)
    images = _images()
    with torch.inference_mode():
        expected = network.eval()(torch.from_numpy(images)).numpy()
    found = _answers(members(made.bundle)["model.onnx"], images, "logits")
    assert np.abs(found - expected).max() < 1e-4 * max(1, np.abs(expected).max())
    assert made.manifest.classes == CLASSES
    assert made.manifest.metrics == []


def test_a_classifier_of_another_size_is_taken_with_its_names(shop: Workshop) -> None:
    state = dict(tiny_state())
    head = {"fc.weight": state["fc.weight"][:3].clone(), "fc.bias": state["fc.bias"][:3].clone()}
    made = _import(shop, state_bytes(state | head), base_model=TINY, classes=["a", "b", "c"])
    assert made.manifest.classes == ["a", "b", "c"]
    assert _answers(members(made.bundle)["model.onnx"], _images()).shape == (3, 3)


def test_without_classes_imagenet_keeps_its_thousand_and_others_become_base_models(
    shop: Workshop, source: DataRef
) -> None:
    state = dict(tiny_state())
    assert _import(shop, state_bytes(state), base_model=TINY).manifest.classes == [str(i) for i in range(1000)]
    three = state | {"fc.weight": state["fc.weight"][:3].clone(), "fc.bias": state["fc.bias"][:3].clone()}
    bare = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    for upload in (three, bare):
        made = _import(shop, state_bytes(upload), base_model=TINY)
        assert made.manifest.classes == []
        assert made.manifest.output_names == ["embedding"]
        files = members(made.bundle)
        width = made.manifest.architecture["width"]
        assert _answers(files["model.onnx"], _images(), "embedding").shape == (3, width)
    result = shop.run(LinearProbe(), source, base_model=made.manifest.model_id, parent=made.bundle)
    assert result.manifest.metrics[0].value > 0.5
    again = _import(shop, made.bundle.read_bytes())
    assert again.manifest.classes == []


def test_half_precision_becomes_single_and_counters_may_be_missing(shop: Workshop) -> None:
    state = {
        name: tensor.to(torch.bfloat16 if "conv" in name else torch.float16) if tensor.is_floating_point() else tensor
        for name, tensor in tiny_state().items()
        if not name.endswith("num_batches_tracked")
    }
    made = _import(shop, state_bytes(state), base_model=TINY)
    kept = load(members(made.bundle)["model.safetensors"])
    assert all(t.dtype == torch.float32 for name, t in kept.items() if not name.endswith("num_batches_tracked"))
    assert torch.equal(
        kept["backbone.conv1.weight"] if "backbone.conv1.weight" in kept else kept["backbone.conv1.0.weight"],
        (state.get("conv1.weight") if "conv1.weight" in state else state["conv1.0.weight"]).float(),
    )
    assert made.manifest.imported is not None
    assert "BF16 and F16" in made.manifest.imported.notes[0]


def test_a_torchvision_network_with_a_convolution_as_classifier_is_a_base_model(shop: Workshop) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        state = models.squeezenet1_1().state_dict()
    upload = state_bytes(state)
    made = _import(shop, upload, base_model="squeezenet1_1")
    assert made.manifest.classes == []
    assert "left out" in " ".join(made.manifest.imported.notes if made.manifest.imported else [])
    assert _refused(shop, upload, base_model="squeezenet1_1", classes=CLASSES).code == "head_not_linear"


def test_names_that_do_not_fit_are_all_listed_and_the_right_network_is_suggested(shop: Workshop) -> None:
    with torch.random.fork_rng(devices=[]):
        state = dict(models.squeezenet1_1().state_dict())
    error = _refused(shop, state_bytes(state), base_model="resnet18")
    assert error.code == "weights_mismatch"
    assert error.details["nearest"] == "squeezenet1_1"
    assert "squeezenet1_1" in (error.hint or "")
    assert len(error.details["missing"]) == 50
    assert error.details["counts"]["unexpected"] == len(state)


def test_a_tensor_of_another_shape_is_named_with_both(shop: Workshop) -> None:
    state = dict(tiny_state())
    name = next(name for name, tensor in state.items() if tensor.ndim == 4)
    error = _refused(shop, state_bytes(state | {name: state[name][:1].clone()}), base_model=TINY)
    assert error.code == "weights_mismatch"
    (wrong,) = error.details["wrong_shape"]
    assert wrong == {"name": name, "expected": list(state[name].shape), "found": [1, *state[name].shape[1:]]}


def test_what_is_said_beside_the_weights_must_fit(shop: Workshop) -> None:
    state = dict(tiny_state())
    bare = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    three = {"base_model": TINY, "classes": ["a", "b", "c"]}
    assert _refused(shop, state_bytes(bare), **three).code == "head_missing"
    assert _refused(shop, state_bytes(state), **three).code == "classes_mismatch"
    assert _refused(shop, state_bytes(state)).code == "base_model_required"
    assert _refused(shop, state_bytes(state), base_model="timm:nonsense_net").code == "unknown_base_model"
    assert _refused(shop, state_bytes(state), base_model="nonsense").code == "unknown_base_model"
    assert _refused(shop, state_bytes(state), base_model=TINY, classes=["a", "a"]).code == "invalid_classes"


def _changed(pick: str, change: Any) -> dict[str, Tensor]:
    state = {name: tensor.clone() for name, tensor in tiny_state().items()}
    name = next(name for name in state if name.endswith(pick))
    state[name] = change(state[name])
    return state


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (_changed("fc.weight", lambda t: t.fill_(float("nan"))), "weights_not_finite"),
        (_changed("fc.bias", lambda t: t.fill_(float("inf"))), "weights_not_finite"),
        (_changed("conv1.0.weight", lambda t: t.double() * 1e300), "weights_not_finite"),
        (_changed("running_var", lambda t: t - 2), "invalid_weights"),
        (_changed("num_batches_tracked", lambda t: t.float()), "invalid_weights"),
        (_changed("fc.weight", lambda t: t.to(torch.int32)), "invalid_weights"),
        (_changed("fc.weight", lambda t: t.fill_(3e38)), "invalid_weights"),
    ],
)
def test_values_that_no_network_has_are_refused(shop: Workshop, state: Mapping[str, Tensor], code: str) -> None:
    assert _refused(shop, state_bytes(state), base_model=TINY).code == code


def test_extra_tensors_are_refused(shop: Workshop) -> None:
    error = _refused(shop, state_bytes(tiny_state() | {"evil": torch.zeros(3)}), base_model=TINY)
    assert error.code == "weights_mismatch"
    assert error.details["unexpected"] == ["evil"]


DATA = bytes(64)
HEADERS: dict[str, bytes] = {
    "only a length": b"\x08\0\0\0\0\0\0\0",
    "header of 2^63 bytes": forged({"a": entry(0, 64)}, DATA, length=2**63),
    "header longer than the file": forged({"a": entry(0, 64)}, DATA, length=10_000),
    "header too long": forged("{" + " " * (17 << 20) + "}"),
    "not JSON": forged("{nonsense", DATA),
    "not an object": forged("[1, 2]", DATA),
    "not UTF-8": b"\x04\0\0\0\0\0\0\0{\xff\xff}",
    "nested deeply": forged("{" + '"a":{' * 100_000, DATA),
    "a number of many digits": forged('{"a": ' + "9" * 10_000 + "}"),
    "keys twice": forged(f'{{"a":{json.dumps(entry(0, 32))},"a":{json.dumps(entry(32, 64))}}}', DATA),
    "fields twice": forged('{"a":{"dtype":"F32","dtype":"F32","shape":[16],"data_offsets":[0,64]}}', DATA),
    "overlapping": forged({"a": entry(0, 64), "b": entry(32, 64)}, DATA),
    "a gap": forged({"a": entry(0, 16), "b": entry(32, 64)}, DATA),
    "out of bounds": forged({"a": entry(0, 128)}, DATA),
    "data that is nobody's": forged({"a": entry(0, 32)}, DATA),
    "a terabyte claimed": forged({"a": entry(0, 2**40, [2**38])}, DATA),
    "a product that overflows": forged({"a": entry(0, 64, [2**40, 2**40, 2**40])}, DATA),
    "negative": forged({"a": entry(0, 64, [-16])}, DATA),
    "negative offsets": forged({"a": {"dtype": "F32", "shape": [16], "data_offsets": [-64, 0]}}, DATA),
    "backwards": forged({"a": {"dtype": "F32", "shape": [0], "data_offsets": [64, 0]}}, DATA),
    "fractions": forged({"a": entry(0, 64, [16.0])}, DATA),  # type: ignore[list-item]
    "truth for a number": forged({"a": entry(0, 64, [True, 16])}, DATA),
    "NaN": forged('{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,64]}}', DATA),
    "unknown dtype": forged({"a": entry(0, 64, dtype="Q4_K")}, DATA),
    "a field too many": forged({"a": entry(0, 64) | {"file": "/etc/passwd"}}, DATA),
    "a field too few": forged({"a": {"dtype": "F32", "shape": [16]}}, DATA),
    "an endless name": forged({"a" * 600: entry(0, 64)}, DATA),
    "no tensors but data": forged({}, DATA),
}


@pytest.mark.parametrize("upload", HEADERS.values(), ids=HEADERS.keys())
def test_headers_that_lie_are_refused_before_anything_is_read(shop: Workshop, upload: bytes) -> None:
    assert _refused(shop, upload, base_model=TINY).code == "invalid_safetensors"


def test_a_file_of_too_many_tensors_is_refused(shop: Workshop) -> None:
    upload = forged({f"t{i}": entry(0, 0) for i in range(10_001)})
    assert _refused(shop, upload, base_model=TINY).code == "too_many_tensors"


def test_an_empty_state_dict_lacks_everything(shop: Workshop) -> None:
    assert _refused(shop, forged({}), base_model=TINY).code == "weights_mismatch"


def _manifest(files: dict[str, bytes], **changes: Any) -> bytes:
    return with_manifest(files, **changes)


def test_a_zip_that_is_no_honest_bundle_is_refused(shop: Workshop, files: dict[str, bytes], tmp_path: Path) -> None:
    whole = zipped(files)
    damaged = bytearray(whole)
    damaged[whole.index(files["model.safetensors"]) + 50_000] ^= 0xFF
    refused = {
        "cut off": whole[:-200],
        "begun": whole[:100],
        "damaged": bytes(damaged),
        "compressed": zipped(files, zipfile.ZIP_DEFLATED),
        "zip bomb": zipped({"manifest.json": files["manifest.json"], "model.safetensors": bytes(64 << 20)}, 8),
        "path traversal": zipped({**files, "../../evil": b"x"}),
        "absolute path": zipped({**files, "/tmp/evil": b"x"}),
        "another file": zipped({**files, "setup.py": b"x"}),
        "data of a graph beside it": zipped({**files, "weights.bin": b"x"}),
        "many entries": zipped({f"f{i}": b"" for i in range(1000)}),
        "no tensors": zipped({"manifest.json": files["manifest.json"]}),
        "no manifest": zipped({"model.safetensors": files["model.safetensors"]}),
    }
    for name, upload in refused.items():
        assert _refused(shop, upload).code == "invalid_bundle", name
    lying = zipped({**files, "model.safetensors": forged({"a": entry(0, 64), "b": entry(0, 64)}, DATA)})
    assert _refused(shop, lying).code == "invalid_safetensors"
    assert _refused(shop, zipped({**files, "model.safetensors": state_bytes(tiny_state())})).code == "weights_mismatch"


def test_a_manifest_that_misleads_is_refused(shop: Workshop, files: dict[str, bytes]) -> None:
    manifest = json.loads(files["manifest.json"])
    prepare = manifest["prepare"]
    refused: dict[str, dict[str, Any]] = {
        "another field": {"on_load": "import os"},
        "a huge input": {"prepare": prepare | {"size": 2048}},
        "a huge resize": {"prepare": prepare | {"crop": 1e-6}},
        "std of zero": {"prepare": prepare | {"std": [0, 1, 1]}},
        "mean that is no number": {"prepare": prepare | {"mean": [float("nan"), 0, 0]}},
        "temperature of zero": {"temperature": 0},
        "temperature below": {"temperature": -1},
        "endless temperature": {"temperature": float("inf")},
        "a figure that is none": {"metrics": [manifest["metrics"][0] | {"value": float("nan")}]},
        "a NUL": {"licence": "free\0"},
        "a base model that is a path": {"lineage": ["../../etc/passwd"]},
        "a base model from a hub": {"lineage": ["timm:hf-hub:somebody/evil"]},
    }
    for name, changes in refused.items():
        assert _refused(shop, _manifest(files, **changes)).code == "invalid_manifest", name
    for classes in (["a", "a"], ["x"], [f"c{i}" for i in range(3000)], ["a", "b\n"], ["", "b"]):
        assert _refused(shop, _manifest(files, classes=classes)).code == "invalid_classes"
    million = _manifest(files, classes=[f"class {i}" for i in range(1_000_000)])
    assert _refused(shop, million).code == "invalid_manifest"
    deep = zipped({**files, "manifest.json": b'{"method":' + b"[" * 500_000})
    assert _refused(shop, deep).code == "invalid_manifest"
    assert _refused(shop, _manifest(files, classes=["a", "b"])).code == "weights_mismatch"
    assert _refused(shop, _manifest(files, lineage=["nonsense"])).code == "unknown_base_model"
    other = _refused(shop, _manifest(files, lineage=["resnet18"]))
    assert other.code == "weights_mismatch"


def test_an_uploaded_graph_is_never_looked_at(shop: Workshop, files: dict[str, bytes]) -> None:
    plain = _import(shop, zipped({**files, "model.onnx": b"nonsense", "README.md": b"<script>"}))
    images = _images()
    answers = _answers(members(plain.bundle)["model.onnx"], images)
    assert np.abs(answers - _answers(files["model.onnx"], images)).max() < 1e-4
    assert b"<script>" not in members(plain.bundle)["README.md"]


def test_an_import_that_is_not_wanted_any_more_ends(shop: Workshop, bundle: bytes) -> None:
    with pytest.raises(CancelledError):
        _import(shop, bundle, wish="cancel")
