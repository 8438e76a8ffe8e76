"""What a network's inputs look like: their names, an example, and which axes may have any length."""

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from core.contract.prepare import ImagePrepare, Prepare, TabularPrepare, TextPrepare


@dataclass(frozen=True)
class Signature:
    """Inputs of a network, in their order."""

    names: tuple[str, ...]
    example: tuple[Tensor, ...]
    """A batch of two."""
    free: tuple[tuple[str, ...], ...]
    """Names of the leading axes of each input that may have any length."""

    def dynamic_shapes(self) -> tuple[dict[int, Any], ...]:
        """As `torch.onnx.export` wants them."""
        axes = {name: torch.export.Dim(name) for names in self.free for name in names}
        return tuple({number: axes[name] for number, name in enumerate(names)} for names in self.free)


def signature(config: Prepare) -> Signature:
    """The inputs that this preparation makes."""
    generator = torch.Generator().manual_seed(0)
    if isinstance(config, ImagePrepare):
        image = torch.randn(2, 3, config.size, config.size, generator=generator)
        return Signature(("image",), (image,), (("batch",),))
    if isinstance(config, TextPrepare):
        ids = torch.randint(0, 4, (2, 12), generator=generator)
        mask = torch.ones_like(ids)
        mask[1, 7:] = 0
        return Signature(("input_ids", "attention_mask"), (ids, mask), (("batch", "tokens"),) * 2)
    assert isinstance(config, TabularPrepare)
    parts: dict[str, Tensor] = {}
    if config.numbers:
        parts["numbers"] = torch.randn(2, 2 * len(config.numbers), generator=generator)
    if config.categories:
        last = torch.tensor([len(column.values) for column in config.categories])
        parts["categories"] = torch.stack([torch.zeros_like(last), last])
    return Signature(tuple(parts), tuple(parts.values()), (("batch",),) * len(parts))


def shape_key(config: Prepare) -> str:
    """What an exported graph depends on beside the network's weights."""
    if isinstance(config, ImagePrepare):
        return str(config.size)
    return hashlib.sha256("|".join(signature(config).names).encode()).hexdigest()[:16]
