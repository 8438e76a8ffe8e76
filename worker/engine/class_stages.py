"""Last stages of few-shot heads: from an inner vector to one figure for each class, by what is known of the class.

A class is known by vectors that stand in the stage's tensors, so that one can be added, or taken away, without any
training. Every tensor has the same name in the model's graph as in its safetensors.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from worker.engine.stages import EPSILON, StageModule, array, finite, squared_distances

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Centred:
    """`x - mean`: (N, K) stays (N, K); `mean` is (K,)."""

    kind: ClassVar[str] = "centred"
    mean: Floats

    def __post_init__(self) -> None:
        finite(self.tensors())

    @property
    def width(self) -> int:
        return len(self.mean)

    def out(self, width: int, /) -> int:
        return width

    def __call__(self, x: Floats) -> Floats:
        return np.asarray(x - self.mean, dtype=np.float32)

    def tensors(self) -> dict[str, Floats]:
        return {"mean": self.mean}

    def settings(self) -> dict[str, Any]:
        return {}

    def as_module(self) -> StageModule:
        return CentredModule(self)


class CentredModule(StageModule):
    mean: Tensor

    def __init__(self, stage: Centred) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(stage.mean.copy()))

    def forward(self, x: Tensor) -> Tensor:
        return x - self.mean

    def as_stage(self) -> Centred:
        return Centred(array(self.mean))


@dataclass(frozen=True)
class Distances:
    """Minus the squared distance to each class's mean: (N, K) becomes (N, C); `means` is (C, K)."""

    kind: ClassVar[str] = "distances"
    means: Floats

    def __post_init__(self) -> None:
        finite(self.tensors())

    @property
    def width(self) -> int:
        return int(self.means.shape[1])

    def out(self, _width: int, /) -> int:
        return int(self.means.shape[0])

    def __call__(self, x: Floats) -> Floats:
        return -squared_distances(x, self.means)

    def tensors(self) -> dict[str, Floats]:
        return {"means": self.means}

    def settings(self) -> dict[str, Any]:
        return {}

    def as_module(self) -> StageModule:
        return DistancesModule(self)


class DistancesModule(StageModule):
    means: Tensor

    def __init__(self, stage: Distances) -> None:
        super().__init__()
        self.register_buffer("means", torch.from_numpy(stage.means.copy()))

    def forward(self, x: Tensor) -> Tensor:
        cross = x.square().sum(dim=1, keepdim=True) - 2 * (x @ self.means.T) + self.means.square().sum(dim=1)
        return -cross.clamp(min=0)

    def as_stage(self) -> Distances:
        return Distances(array(self.means))


@dataclass(frozen=True)
class Likeness:
    """The logarithm of each class's share in what the known items, weighted by their likeness, say: (N, K) -> (N, C).

    `log(exp(scale (cos(x, item) - 1)) @ member)`: attention over items (Vinyals et al., NIPS 2016), in which a class
    counts by its mean and not by how many of its items are known. `items` (M, K) have length one; `member` (M, C) is
    1 / count in the column of the item's class, else 0.
    """

    kind: ClassVar[str] = "likeness"
    items: Floats
    member: Floats
    scale: float

    def __post_init__(self) -> None:
        finite(self.tensors())
        if self.items.shape[0] != self.member.shape[0] or not self.scale > 0:
            raise ValueError("as many items as members, and a positive scale")

    @classmethod
    def of(cls, items: Floats, labels: NDArray[np.integer], classes: int, scale: float) -> "Likeness":
        """From items (M, K) and their classes (M,); every class needs one."""
        member = np.zeros((len(items), classes), dtype=np.float32)
        member[np.arange(len(items)), labels] = 1
        counts = member.sum(axis=0)
        if not counts.all():
            raise ValueError("every class needs an item")
        length = np.maximum(np.linalg.norm(items, axis=1, keepdims=True), EPSILON)
        return cls((items / length).astype(np.float32), (member / counts).astype(np.float32), scale)

    @property
    def width(self) -> int:
        return int(self.items.shape[1])

    def out(self, _width: int, /) -> int:
        return int(self.member.shape[1])

    def __call__(self, x: Floats) -> Floats:
        unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.float32(EPSILON))
        near = np.exp(np.float32(self.scale) * (unit @ self.items.T - 1))
        return np.asarray(np.log(np.maximum(near @ self.member, np.float32(LEAST))), dtype=np.float32)

    def tensors(self) -> dict[str, Floats]:
        return {"items": self.items, "member": self.member}

    def settings(self) -> dict[str, Any]:
        return {"scale": self.scale}

    def as_module(self) -> StageModule:
        return LikenessModule(self)


LEAST = 1e-30  # whose logarithm is still finite in float32


class LikenessModule(StageModule):
    items: Tensor
    member: Tensor

    def __init__(self, stage: Likeness) -> None:
        super().__init__()
        self.scale = stage.scale
        self.register_buffer("items", torch.from_numpy(stage.items.copy()))
        self.register_buffer("member", torch.from_numpy(stage.member.copy()))

    def forward(self, x: Tensor) -> Tensor:
        unit = nn.functional.normalize(x, dim=1, eps=EPSILON)
        near = torch.exp(self.scale * (unit @ self.items.T - 1))
        return torch.log((near @ self.member).clamp(min=LEAST))

    def as_stage(self) -> Likeness:
        return Likeness(array(self.items), array(self.member), self.scale)


@dataclass(frozen=True)
class Relation:
    """How a small network rates an item beside each class's mean: (N, K) becomes (N, C).

    `out_weight @ relu(item x + mean m + apart |x - m| + product x m + bias)`: the comparing network of Sung et al.
    (CVPR 2018) on vectors, told, beside the two, their difference and product. `means` is (C, K); `item`, `mean`,
    `apart`, `product` are (H, K); `bias` and `out_weight` are (H,).
    """

    kind: ClassVar[str] = "relation"
    means: Floats
    item: Floats
    mean: Floats
    apart: Floats
    product: Floats
    bias: Floats
    out_weight: Floats

    def __post_init__(self) -> None:
        finite(self.tensors())

    @property
    def width(self) -> int:
        return int(self.means.shape[1])

    def out(self, _width: int, /) -> int:
        return int(self.means.shape[0])

    def __call__(self, x: Floats) -> Floats:
        found = [self._rated(part) for part in np.array_split(x, max(1, len(x) * len(self.means) // 100_000))]
        return np.concatenate(found)

    def _rated(self, x: Floats) -> Floats:
        one, other = x[:, None], self.means[None]
        hidden = one @ self.item.T + other @ self.mean.T + np.abs(one - other) @ self.apart.T
        hidden = np.maximum(hidden + (one * other) @ self.product.T + self.bias, 0)
        return np.asarray(hidden @ self.out_weight, dtype=np.float32)

    def tensors(self) -> dict[str, Floats]:
        names = ("means", "item", "mean", "apart", "product", "bias", "out_weight")
        return {name: getattr(self, name) for name in names}

    def settings(self) -> dict[str, Any]:
        return {}

    def as_module(self) -> StageModule:
        return RelationModule(self)


class RelationModule(StageModule):
    """`compare` rates items (N, K) beside any classes (C, K); as a stage it knows its own."""

    means: Tensor

    def __init__(self, stage: Relation) -> None:
        super().__init__()
        self.register_buffer("means", torch.from_numpy(stage.means.copy()))
        self.item, self.mean, self.apart, self.product, self.bias, self.out_weight = (
            nn.Parameter(torch.from_numpy(part.copy()))
            for part in (stage.item, stage.mean, stage.apart, stage.product, stage.bias, stage.out_weight)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.compare(x, self.means)

    def compare(self, x: Tensor, means: Tensor) -> Tensor:
        """Ratings (…, N, C) of items (…, N, K) beside classes (…, C, K)."""
        one, other = x.unsqueeze(-2), means.unsqueeze(-3)
        linear = nn.functional.linear
        hidden = linear(one, self.item) + linear(other, self.mean) + linear((one - other).abs(), self.apart)
        hidden = torch.relu(hidden + linear(one * other, self.product) + self.bias)
        return hidden @ self.out_weight

    def as_stage(self) -> Relation:
        return self.with_means(array(self.means))

    def with_means(self, means: Floats) -> Relation:
        """The stage for other classes."""
        return Relation(
            means, *(array(getattr(self, name)) for name in ("item", "mean", "apart", "product", "bias", "out_weight"))
        )
