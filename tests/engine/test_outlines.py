"""A network of a known build is exported without being traced; what an outline gets wrong is noticed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from core.catalogue import find
from worker.engine import outlines
from worker.engine.cache import CacheFolder
from worker.engine.network_graph import export_backbone
from worker.engine.sessions import open_session

CARD = find("conv4")


class Net(nn.Module):
    """Convolution and batch norm, whose weights the exporter folds into one another; `factor` is no weight."""

    def __init__(self, seed: int, factor: float = 1.0, slope: float = 0.1) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Conv2d(3, 64, 3, stride=4), nn.BatchNorm2d(64), nn.LeakyReLU(slope))
        nn.init.normal_(self.body[1].running_mean)
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.body(x).mean(dim=(2, 3)) * self.factor
        return found


@pytest.fixture(autouse=True)
def traced(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """The networks that are traced; a process that has seen none yet."""
    monkeypatch.setattr(outlines, "_at_hand", type(outlines._at_hand)())
    seen, export = [], torch.onnx.export

    def counted(module, *rest, **more):
        seen.append(module)
        return export(module, *rest, **more)

    monkeypatch.setattr(torch.onnx, "export", counted)
    return seen


def answers(net: nn.Module, path: Path, cache: CacheFolder | None = None) -> None:
    """The graph is that of this network."""
    export_backbone(net, CARD, path, cache)
    images = np.random.default_rng(1).normal(size=(5, 3, 28, 28)).astype(np.float32)
    with torch.no_grad():
        expected = net(torch.from_numpy(images)).numpy()
    found = open_session(path).run(["embedding"], {"image": images})[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_next_network_of_a_build_is_not_traced(traced, tmp_path):
    for seed in range(3):
        answers(Net(seed), tmp_path / "net.onnx")
    assert len(traced) == 1
    answers(Net(0, slope=0.3), tmp_path / "net.onnx")
    assert len(traced) == 2


def test_another_process_finds_it_in_the_cache(traced, tmp_path, monkeypatch):
    cache = CacheFolder(tmp_path / "cache", 1 << 30)
    answers(Net(0), tmp_path / "net.onnx", cache)
    monkeypatch.setattr(outlines, "_at_hand", type(outlines._at_hand)())
    answers(Net(1), tmp_path / "net.onnx", cache)
    assert len(traced) == 1


def test_an_outline_that_misleads_is_dropped(traced, tmp_path):
    """What no setting shows is another thing in this network; the comparison with PyTorch tells."""
    answers(Net(0), tmp_path / "net.onnx")
    answers(Net(0, factor=3.0), tmp_path / "net.onnx")
    answers(Net(1, factor=3.0), tmp_path / "net.onnx")
    assert len(traced) == 2


def test_fixed_buffers_tell_networks_apart(traced, tmp_path):
    for shift in (1.0, 2.0, 1.0):
        net = Net(0)
        net.body.append(Shift(shift))
        answers(net, tmp_path / "net.onnx")
    assert len(traced) == 2


class Shift(nn.Module):
    """Adds a buffer that is not among the weights."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.register_buffer("by", torch.tensor([by]), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = x + self.by
        return found
