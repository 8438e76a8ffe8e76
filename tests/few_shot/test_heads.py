"""Classes added to few-shot heads and taken away: the tensors are those of a head that was made with these classes."""

import json
import struct

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save

from core.contract.few_shot import HeadKind
from core.few_shot import graph, tensors
from core.few_shot.heads import MOST_ITEMS, added, counted, removed, ridge
from tests.app.few_shot_bundles import KINDS, PENALTY, SCALE, few_shot_bundle, head, known

NEW = np.random.default_rng(5).normal(0.5, 0.4, (4, 3)).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_that_came_and_went_leaves_nothing_behind(kind: HeadKind) -> None:
    before = head(kind)
    wider = before | added(kind, before, NEW)
    assert wider["head.weight"].shape[0] == 4
    after = wider | removed(kind, wider, 3)
    for name, part in before.items():
        if kind == "ridge" and name in ("few_shot.gram", "head.weight", "head.bias"):
            continue  # the items stay, as items of no class
        np.testing.assert_array_equal(after[name], part, err_msg=name)
        assert after[name].dtype == np.float32


@pytest.mark.parametrize("kind", KINDS)
def test_any_class_may_go(kind: HeadKind) -> None:
    """What is left is what the other classes' tensors were, in their order."""
    before = head(kind)
    after = before | removed(kind, before, 1)
    if kind in ("class_means", "relation"):
        np.testing.assert_array_equal(after["head.before.1.means"], before["head.before.1.means"][[0, 2]])
    elif kind == "items":
        np.testing.assert_array_equal(after["head.before.1.items"], before["head.before.1.items"][[0, 2, 3, 5]])
        np.testing.assert_array_equal(after["head.before.1.member"], [[0.5, 0], [0, 0.5], [0.5, 0], [0, 0.5]])
    else:
        np.testing.assert_allclose(after["head.weight"], before["head.weight"][[0, 2]], rtol=1e-4, atol=1e-4)
    for index in (-1, 3):
        with pytest.raises(ValueError, match="two classes"):
            removed(kind, before, index)
    with pytest.raises(ValueError, match="two classes"):
        removed(kind, after, 0)


def test_a_mean_is_that_of_the_items() -> None:
    before = head("class_means")
    after = added("class_means", before, NEW)
    np.testing.assert_allclose(after["head.before.1.means"][3], NEW.mean(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(after["head.weight"], SCALE * np.eye(4, dtype=np.float32))
    assert after["head.bias"].tolist() == [0, 0, 0, 0]


@given(st.integers(1, 70))
def test_single_items_are_kept_up_to_a_bound(count: int) -> None:
    inner = np.random.default_rng(count).normal(0, 2, (count, 3)).astype(np.float32)
    before = head("items")
    after = added("items", before, inner)
    new = min(count, MOST_ITEMS)
    assert counted("items", count) == new
    assert counted("relation", count) == count
    assert after["head.before.1.items"].shape == (6 + new, 3)
    np.testing.assert_allclose(np.linalg.norm(after["head.before.1.items"], axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(after["head.before.1.member"].sum(axis=0), 1, rtol=1e-5)
    assert (after["head.before.1.member"][6:, :3] == 0).all()


def test_ridge_is_the_regression_on_all_items() -> None:
    """From the sums that are kept comes what scikit-learn's own ridge makes of the items themselves."""
    from sklearn.linear_model import Ridge

    items, labels = known()
    after = head("ridge") | added("ridge", head("ridge"), NEW)
    x = np.concatenate([items, NEW]).astype(np.float64)
    truth = np.eye(4)[np.concatenate([labels, np.full(len(NEW), 3)])]
    exact = Ridge(alpha=PENALTY, fit_intercept=False).fit(np.column_stack([x, np.ones(len(x))]), truth).coef_
    np.testing.assert_allclose(after["head.weight"], SCALE * exact[:, :-1], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(after["head.bias"], SCALE * exact[:, -1], rtol=1e-3, atol=1e-4)
    weight, bias = ridge(after["few_shot.gram"], after["few_shot.sums"], PENALTY, SCALE)
    np.testing.assert_allclose(weight, after["head.weight"], rtol=1e-6)
    np.testing.assert_allclose(bias, after["head.bias"], rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_of_another_head_are_refused(kind: HeadKind) -> None:
    with pytest.raises(KeyError):
        added(kind, {"head.weight": np.eye(3, dtype=np.float32)}, NEW)
    for wrong in (NEW[:0], NEW[0], np.full((2, 3), np.nan, np.float32)):
        with pytest.raises(ValueError, match="finite vector"):
            added(kind, head(kind), wrong)
    with pytest.raises(ValueError, match=r"."):
        added(kind, head(kind), NEW[:, :2])


@pytest.mark.parametrize("kind", KINDS)
def test_the_edited_graph_says_what_the_tensors_say(kind: HeadKind) -> None:
    """Both files of the bundle are changed alike; backbone and other outputs are what they were."""
    bundle, tensor_names = few_shot_bundle(kind), set(head(kind))
    changed = added(kind, head(kind), NEW)
    assert set(changed) <= tensor_names
    in_graph = {name: part for name, part in changed.items() if name.startswith("head.")}
    edited = graph.exchanged(bundle.files["model.onnx"], in_graph, 4)
    onnx.checker.check_model(edited, full_check=True)
    found = {one.name: onnx.numpy_helper.to_array(one) for one in onnx.load_from_string(edited).graph.initializer}
    assert all(np.array_equal(found[name], part) for name, part in in_graph.items())
    image = {"image": np.random.default_rng(0).normal(0, 0.5, (5, 3, 8, 8)).astype(np.float32)}
    old, new = (ort.InferenceSession(one) for one in (bundle.files["model.onnx"], edited))
    shapes = {output.name: output.shape[1] for output in new.get_outputs()}
    assert shapes == {"probabilities": 4, "logits": 4, "embedding": 3, "inner": 3}
    for name in ("embedding", "inner"):
        np.testing.assert_array_equal(old.run([name], image)[0], new.run([name], image)[0])
    if kind != "ridge":
        logits = (session.run(["logits"], image)[0] for session in (old, new))
        np.testing.assert_allclose(next(logits), next(logits)[:, :3], rtol=1e-4, atol=1e-5)


def test_a_graph_without_the_tensor_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no initialiser head\.other"):
        graph.exchanged(few_shot_bundle().files["model.onnx"], {"head.other": NEW}, 4)
    with pytest.raises(ValueError, match="no ONNX graph"):
        graph.exchanged(b"\xff\xff nothing", {}, 4)


def test_other_tensors_are_copied_byte_by_byte() -> None:
    """Also of types that NumPy lacks."""
    text = json.dumps({"w": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    plain = struct.pack("<Q", len(text)) + text + b"\x80\x3f\x00\x40"
    made = tensors.exchanged(plain, {"head.weight": NEW}, {"model_id": "new"})
    length = int.from_bytes(made[:8], "little")
    header = json.loads(made[8 : 8 + length])
    assert header["__metadata__"] == {"model_id": "new"}
    assert header["w"] == {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}
    assert made[8 + length :][:4] == b"\x80\x3f\x00\x40"
    again = tensors.exchanged(made, {"head.weight": NEW[:1]}, {})
    assert np.array_equal(tensors.picked(again, lambda name: name == "head.weight")["head.weight"], NEW[:1])
    kept = {"a": np.arange(3), "head.weight": NEW, "z": np.zeros((0, 2), np.float32)}
    found = load(tensors.exchanged(save(kept), {"head.weight": NEW[:2]}, {}))
    assert {name: part.shape for name, part in found.items()} == {"a": (3,), "head.weight": (2, 3), "z": (0, 2)}
    assert set(tensors.picked(save(kept), lambda name: name > "b")) == {"head.weight", "z"}


@pytest.mark.parametrize("data", [b"", b"12345678{", struct.pack("<Q", 2) + b"[]", struct.pack("<Q", 9) + b'{"a": {}}'])
def test_what_is_no_safetensors_file_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no safetensors file"):
        tensors.picked(data, lambda _: True)
