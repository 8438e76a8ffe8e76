"""Answers to an episode's items that are asked about all at once. W classes, S known items of each, N asked about.

Vectors have length one. It helps where the classes asked about are equally frequent, and may hurt where they are not.
"""

from collections.abc import Callable

import torch
from torch import Tensor

_SCALE = 10.0  # of cosines, as logits
_PSEUDO = 8  # items asked about that each class mean takes in
_STEPS, _RATE = 100, 1e-2
_TEMPERATURE = 15.0


def bd_cspn(support: Tensor, query: Tensor) -> Tensor:
    """Logits (N, W) by class means that items asked about have been taken into.

    Liu, Song, Qin: Prototype Rectification for Few-Shot Learning, ECCV 2020. `support` is (W, S, K), `query` (N, K).
    """
    return _SCALE * _unit(query + _shift(support, query)) @ rectified(support, query).T


def rectified(support: Tensor, query: Tensor) -> Tensor:
    """Class means (W, K) of length one, after the shift between known and asked items was taken away.

    Each class's mean takes in the items asked about that it rates highest, weighted by how alike they are.
    """
    known, asked = support, _unit(query + _shift(support, query))
    means = _unit(known.mean(dim=1))
    said = torch.softmax(_SCALE * asked @ means.T, dim=1)
    best, labels = said.max(dim=1)
    found = []
    for number in range(len(means)):
        own = torch.where(labels == number, best, torch.full_like(best, -1.0))
        chosen = own.topk(min(_PSEUDO, len(own))).indices
        chosen = chosen[own[chosen] >= 0]
        rows = torch.cat([known[number], asked[chosen]])
        weight = torch.softmax(_SCALE * rows @ means[number], dim=0)
        found.append(weight @ rows)
    return _unit(torch.stack(found))


def tim(support: Tensor, query: Tensor) -> Tensor:
    """Logits (N, W) by weights that make answers sure and all classes equally frequent, and known items right.

    Boudiaf et al.: Transductive Information Maximization for Few-Shot Learning, NeurIPS 2020 (TIM-GD).
    """
    return _logits(_unit(query), tim_weights(support, query))


def tim_weights(support: Tensor, query: Tensor) -> Tensor:
    """The weights (W, K); an item's logit is minus its squared distance to them, times 7.5."""
    ways, shots = support.shape[:2]
    known, asked = _unit(support.flatten(0, 1)), _unit(query)
    truth = torch.arange(ways, device=support.device).repeat_interleave(shots)
    with torch.enable_grad():
        weights = support.mean(dim=1).detach().clone().requires_grad_()
        optimiser = torch.optim.Adam([weights], lr=_RATE)
        for _ in range(_STEPS):
            said = torch.log_softmax(_logits(asked, weights), dim=1)
            marginal = said.exp().mean(dim=0)
            sure = -(said.exp() * said).sum(dim=1).mean()
            spread = (marginal * (marginal + 1e-12).log()).sum()
            right = torch.nn.functional.cross_entropy(_logits(known, weights), truth)
            optimiser.zero_grad()
            (0.1 * right + spread + 0.1 * sure).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return weights.detach()


def _logits(rows: Tensor, weights: Tensor) -> Tensor:
    cross = rows.square().sum(dim=1, keepdim=True) - 2 * rows @ weights.T + weights.square().sum(dim=1)
    return -0.5 * _TEMPERATURE * cross


def _shift(support: Tensor, query: Tensor) -> Tensor:
    return support.flatten(0, 1).mean(dim=0) - query.mean(dim=0)


def _unit(rows: Tensor) -> Tensor:
    return torch.nn.functional.normalize(rows, dim=-1)


METHODS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"bd_cspn": bd_cspn, "tim": tim}
