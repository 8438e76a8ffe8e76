"""Exported graphs say what PyTorch says; a head is joined without another export."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer

from core.catalogue import find
from core.contract.errors import JobError
from core.contract.jobs import DEFAULT_BASE_MODELS
from worker.engine.backbones import Backbone, Opened, load, open_base
from worker.engine.cache import CacheFolder
from worker.engine.graph import backbone_files, backbone_graph, export_whole, join_head
from worker.engine.heads import Head, Normalise
from worker.engine.network_graph import OPSET
from worker.engine.parity import check
from worker.engine.sessions import open_session

TEMPERATURE = 1.7


def _head(normalise: Normalise, width: int, classes: int = 5) -> Head:
    rng = np.random.default_rng(1)
    weight, bias = rng.normal(size=(classes, width)).astype(np.float32), rng.normal(size=classes).astype(np.float32)
    if normalise == "standardise":
        mean, scale = rng.normal(size=width).astype(np.float32), rng.uniform(1, 3, width).astype(np.float32)
        return Head(weight / np.float32(width**0.5), bias, normalise, mean, scale)
    if normalise == "centred_l2":
        return Head(weight, bias, normalise, rng.normal(size=width).astype(np.float32))
    return Head(weight, bias, normalise)


def _images(count: int, size: int = 224) -> np.ndarray:
    return np.random.default_rng(2).normal(size=(count, 3, size, size)).astype(np.float32)


def _softmax(logits: np.ndarray) -> np.ndarray:
    return torch.softmax(torch.from_numpy(logits) / TEMPERATURE, 1).numpy()


@pytest.fixture(scope="module")
def squeezenet() -> Backbone:
    return load("squeezenet1_1", weights_dir=None, pretrained=False)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> CacheFolder:
    return CacheFolder(tmp_path_factory.mktemp("cache"), 10**9)


@pytest.fixture(scope="module")
def graph(squeezenet: Backbone, cache: CacheFolder) -> Path:
    return backbone_graph(squeezenet, cache)


def test_a_transformer_is_exported(tmp_path: Path) -> None:
    """A ViT-B/16 cut down to one layer: the twelve of the real one are alike, and cost a test fifteen seconds."""
    module = VisionTransformer(224, 16, num_layers=1, num_heads=12, hidden_dim=768, mlp_dim=3072)
    module.set_submodule("heads", nn.Identity())
    export_whole(module.eval(), _head("l2", 768), TEMPERATURE, find("vit_b_16"), tmp_path / "model.onnx")
    images = _images(3)
    with torch.inference_mode():
        logits = _head("l2", 768)(module(torch.from_numpy(images)).numpy())
    assert check(tmp_path / "model.onnx", _softmax(logits), {"image": images}).max_abs_difference < 1e-4


def test_the_default_base_model_with_its_real_weights_is_exported(cache: CacheFolder) -> None:
    backbone = load(DEFAULT_BASE_MODELS["image"], weights_dir=None)
    images = _images(3)
    found = open_session(backbone_graph(backbone, cache)).run(["embedding"], {"image": images})[0]
    with torch.inference_mode():
        expected = backbone.module(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("normalise", ["none", "l2", "standardise", "centred_l2"])
def test_a_joined_head_equals_torch_and_numpy(
    normalise: Normalise, squeezenet: Backbone, graph: Path, tmp_path: Path
) -> None:
    head, images, out = _head(normalise, 512), _images(4), tmp_path / "model.onnx"
    join_head(graph, head, TEMPERATURE, out)
    probabilities, logits, embedding = open_session(out).run(
        ["probabilities", "logits", "embedding"], {"image": images}
    )
    with torch.inference_mode():
        expected = squeezenet.module(torch.from_numpy(images))
        expected_logits = head.as_module()(expected).numpy()
    np.testing.assert_allclose(embedding, expected.numpy(), atol=1e-4 * expected.abs().max().item())
    np.testing.assert_allclose(logits, expected_logits, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(head(embedding), logits, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(probabilities, _softmax(logits), atol=1e-6)
    assert check(out, _softmax(expected_logits), {"image": images}).max_abs_difference < 1e-4


def test_the_joined_graph_has_the_promised_form(graph: Path, tmp_path: Path) -> None:
    join_head(graph, _head("l2", 512), 1.0, tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}] == [OPSET]
    session = open_session(tmp_path / "model.onnx")
    (image,) = session.get_inputs()
    assert (image.name, image.type, image.shape) == ("image", "tensor(float)", ["batch", 3, 224, 224])
    assert [(output.name, output.shape) for output in session.get_outputs()] == [
        ("probabilities", ["batch", 5]),
        ("logits", ["batch", 5]),
        ("embedding", ["batch", 512]),
    ]


def test_an_embedding_of_zeros_gives_figures_with_l2(graph: Path, tmp_path: Path) -> None:
    model = onnx.load(graph)
    zeros = onnx.helper.make_node("Mul", ["embedding", "nothing"], ["zeroed"])
    model.graph.node.append(zeros)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1, np.float32), "nothing"))
    model.graph.output[0].name = "zeroed"
    for node in model.graph.node:  # swap the two names, so that `embedding` is the zeros
        swap = {"embedding": "zeroed", "zeroed": "embedding"}
        node.output[:] = [swap.get(name, name) for name in node.output]
        node.input[:] = [swap.get(name, name) for name in node.input]
    model.graph.output[0].name = "embedding"
    onnx.save(model, tmp_path / "zeros.onnx")
    head = _head("l2", 512)
    join_head(tmp_path / "zeros.onnx", head, 1.0, tmp_path / "model.onnx")
    logits = open_session(tmp_path / "model.onnx").run(["logits"], {"image": _images(1)})[0]
    np.testing.assert_allclose(logits[0], head.bias)
    np.testing.assert_allclose(head(np.zeros((1, 512), np.float32))[0], head.bias)


def test_a_second_export_comes_from_the_cache_without_a_network(squeezenet: Backbone, cache: CacheFolder) -> None:
    first = backbone_files(squeezenet, cache)

    def never() -> nn.Module:
        raise AssertionError("the network was built")

    assert backbone_files(Opened(squeezenet.identity, never), cache) == first


def test_a_network_trained_as_a_whole_is_exported(tmp_path: Path) -> None:
    base = load("squeezenet1_1", weights_dir=None, pretrained=False, seed=3)
    with torch.no_grad():
        for parameter in base.module.parameters():
            parameter.mul_(1.01)
    head, images = _head("none", 512), _images(2)
    export_whole(base.module, head, TEMPERATURE, base.card, tmp_path / "model.onnx")
    with torch.inference_mode():
        logits = head(base.module(torch.from_numpy(images)).numpy())
    parity = check(tmp_path / "model.onnx", _softmax(logits), {"image": images})
    assert (parity.items, parity.tolerance) == (2, 1e-4)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("fault", ["other figures", "not a number", "other classes"])
def test_a_graph_that_disagrees_fails_the_job(fault: str, graph: Path, squeezenet: Backbone, tmp_path: Path) -> None:
    head, images = _head("l2", 512), _images(2)
    join_head(graph, head, TEMPERATURE, tmp_path / "model.onnx")
    with torch.inference_mode():
        reference = _softmax(head(squeezenet.module(torch.from_numpy(images)).numpy()))
    if fault == "other figures":
        reference[1] += np.array([3e-4, -3e-4, 0, 0, 0], dtype=np.float32)
    elif fault == "not a number":
        reference[0, 0] = np.nan
    else:
        reference = reference[:, :4]
    with pytest.raises(JobError) as caught:
        check(tmp_path / "model.onnx", reference, {"image": images})
    assert caught.value.code == "parity_failed"


class _Branching(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        width = 512 if image.sum() > 0 else 256
        return torch.zeros(len(image), width)


class _Dice(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(image), 512) + torch.rand(1)


@pytest.mark.parametrize(("module", "code"), [(_Branching(), "export_failed"), (_Dice(), "parity_failed")])
def test_a_network_that_cannot_be_exported_says_so(module: nn.Module, code: str, tmp_path: Path) -> None:
    with pytest.raises(JobError) as caught:
        export_whole(module, _head("none", 512), 1.0, find("squeezenet1_1"), tmp_path / "model.onnx")
    assert caught.value.code == code
    assert not list(tmp_path.iterdir())


def test_a_head_of_another_width_is_refused(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="takes 300"):
        join_head(graph, _head("none", 300), 1.0, tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="temperature"):
        join_head(graph, _head("none", 512), 0.0, tmp_path / "model.onnx")


def test_identity_of_random_weights_is_their_seed() -> None:
    same = [open_base("squeezenet1_1", weights_dir=None, pretrained=False, seed=seed).identity for seed in (1, 1, 2)]
    assert same[0] == same[1]
    assert same[0].weights_digest != same[2].weights_digest
