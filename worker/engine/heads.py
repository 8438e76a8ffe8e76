"""The head: what is put on a backbone's embedding to get one logit per class."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from worker.engine.class_stages import Centred, Distances, Likeness, Relation
from worker.engine.stages import (
    EPSILON,
    Affine,
    Nearest,
    RbfKernel,
    Relu,
    Stage,
    StageModule,
    Unit,
    array,
)

Floats = NDArray[np.float32]
Normalise = Literal["none", "l2", "standardise", "centred_l2"]
COMPARING = frozenset({Distances.kind, Likeness.kind, Relation.kind})
LEAST = 1e-12  # probability whose logarithm is taken


@dataclass(frozen=True)
class Head:
    """Stages, normalisation, then an affine map: `logits = weight @ normalise(stages(embedding)) + bias`.

    `weight` is (C, K), `bias` is (C,). `standardise` has a `mean` and a `scale`, `centred_l2` (the length is taken
    about the mean) a `mean`; both are (K,). All float32. Without stages (`before`) K is the embedding's width D.
    """

    weight: Floats
    bias: Floats
    normalise: Normalise = "none"
    mean: Floats | None = None
    scale: Floats | None = None
    before: tuple[Stage, ...] = ()

    def __post_init__(self) -> None:
        classes, width = self.weight.shape
        made = self.width
        for stage in self.before:
            if stage.width not in {None, made}:
                raise ValueError(f"a stage takes {stage.width} figures and is given {made}")
            made = stage.out(made)
        if made != width:
            raise ValueError(f"the weight takes {width} figures and is given {made}")
        if self.bias.shape != (classes,):
            raise ValueError(f"bias has shape {self.bias.shape}, not ({classes},)")
        if (self.mean is not None) != (self.normalise in {"standardise", "centred_l2"}):
            raise ValueError("a mean belongs to `standardise` and `centred_l2`, and to nothing else")
        if (self.scale is not None) != (self.normalise == "standardise"):
            raise ValueError("a scale belongs to `standardise`, and to nothing else")
        for name, part in self._own().items():
            if part.dtype != np.float32 or not np.isfinite(part).all():
                raise ValueError(f"{name} must be finite float32")
            if part.ndim == 1 and name != "bias" and part.shape != (width,):
                raise ValueError(f"{name} has shape {part.shape}, not ({width},)")
        if self.scale is not None and not (self.scale > 0).all():
            raise ValueError("scale must be positive")

    @property
    def classes(self) -> int:
        """Number of classes, C."""
        return int(self.weight.shape[0])

    @property
    def width(self) -> int:
        """Length of the embedding, D."""
        known = (stage.width for stage in self.before if stage.width is not None)
        return next(known, int(self.weight.shape[1]))

    def __call__(self, embedding: Floats) -> Floats:
        """Logits (N, C) of embeddings (N, D), in float32."""
        inner = self.represent(embedding)
        x: Floats = inner if self.mean is None else inner - self.mean
        if self.normalise in {"l2", "centred_l2"}:
            length: Floats = np.maximum(np.linalg.norm(x, axis=1, keepdims=True), EPSILON).astype(np.float32)
            x = x / length
        elif self.scale is not None:
            x = x / self.scale
        logits: Floats = x @ self.weight.T + self.bias
        return logits

    def represent(self, embedding: Floats) -> Floats:
        """What the stages make of embeddings: (N, K)."""
        for stage in self.before:
            embedding = stage(embedding)
        return embedding

    @property
    def compared_at(self) -> int:
        """Number of the stage that compares with the classes, which is the last one; as many as there are without."""
        last = self.before[-1].kind if self.before else ""
        return len(self.before) - (last in COMPARING)

    @property
    def inner_width(self) -> int:
        """K, of what is compared with the classes."""
        made = self.width
        for stage in self.before[: self.compared_at]:
            made = stage.out(made)
        return made

    def inner(self, embedding: Floats) -> Floats:
        """What is compared with the classes, (N, K): what all stages make of it but one that compares."""
        for stage in self.before[: self.compared_at]:
            embedding = stage(embedding)
        return embedding

    def reordered(self, order: list[int]) -> "Head":
        """The head with its outputs in another order, or some of them alone."""
        return replace(self, weight=self.weight[order], bias=self.bias[order])

    def rescaled(self, mean: float, std: float) -> "Head":
        """The head whose answer is this one's times `std` plus `mean`: a regression's, in the user's own unit."""
        weight, bias = self.weight * np.float32(std), self.bias * np.float32(std) + np.float32(mean)
        return replace(self, weight=weight, bias=bias)

    def tensors(self) -> dict[str, Floats]:
        """The head's tensors by name: `weight`, `bias`, where they are `mean` and `scale`, and `before.<n>.<name>`."""
        parts = self._own()
        for number, stage in enumerate(self.before):
            parts |= {f"before.{number}.{name}": part for name, part in stage.tensors().items()}
        # In C order: safetensors writes the memory of an array as it lies, transposed or not.
        return {name: np.ascontiguousarray(part) for name, part in parts.items()}

    def _own(self) -> dict[str, Floats]:
        parts = {"weight": self.weight, "bias": self.bias, "mean": self.mean, "scale": self.scale}
        return {name: part for name, part in parts.items() if part is not None}

    def settings(self) -> dict[str, Any]:
        """All that is not an array, as JSON: what `restored` needs beside the tensors."""
        stages = [{"kind": stage.kind, **stage.settings()} for stage in self.before]
        return {"normalise": self.normalise, **({"before": stages} if stages else {})}

    def as_module(self) -> "HeadModule":
        """The same head as a module that can be trained."""
        return HeadModule(self)


class HeadModule(nn.Module):
    """A head in torch: `weight` and `bias` are parameters, `mean` and `scale` are buffers."""

    mean: Tensor | None
    scale: Tensor | None

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.normalise = head.normalise
        self.before = nn.ModuleList([stage.as_module() for stage in head.before])
        self.weight = nn.Parameter(torch.from_numpy(head.weight.copy()))
        self.bias = nn.Parameter(torch.from_numpy(head.bias.copy()))
        self.register_buffer("mean", None if head.mean is None else torch.from_numpy(head.mean.copy()))
        self.register_buffer("scale", None if head.scale is None else torch.from_numpy(head.scale.copy()))

    def forward(self, embedding: Tensor) -> Tensor:
        """Logits (N, C) of embeddings (N, D)."""
        return nn.functional.linear(self.hidden(embedding), self.weight, self.bias)

    def hidden(self, embedding: Tensor) -> Tensor:
        """What the affine map is given: (N, K)."""
        x = self.represent(embedding)
        x = x if self.mean is None else x - self.mean
        if self.normalise in {"l2", "centred_l2"}:
            return nn.functional.normalize(x, dim=1, eps=EPSILON)
        return x if self.scale is None else x / self.scale

    def represent(self, embedding: Tensor) -> Tensor:
        """What the stages make of embeddings: (N, K)."""
        for stage in self.before:
            embedding = stage(embedding)
        return embedding

    def as_head(self) -> Head:
        """The trained head as plain arrays."""
        mean, scale = (None if part is None else array(part) for part in (self.mean, self.scale))
        before = tuple(stage.as_stage() for stage in self.before if isinstance(stage, StageModule))
        return Head(array(self.weight), array(self.bias), self.normalise, mean, scale, before)


@dataclass(frozen=True)
class Mixture:
    """The logarithm of a weighted mean of what several heads make probable: (N, D) becomes (N, C)."""

    kind: ClassVar[str] = "mixture"
    heads: tuple[Head, ...]
    shares: tuple[float, ...]
    """How much each counts; they add up to 1."""
    temperatures: tuple[float, ...]
    """What each head's logits are divided by first."""

    def __post_init__(self) -> None:
        if not self.heads or not len(self.heads) == len(self.shares) == len(self.temperatures):
            raise ValueError("as many shares and temperatures as heads, and at least one")
        if min(self.shares) < 0 or abs(sum(self.shares) - 1) > 1e-6 or min(self.temperatures) <= 0:
            raise ValueError("shares add up to 1, temperatures are positive")
        if len({(head.width, head.classes) for head in self.heads}) > 1:
            raise ValueError("the heads differ in what they take or give")

    @property
    def width(self) -> int:
        """D."""
        return self.heads[0].width

    def out(self, _width: int, /) -> int:
        """C."""
        return self.heads[0].classes

    def __call__(self, x: Floats) -> Floats:
        """Logarithms of probabilities (N, C)."""
        total = np.zeros((len(x), self.heads[0].classes))
        for head, share, temperature in zip(self.heads, self.shares, self.temperatures, strict=True):
            logits = head(x).astype(np.float64) / temperature
            odds = np.exp(logits - logits.max(axis=1, keepdims=True))
            total += share * odds / odds.sum(axis=1, keepdims=True)
        return np.log(np.maximum(total, LEAST)).astype(np.float32)

    def tensors(self) -> dict[str, Floats]:
        """Those of all heads."""
        return {f"heads.{n}.{name}": part for n, head in enumerate(self.heads) for name, part in head.tensors().items()}

    def settings(self) -> dict[str, Any]:
        """Shares, temperatures, and what the heads are made of."""
        return {
            "shares": list(self.shares),
            "temperatures": list(self.temperatures),
            "heads": [head.settings() for head in self.heads],
        }

    def as_module(self) -> StageModule:
        """The same in torch."""
        return _MixtureModule(self)

    def as_head(self) -> Head:
        """A head that answers with the mixture alone."""
        classes = self.heads[0].classes
        return Head(np.eye(classes, dtype=np.float32), np.zeros(classes, dtype=np.float32), before=(self,))


class _MixtureModule(StageModule):
    def __init__(self, stage: Mixture) -> None:
        super().__init__()
        self.heads = nn.ModuleList([head.as_module() for head in stage.heads])
        self.shares, self.temperatures = stage.shares, stage.temperatures

    def forward(self, x: Tensor) -> Tensor:
        parts = [
            share * torch.softmax(head(x) / temperature, dim=1)
            for head, share, temperature in zip(self.heads, self.shares, self.temperatures, strict=True)
        ]
        return torch.stack(parts).sum(dim=0).clamp(min=LEAST).log()

    def as_stage(self) -> Mixture:
        heads = tuple(head.as_head() for head in self.heads if isinstance(head, HeadModule))
        return Mixture(heads, self.shares, self.temperatures)


def restored(settings: dict[str, Any], tensors: dict[str, Floats]) -> Head:
    """A head from `Head.settings()` and `Head.tensors()`; `KeyError` or `ValueError` where they are none of one."""
    before = tuple(
        _stage(found, _under(tensors, f"before.{number}.")) for number, found in enumerate(settings.get("before", []))
    )
    return Head(
        tensors["weight"],
        tensors["bias"],
        settings.get("normalise", "none"),
        tensors.get("mean"),
        tensors.get("scale"),
        before,
    )


def _under(tensors: dict[str, Floats], prefix: str) -> dict[str, Floats]:
    return {name.removeprefix(prefix): part for name, part in tensors.items() if name.startswith(prefix)}


def _stage(found: dict[str, Any], tensors: dict[str, Floats]) -> Stage:
    if found["kind"] == Mixture.kind:
        heads = [restored(one, _under(tensors, f"heads.{n}.")) for n, one in enumerate(found["heads"])]
        return Mixture(tuple(heads), tuple(found["shares"]), tuple(found["temperatures"]))
    if found["kind"] not in _STAGES:
        raise ValueError(f"there is no stage {found['kind']!r}")
    return _STAGES[found["kind"]](found, tensors)


_STAGES: dict[str, Callable[[dict[str, Any], dict[str, Floats]], Stage]] = {
    Affine.kind: lambda _found, tensors: Affine(tensors["weight"], tensors["bias"]),
    Unit.kind: lambda _found, _tensors: Unit(),
    Relu.kind: lambda _found, _tensors: Relu(),
    RbfKernel.kind: lambda found, tensors: RbfKernel(tensors["landmarks"], float(found["gamma"])),
    Nearest.kind: lambda found, tensors: Nearest(tensors["items"], tuple(int(count) for count in found["counts"])),
    Centred.kind: lambda _found, tensors: Centred(tensors["mean"]),
    Distances.kind: lambda _found, tensors: Distances(tensors["means"]),
    Likeness.kind: lambda found, tensors: Likeness(tensors["items"], tensors["member"], float(found["scale"])),
    Relation.kind: lambda _found, tensors: Relation(**tensors),
}
