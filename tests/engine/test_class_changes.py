"""A class that is added to an exported few-shot model is one as if it had been there from the beginning."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from safetensors.numpy import save_file

from app.classes.revision import Change, write
from core.bundle import members, read_member
from core.contract.base import now
from core.contract.few_shot import ClassChangeRecord, HeadKind
from core.contract.models import Model
from core.few_shot import graph, tensors
from core.few_shot.heads import added, removed
from tests.engine.jobs import Workshop
from tests.engine.test_few_shot import SMALL, TRAINED, shapes
from worker.engine.class_stages import Centred, Relation, RelationModule
from worker.engine.few_shot import class_heads
from worker.engine.few_shot.learner import Known
from worker.engine.graph import join_head
from worker.engine.heads import restored
from worker.engine.stages import Unit
from worker.engine.tensors import join_tensors

WIDTH = 6
KINDS: list[HeadKind] = ["class_means", "items", "relation", "ridge"]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("changes"))


def _data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), [9, 7, 5, 60])
    return (rng.normal(0, 3, (4, WIDTH))[labels] + rng.normal(0, 1, (81, WIDTH))).astype(np.float32), labels


def _known(kind: HeadKind, x: np.ndarray, labels: np.ndarray, classes: int) -> Known:
    rng = np.random.default_rng(1)
    maps = rng.normal(0, 0.3, (4, 5, WIDTH)).astype(np.float32)
    bare = Relation(np.zeros((1, WIDTH), np.float32), *maps, np.zeros(5, np.float32), np.ones(5, np.float32))
    stages: Any = (Centred(np.full(WIDTH, 0.2, np.float32)), Unit())
    unseen = labels >= 0
    if kind == "class_means":
        return class_heads.by_means(x, labels, classes, stages, scale=3.0, unseen=unseen)
    if kind == "items":
        return class_heads.by_items(x, labels, classes, stages, scale=5.0, unseen=unseen)
    if kind == "relation":
        return class_heads.by_relation(x, labels, classes, stages, relation=RelationModule(bare), unseen=unseen)
    return class_heads.by_ridge(x, labels, classes, stages, penalty=2.0, scale=4.0, unseen=unseen)


def _exported(known: Known, folder: Path) -> tuple[bytes, bytes]:
    """Graph and tensors as a job writes them, of a network that gives back its input."""
    shape = ["batch", WIDTH]
    bare = helper.make_model(
        helper.make_graph(
            [helper.make_node("Identity", ["x"], ["embedding"])],
            "bare",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, shape)],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    onnx.save(bare, folder / "bare.onnx")
    save_file({"backbone.w": np.zeros(3, np.float16)}, folder / "bare.safetensors")
    join_head(folder / "bare.onnx", known.head, 1.5, folder / "model.onnx", few_shot=True)
    join_tensors(folder / "bare.safetensors", known.head, folder / "model.safetensors", {}, known.few_shot.tensors)
    return (folder / "model.onnx").read_bytes(), (folder / "model.safetensors").read_bytes()


def _run(graph_bytes: bytes, x: np.ndarray, output: str = "logits") -> np.ndarray:
    found: np.ndarray = ort.InferenceSession(graph_bytes).run([output], {"x": x})[0]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_added_is_one_that_was_always_there(kind: HeadKind, tmp_path: Path) -> None:
    x, labels = _data()
    few = labels < 3
    old = _known(kind, x[few], labels[few], 3)
    network, file = _exported(old, tmp_path)
    inner = _run(network, x[~few], "inner")
    np.testing.assert_allclose(inner, old.head.inner(x[~few]), rtol=1e-5, atol=1e-6)
    parts = tensors.picked(file, lambda name: name.startswith(("head.", "few_shot.")))
    changed = added(kind, parts, inner)
    in_graph = {name: part for name, part in changed.items() if name.startswith("head.")}
    wider = graph.exchanged(network, in_graph, 4)
    whole = _known(kind, x, labels, 4)
    np.testing.assert_allclose(_run(wider, x), whole.head(x), rtol=2e-3, atol=2e-3)
    # The safetensors say the same, so that a job can start from them.
    now = tensors.picked(tensors.exchanged(file, changed, {}), lambda name: name.startswith("head."))
    head = restored(old.head.settings(), {name.removeprefix("head."): part for name, part in now.items()})
    np.testing.assert_allclose(head(x), _run(wider, x), rtol=1e-3, atol=1e-3)
    back = removed(kind, parts | changed, 3)
    narrow = graph.exchanged(wider, {name: part for name, part in back.items() if name.startswith("head.")}, 3)
    if kind != "ridge":
        np.testing.assert_array_equal(_run(narrow, x), _run(network, x))


@pytest.mark.parametrize("method", ["simple_shot", "matching_network", "relation_network", "r2d2"])
def test_a_job_starts_from_a_revision(workshop: Workshop, tmp_path: Path, method: str) -> None:
    """What a job made is edited, and what comes of it is a model like any other: jobs start from it."""
    source = workshop.data(shapes(5, 10))
    options: dict[str, Any] = {**SMALL, "shots": [1], "queries": 1, "test_classes": ["kind02", "kind03", "kind04"]}
    base = {}
    if method != "simple_shot":
        options |= {**TRAINED, "steps": 3, "train_ways": 2, "shots": [1], "ways": [2], "queries": 1}
        base = {"base_model": "conv4"}
    found = workshop.run({"name": method, **options}, source, **base)
    new, path = _revised(found.bundle, found.manifest, tmp_path)
    assert found.manifest is not None
    again = workshop.run({"name": "linear_probe"}, source, base_model=new.id, parent=path, baselines="quick")
    assert again.manifest is not None
    assert again.manifest.lineage[:2] == [new.id, found.manifest.model_id]
    skipped = {arm.name: arm.note for arm in again.report.arms if arm.state == "skipped"}
    assert "knows other classes" in skipped["previous_model"]


def _revised(bundle: Path | None, manifest: Any, folder: Path) -> tuple[Model, Path]:
    """The model with one more class."""
    assert bundle is not None
    kind, few_shot, path = manifest.few_shot.kind, manifest.few_shot, folder / "new.zip"
    listed = members(bundle)
    model = Model(
        id=manifest.model_id,
        job_id=None,
        base_model=manifest.base_model,
        method="",
        classes=manifest.classes,
        metrics={},
        bytes=0,
        sha256="0" * 64,
        files=listed,
        manifest=manifest,
        created_at=now(),
    )
    files = {file.name: read_member(bundle, file.name) for file in listed}
    width = ort.InferenceSession(files["model.onnx"]).get_outputs()[3].shape[1]
    inner = np.random.default_rng(0).normal(0, 1, (3, width)).astype(np.float32)
    record = ClassChangeRecord(change="added", name="new", items=3, at=now())
    change = Change(record, [*manifest.classes, "new"], [*few_shot.counts, 3], lambda parts: added(kind, parts, inner))
    new, network = write(model, files, change, path)
    assert ort.InferenceSession(network).get_outputs()[0].shape[1] == len(new.classes)
    assert "Added `new` from 3 items" in read_member(path, "README.md").decode()
    return new, path
