"""Stages before a head: NumPy, torch and ONNX say the same, and a head comes back from its tensors."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from worker.engine.graph import join_head
from worker.engine.heads import Head, HeadModule, Mixture, restored
from worker.engine.sessions import open_session
from worker.engine.stages import Affine, Nearest, RbfKernel, Relu, Stage, Unit

N, D, K, C = 7, 6, 4, 3
RNG = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def plain(width: int) -> Head:
    return Head(floats(C, width), floats(C))


NEAREST = Nearest.of(floats(8, D), np.array([2, 0, 1, 1, 0, 2, 2, 0]), C)
MIXTURE = Mixture(
    (plain(D), Head(floats(C, K), floats(C), "l2", before=(Affine(floats(K, D), floats(K)),))), (0.3, 0.7), (1.0, 2.5)
)
CHAINS: dict[str, tuple[tuple[Stage, ...], int]] = {
    "affine": ((Affine(floats(K, D), floats(K)),), K),
    "unit": ((Unit(),), D),
    "two layers": ((Affine(floats(K, D), floats(K)), Relu(), Affine(floats(5, K), floats(5))), 5),
    "kernel": ((Unit(), RbfKernel(floats(5, D), 0.3), Affine(floats(K, 5), floats(K))), K),
    "nearest": ((NEAREST,), C),
    "mixture": ((MIXTURE,), C),
}


def identity(path: Path) -> Path:
    """A backbone that hands on what it is given."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", D]) for name in ("row", "embedding")]
    graph = helper.make_graph([helper.make_node("Identity", ["row"], ["embedding"])], "g", value[:1], value[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


@pytest.mark.parametrize("name", list(CHAINS))
def test_numpy_torch_and_onnx_agree(name: str, tmp_path: Path) -> None:
    before, width = CHAINS[name]
    mean, scale = floats(width), np.abs(floats(width)) + 1
    for head in (
        Head(floats(C, width), floats(C), before=before),
        Head(floats(C, width), floats(C), "standardise", mean, scale, before),
        Head(floats(C, width), floats(C), "centred_l2", mean, before=before),
    ):
        x = floats(N, D)
        expected = head(x)
        assert expected.shape == (N, C)
        assert head.width == D
        with torch.no_grad():
            np.testing.assert_allclose(head.as_module()(torch.from_numpy(x)).numpy(), expected, rtol=1e-4, atol=1e-5)
        join_head(identity(tmp_path / "backbone.onnx"), head, 1.5, tmp_path / "model.onnx")
        logits, embedding = open_session(tmp_path / "model.onnx").run(["logits", "embedding"], {"row": x})
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(embedding, x)


@pytest.mark.parametrize("name", list(CHAINS))
def test_a_head_comes_back_from_its_tensors_and_its_module(name: str) -> None:
    before, width = CHAINS[name]
    head, x = Head(floats(C, width), floats(C), before=before), floats(N, D)
    settings = json.loads(json.dumps(head.settings()))
    np.testing.assert_array_equal(restored(settings, head.tensors())(x), head(x))
    np.testing.assert_array_equal(head.as_module().as_head()(x), head(x))


def test_nearest_is_what_a_search_finds() -> None:
    x = floats(N, D)
    labels = np.repeat(np.arange(C), NEAREST.counts)
    for row, found in zip(x, NEAREST(x), strict=True):
        distances = ((NEAREST.items - row) ** 2).sum(axis=1)
        np.testing.assert_allclose(-found, [distances[labels == c].min() for c in range(C)], rtol=1e-4, atol=1e-5)


def test_a_mixture_is_a_mean_of_probabilities() -> None:
    x, found = floats(N, D), MIXTURE.as_head()
    one, two = (
        torch.softmax(torch.from_numpy(head(x)) / t, 1).numpy()
        for head, t in zip(MIXTURE.heads, (1.0, 2.5), strict=True)
    )
    np.testing.assert_allclose(np.exp(found(x)), 0.3 * one + 0.7 * two, rtol=1e-4, atol=1e-6)


def test_affine_stages_learn_with_the_head() -> None:
    module = Head(floats(C, K), floats(C), before=(Affine(floats(K, D), floats(K)), Relu())).as_module()
    assert isinstance(module, HeadModule)
    assert sum(part.numel() for part in module.parameters()) == C * K + C + K * D + K
    before = module.as_head().tensors()
    optimiser = torch.optim.SGD(module.parameters(), 0.1)
    module(torch.from_numpy(floats(N, D))).square().sum().backward()
    optimiser.step()
    assert not np.array_equal(module.as_head().tensors()["before.0.weight"], before["before.0.weight"])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Head(floats(C, K), floats(C), before=(Affine(floats(5, D), floats(5)),)),
        lambda: Head(
            floats(C, K), floats(C), before=(Affine(floats(K, D), floats(K)), Affine(floats(K, D), floats(K)))
        ),
        lambda: Affine(floats(K, D), np.full(K, np.nan, dtype=np.float32)),
        lambda: Nearest.of(floats(2, D), np.array([0, 2]), C),
        lambda: RbfKernel(floats(2, D), 0.0),
        lambda: Mixture((plain(D), plain(D)), (0.5, 0.6), (1.0, 1.0)),
        lambda: Mixture((plain(D), plain(K)), (0.5, 0.5), (1.0, 1.0)),
    ],
)
def test_what_does_not_fit_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        wrong()  # type: ignore[operator]
