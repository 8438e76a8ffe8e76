"""What may stand between a backbone's embedding and the head's affine map: small fixed steps, each in NumPy and torch.

A method that adapts ends as a chain of these, so that it answers new items and not only those it has seen. Their ONNX
forms stand in `worker.engine.head_graph`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Floats = NDArray[np.float32]
EPSILON = 1e-12  # as torch.nn.functional.normalize


class StageModule(nn.Module, ABC):
    """A stage in torch; what can be trained in it are parameters."""

    @abstractmethod
    def as_stage(self) -> "Stage":
        """The stage as plain arrays again."""


class Stage(Protocol):
    """Turns (N, D) into (N, K)."""

    kind: ClassVar[str]

    @property
    def width(self) -> int | None:
        """D; None where any will do."""

    def out(self, width: int, /) -> int:
        """K for an input of `width`."""

    def __call__(self, x: Floats) -> Floats:
        """The stage's answer in float32."""

    def tensors(self) -> dict[str, Floats]:
        """Its arrays by name."""

    def settings(self) -> dict[str, Any]:
        """All that is not an array, as JSON."""

    def as_module(self) -> StageModule:
        """The same in torch."""


@dataclass(frozen=True)
class Affine:
    """`x @ weight.T + bias`; `weight` is (K, D), `bias` is (K,)."""

    kind: ClassVar[str] = "affine"
    weight: Floats
    bias: Floats

    def __post_init__(self) -> None:
        finite(self.tensors())
        if self.weight.ndim != 2 or self.bias.shape != self.weight.shape[:1]:
            raise ValueError(f"weight {self.weight.shape} and bias {self.bias.shape} do not fit")

    @property
    def width(self) -> int:
        return int(self.weight.shape[1])

    def out(self, _width: int, /) -> int:
        return int(self.weight.shape[0])

    def __call__(self, x: Floats) -> Floats:
        return np.asarray(x @ self.weight.T + self.bias, dtype=np.float32)

    def tensors(self) -> dict[str, Floats]:
        return {"weight": self.weight, "bias": self.bias}

    def settings(self) -> dict[str, Any]:
        return {}

    def as_module(self) -> StageModule:
        return _AffineModule(self)


class _AffineModule(StageModule):
    def __init__(self, stage: Affine) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.from_numpy(stage.weight.copy()))
        self.bias = nn.Parameter(torch.from_numpy(stage.bias.copy()))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight, self.bias)

    def as_stage(self) -> Affine:
        return Affine(array(self.weight), array(self.bias))


class _Plain:
    """What stages share that keep the width, whatever it is, and have nothing to keep."""

    @property
    def width(self) -> int | None:
        return None

    def out(self, width: int, /) -> int:
        return width

    def tensors(self) -> dict[str, Floats]:
        return {}

    def settings(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class Unit(_Plain):
    """Each row divided by its length."""

    kind: ClassVar[str] = "unit"

    def __call__(self, x: Floats) -> Floats:
        length = np.maximum(np.linalg.norm(x, axis=1, keepdims=True), EPSILON)
        return np.asarray(x / length, dtype=np.float32)

    def as_module(self) -> StageModule:
        return _UnitModule()


class _UnitModule(StageModule):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.normalize(x, dim=1, eps=EPSILON)

    def as_stage(self) -> Unit:
        return Unit()


@dataclass(frozen=True)
class Relu(_Plain):
    """What is below zero becomes zero."""

    kind: ClassVar[str] = "relu"

    def __call__(self, x: Floats) -> Floats:
        return np.maximum(x, 0).astype(np.float32)

    def as_module(self) -> StageModule:
        return _ReluModule()


class _ReluModule(StageModule):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(x)

    def as_stage(self) -> Relu:
        return Relu()


@dataclass(frozen=True)
class RbfKernel:
    """`exp(-gamma |x - landmark|^2)`: (N, D) becomes (N, M); `landmarks` is (M, D)."""

    kind: ClassVar[str] = "rbf_kernel"
    landmarks: Floats
    gamma: float

    def __post_init__(self) -> None:
        finite(self.tensors())
        if not self.gamma > 0:
            raise ValueError("gamma must be positive")

    @property
    def width(self) -> int:
        return int(self.landmarks.shape[1])

    def out(self, _width: int, /) -> int:
        return int(self.landmarks.shape[0])

    def __call__(self, x: Floats) -> Floats:
        return np.asarray(np.exp(-np.float32(self.gamma) * squared_distances(x, self.landmarks)), dtype=np.float32)

    def tensors(self) -> dict[str, Floats]:
        return {"landmarks": self.landmarks}

    def settings(self) -> dict[str, Any]:
        return {"gamma": self.gamma}

    def as_module(self) -> StageModule:
        return _RbfModule(self)


class _RbfModule(StageModule):
    landmarks: Tensor

    def __init__(self, stage: RbfKernel) -> None:
        super().__init__()
        self.gamma = stage.gamma
        self.register_buffer("landmarks", torch.from_numpy(stage.landmarks.copy()))

    def forward(self, x: Tensor) -> Tensor:
        return torch.exp(-self.gamma * _distances(x, self.landmarks))

    def as_stage(self) -> RbfKernel:
        return RbfKernel(array(self.landmarks), self.gamma)


@dataclass(frozen=True)
class Nearest:
    """Minus the squared distance to each class's nearest item: (N, D) becomes (N, C).

    `items` (M, D) stand class by class; `counts` are how many there are of each class, none of them 0.
    """

    kind: ClassVar[str] = "nearest"
    items: Floats
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        finite(self.tensors())
        if min(self.counts) < 1 or sum(self.counts) != len(self.items):
            raise ValueError("every class needs an item, and the counts must add up")

    @classmethod
    def of(cls, items: Floats, labels: NDArray[np.integer], classes: int) -> "Nearest":
        """From items (M, D) in any order and their classes (M,)."""
        order = np.argsort(labels, kind="stable")
        counts = np.bincount(labels, minlength=classes)
        return cls(np.ascontiguousarray(items[order], dtype=np.float32), tuple(int(count) for count in counts))

    @property
    def width(self) -> int:
        return int(self.items.shape[1])

    def out(self, _width: int, /) -> int:
        return len(self.counts)

    @property
    def starts(self) -> list[int]:
        """Where each class begins."""
        return [0, *np.cumsum(self.counts)[:-1].tolist()]

    def __call__(self, x: Floats) -> Floats:
        found = [
            np.minimum.reduceat(squared_distances(part, self.items), self.starts, axis=1)
            for part in np.array_split(x, max(1, len(x) // 1024))
        ]
        return -np.concatenate(found)

    def tensors(self) -> dict[str, Floats]:
        return {"items": self.items}

    def settings(self) -> dict[str, Any]:
        return {"counts": list(self.counts)}

    def as_module(self) -> StageModule:
        return _NearestModule(self)


class _NearestModule(StageModule):
    items: Tensor

    def __init__(self, stage: Nearest) -> None:
        super().__init__()
        self.counts = stage.counts
        self.register_buffer("items", torch.from_numpy(stage.items.copy()))

    def forward(self, x: Tensor) -> Tensor:
        parts = torch.split(_distances(x, self.items), list(self.counts), dim=1)
        return -torch.stack([part.amin(dim=1) for part in parts], dim=1)

    def as_stage(self) -> Nearest:
        return Nearest(array(self.items), self.counts)


def squared_distances(x: Floats, y: Floats) -> Floats:
    """(N, M) of rows (N, D) and (M, D), never below 0."""
    found: Floats = np.square(x).sum(axis=1, keepdims=True) - 2 * (x @ y.T) + np.square(y).sum(axis=1)
    return np.asarray(np.maximum(found, 0), dtype=np.float32)


def _distances(x: Tensor, y: Tensor) -> Tensor:
    found = x.square().sum(dim=1, keepdim=True) - 2 * (x @ y.T) + y.square().sum(dim=1)
    return found.clamp(min=0)


def array(tensor: Tensor) -> Floats:
    """A tensor as a float32 array of its own."""
    found: Floats = tensor.detach().float().cpu().numpy().copy()
    return found


def finite(tensors: dict[str, Floats]) -> None:
    """`ValueError` unless all are finite float32."""
    for name, part in tensors.items():
        if part.dtype != np.float32 or not np.isfinite(part).all():
            raise ValueError(f"{name} must be finite float32")
