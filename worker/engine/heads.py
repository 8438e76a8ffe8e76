"""The head: what is put on a backbone's embedding to get one logit per class."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Floats = NDArray[np.float32]
Normalise = Literal["none", "l2", "standardise", "centred_l2"]
EPSILON = 1e-12  # as torch.nn.functional.normalize


@dataclass(frozen=True)
class Head:
    """Normalisation, then an affine map: `logits = weight @ normalise(embedding) + bias`.

    `weight` is (C, D), `bias` is (C,). `standardise` has a `mean` and a `scale`, `centred_l2` (the length is taken
    about the mean) a `mean`; both are (D,). All float32.
    """

    weight: Floats
    bias: Floats
    normalise: Normalise = "none"
    mean: Floats | None = None
    scale: Floats | None = None

    def __post_init__(self) -> None:
        classes, width = self.weight.shape
        if self.bias.shape != (classes,):
            raise ValueError(f"bias has shape {self.bias.shape}, not ({classes},)")
        if (self.mean is not None) != (self.normalise in {"standardise", "centred_l2"}):
            raise ValueError("a mean belongs to `standardise` and `centred_l2`, and to nothing else")
        if (self.scale is not None) != (self.normalise == "standardise"):
            raise ValueError("a scale belongs to `standardise`, and to nothing else")
        for name, part in self.tensors().items():
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
        return int(self.weight.shape[1])

    def __call__(self, embedding: Floats) -> Floats:
        """Logits (N, C) of embeddings (N, D), in float32."""
        x: Floats = embedding if self.mean is None else embedding - self.mean
        if self.normalise in {"l2", "centred_l2"}:
            length: Floats = np.maximum(np.linalg.norm(x, axis=1, keepdims=True), EPSILON).astype(np.float32)
            x = x / length
        elif self.scale is not None:
            x = x / self.scale
        logits: Floats = x @ self.weight.T + self.bias
        return logits

    def rescaled(self, mean: float, std: float) -> "Head":
        """The head whose answer is this one's times `std` plus `mean`: a regression's, in the user's own unit."""
        weight, bias = self.weight * np.float32(std), self.bias * np.float32(std) + np.float32(mean)
        return replace(self, weight=weight, bias=bias)

    def tensors(self) -> dict[str, Floats]:
        """The head's tensors by name: `weight`, `bias` and, where they are, `mean` and `scale`."""
        parts = {"weight": self.weight, "bias": self.bias, "mean": self.mean, "scale": self.scale}
        # In C order: safetensors writes the memory of an array as it lies, transposed or not.
        return {name: np.ascontiguousarray(part) for name, part in parts.items() if part is not None}

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
        self.weight = nn.Parameter(torch.from_numpy(head.weight.copy()))
        self.bias = nn.Parameter(torch.from_numpy(head.bias.copy()))
        self.register_buffer("mean", None if head.mean is None else torch.from_numpy(head.mean.copy()))
        self.register_buffer("scale", None if head.scale is None else torch.from_numpy(head.scale.copy()))

    def forward(self, embedding: Tensor) -> Tensor:
        """Logits (N, C) of embeddings (N, D)."""
        x = embedding if self.mean is None else embedding - self.mean
        if self.normalise in {"l2", "centred_l2"}:
            x = nn.functional.normalize(x, dim=1, eps=EPSILON)
        elif self.scale is not None:
            x = x / self.scale
        return nn.functional.linear(x, self.weight, self.bias)

    def as_head(self) -> Head:
        """The trained head as plain arrays."""
        parts = {name: tensor.detach().float().cpu().numpy().copy() for name, tensor in self.state_dict().items()}
        return Head(parts["weight"], parts["bias"], self.normalise, parts.get("mean"), parts.get("scale"))
