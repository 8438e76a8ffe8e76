"""The start that a few steps begin at, and what these steps are."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from worker.engine.few_shot.embedder import Embedder
from worker.engine.few_shot.episode_norm import inside, install
from worker.engine.methods.maths.inner_loop import BIAS, WEIGHT, Params, Rates

WAYS = 5  # classes that an inner learning rate is said for
RATES = "few_shot.rates."  # names of rates in the model's file: this, and the parameter's


@dataclass(frozen=True)
class Inner:
    """The steps of a method where nothing is said."""

    steps: int
    test_steps: int
    lr: float
    body: int | None = None
    """In how many of the steps, the last ones, the body moves; None: in all but the first."""
    body_lr: float | None = None
    """Its own rate; None: that of the head."""

    @property
    def of_body(self) -> float:
        """The body's rate."""
        return self.lr if self.body_lr is None else self.body_lr


@dataclass(frozen=True)
class How:
    """What one method does otherwise than another."""

    name: str
    adapts: Literal["all", "head"] = "all"
    order: Literal[1, 2] = 2
    learns_rates: bool = False


class Start(nn.Module):
    """What is learnt: the embedder, and a rate for each weight where a method learns them."""

    def __init__(
        self, embedder: Embedder, inner: Inner, *, learns_rates: bool = False, by_support: bool = False
    ) -> None:
        """`by_support` has batch norms go by an episode's known items, and not by what they were trained with."""
        super().__init__()
        self.embedder, self._inner = embedder, inner
        self.layout = install(embedder) if by_support else None
        shapes = {name: part.shape for name, part in self.body().items()}
        shapes |= {WEIGHT: torch.Size([embedder.width]), BIAS: torch.Size([1])}
        self.names = list(shapes) if learns_rates else []
        self.rates = nn.ParameterList(torch.full(shapes[name], self._rate(name)) for name in self.names)

    def body(self) -> Params:
        """The embedder's parameters that are trained, by name."""
        return {name: part for name, part in self.embedder.named_parameters() if part.requires_grad}

    def rates_by_name(self, ways: int) -> Rates:
        """Of every parameter, with so many classes."""
        if self.names:
            return {name: rate * for_ways(ways) for name, rate in zip(self.names, self.rates, strict=True)}
        return {name: self._rate(name) * for_ways(ways) for name in (*self.body(), WEIGHT, BIAS)}

    def _rate(self, name: str) -> float:
        return self._inner.lr if name in {WEIGHT, BIAS} else self._inner.of_body

    def embed(self, body: Params, items: Tensor, known: int | None = None, episodes: int = 1) -> Tensor:
        """Embeddings (n, K) of items (n, …) by those parameters; the first `known` of an episode are known."""
        if self.layout is None:
            return _call(self.embedder, body, items)
        with inside(self.layout, len(items) if known is None else known, episodes):
            return _call(self.embedder, body, items)

    def asked(self, body: Params, known: Tensor, asked: Tensor) -> Tensor:
        """Embeddings (m, K) of items (m, …) asked about, beside known ones (n, …)."""
        if self.layout is None:
            return self.embed(body, asked)
        return self.embed(body, torch.cat([known, asked]), len(known))[len(known) :]


def in_step(body_lr: float | None, before: float, now: float) -> float | None:
    """The body's rate where the head's becomes another: their ratio stays, for a training stands or falls by it."""
    return None if body_lr is None else body_lr * now / before


def for_ways(ways: int) -> float:
    """What a rate is multiplied by: the loss is a mean over the classes, which pulls at each the less the more there
    are. Rates are those for `WAYS`.
    """
    return ways / WAYS


def _call(module: nn.Module, body: Params, items: Tensor) -> Tensor:
    found: Tensor = torch.func.functional_call(module, body, (items,))
    return found
