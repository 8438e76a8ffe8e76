"""Batch norms that take their statistics from an episode's known items, for these and those asked about alike.

So each item that is asked about is answered by itself, whatever else is asked ("MetaBN" in Bronskill et al.: TaskNorm,
ICML 2020). Outside of episodes they are ordinary ones with running statistics, under the same names.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

_MOMENTUM = 0.02  # running statistics are those of some fifty episodes


@dataclass
class Layout:
    """How a batch is made up: the items of `episodes` one after the other, of each the `known` ones first."""

    episodes: int = 1
    known: int | None = None
    """None outside of episodes."""
    keep: bool = False
    """Whether what is known of the episode becomes the running statistics."""
    fused: bool = True
    """Whether torch's own batch norm may be called: its second derivatives under `vmap` are wrong (2.15)."""


class EpisodeNorm(nn.BatchNorm2d):
    """(N, C, H, W) stays so."""

    def __init__(self, plain: nn.BatchNorm2d, layout: Layout) -> None:
        """In the place of `plain`, with its tensors."""
        super().__init__(plain.num_features, plain.eps, _MOMENTUM, device=plain.weight.device, dtype=plain.weight.dtype)
        self.load_state_dict(plain.state_dict())
        self.train(plain.training)
        self.layout = layout

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch names it so
        episodes, known = self.layout.episodes, self.layout.known
        if known is None:
            return super().forward(input)
        if episodes == 1 and known == len(input) and self.layout.fused and not self.layout.keep:
            return batch_norm(input, None, None, self.weight, self.bias, True, 0.0, self.eps)
        x = input.reshape(episodes, -1, *input.shape[1:])
        exact = x[:, :known].to(torch.promote_types(x.dtype, torch.float32))
        variance, mean = torch.var_mean(exact, dim=(1, 3, 4), correction=0, keepdim=True)
        if self.layout.keep and self.running_mean is not None and self.running_var is not None:
            self.running_mean.copy_(mean.flatten())
            self.running_var.copy_(variance.flatten())
        factor = (variance + self.eps).rsqrt() * self.weight.view(-1, 1, 1)
        offset = self.bias.view(-1, 1, 1) - mean * factor
        return torch.addcmul(offset.to(x.dtype), x, factor.to(x.dtype)).flatten(0, 1)


def install(module: nn.Module) -> Layout:
    """Put them in the place of all batch norms of a network; returns what says how batches are made up."""
    layout = Layout()
    for part in list(module.modules()):
        for name, child in part.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(part, name, EpisodeNorm(child, layout))
    return layout


@contextmanager
def inside(layout: Layout, known: int, episodes: int = 1) -> Iterator[None]:
    """Batches are episodes for a while."""
    before = layout.episodes, layout.known
    layout.episodes, layout.known = episodes, known
    try:
        yield
    finally:
        layout.episodes, layout.known = before


def keep_statistics(module: nn.Module, layout: Layout, items: Tensor) -> None:
    """Make the running statistics exactly what these known items (n, …) have in an episode."""
    with torch.no_grad(), inside(layout, len(items)):
        layout.keep = True
        module(items)
        layout.keep = False
