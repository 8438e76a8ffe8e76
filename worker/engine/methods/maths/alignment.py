"""Losses that pull two domains together: tensors in, a scalar out.

n source and m target items; hidden features (n, K), logits or probabilities (n, C). Nothing here knows a label of the
target.
"""

import math

import torch
from torch import Tensor

OCTAVES = (0.25, 0.5, 1.0, 2.0, 4.0)  # bandwidths of a multi-kernel, in units of the mean squared distance
CERTAIN = 1e-7  # least probability whose logarithm is taken


def reverse(x: Tensor, weight: float) -> Tensor:
    """The same values; gradients come back times `-weight` (Ganin et al.: Domain-Adversarial Training, JMLR 2016)."""
    still = x.detach()
    return still + weight * (still - x)


def ramp(progress: float, steepness: float = 10.0) -> float:
    """Weight in [0, 1) of an adversary that is let in slowly: 2 / (1 + exp(-steepness p)) - 1 (Ganin et al., 2016)."""
    return 2 / (1 + math.exp(-steepness * max(0.0, progress))) - 1


def kernel(x: Tensor, y: Tensor, scales: tuple[float, ...] = OCTAVES) -> Tensor:
    """Mean of Gaussian kernels between all rows of both, (n + m, n + m).

    The bandwidth is the mean squared distance between rows times each of `scales`; no gradient runs through it.
    """
    rows = torch.cat([x, y]).float()
    squares = rows.square().sum(dim=1)
    distances = (squares[:, None] - 2 * rows @ rows.T + squares[None, :]).clamp(min=0)
    mean = distances.detach().sum() / max(1, len(rows) * (len(rows) - 1))
    widths = (mean * scale + 1e-12 for scale in scales)
    return torch.stack([torch.exp(-distances / width) for width in widths]).mean(dim=0)


def discrepancy(gram: Tensor, first: int) -> Tensor:
    """Squared maximum mean discrepancy, biased and so never below 0, of the first rows of a kernel and the rest.

    Gretton, Borgwardt, Rasch, Schölkopf, Smola: A Kernel Two-Sample Test, JMLR 2012.
    """
    return gram[:first, :first].mean() + gram[first:, first:].mean() - 2 * gram[:first, first:].mean()


def mmd(x: Tensor, y: Tensor) -> Tensor:
    """Multi-kernel MMD of features (Long, Cao, Wang, Jordan: Deep Adaptation Networks, ICML 2015)."""
    return discrepancy(kernel(x, y), len(x))


def joint_mmd(layers: list[tuple[Tensor, Tensor]]) -> Tensor:
    """MMD of several layers' joint distribution: the product of their kernels (Long et al.: JAN, ICML 2017)."""
    gram = kernel(*layers[0])
    for x, y in layers[1:]:
        gram = gram * kernel(x, y, scales=(1.0,))
    return discrepancy(gram, len(layers[0][0]))


def coral(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared difference of the covariances, and of the means.

    Sun, Saenko: Deep CORAL, ECCV Workshops 2016, whose loss is a quarter of the first; the means are what matters most
    where nothing before has centred each domain.
    """
    return (covariance(x) - covariance(y)).square().mean() + (x.mean(dim=0) - y.mean(dim=0)).square().mean()


def covariance(x: Tensor) -> Tensor:
    """Of rows (n, K): (K, K)."""
    centred = x - x.mean(dim=0)
    return centred.T @ centred / max(1, len(x) - 1)


def entropy(probabilities: Tensor) -> Tensor:
    """Of each row (n, C): (n,), in nats."""
    return -(probabilities * probabilities.clamp(min=CERTAIN).log()).sum(dim=1)


def certainty(probabilities: Tensor) -> Tensor:
    """Weights (n,) of mean 1 that make sure items count more: 1 + exp(-entropy); no gradient runs through them."""
    weights = 1 + torch.exp(-entropy(probabilities.detach()))
    return weights / weights.mean()


def conditioned(hidden: Tensor, probabilities: Tensor) -> Tensor:
    """Outer product of class probabilities (n, C) and features (n, K), as rows (n, C K)."""
    return (probabilities[:, :, None] * hidden[:, None, :]).flatten(1)


def confusion(logits: Tensor, temperature: float = 2.5) -> Tensor:
    """Minimum class confusion: how much of a batch's mass lies between classes, in [0, 1].

    Jin, Wang, Long, Wang: Minimum Class Confusion for Versatile Domain Adaptation, ECCV 2020.
    """
    probabilities = torch.softmax(logits.float() / temperature, dim=1)
    weights = certainty(probabilities)
    between = (probabilities * weights[:, None]).T @ probabilities
    shares = between / between.sum(dim=1, keepdim=True).clamp(min=CERTAIN)
    return 1 - shares.diagonal().mean()


def uncertainty(logits: Tensor) -> Tensor:
    """Mean entropy less the entropy of the mean: low where items are sure and classes are many.

    Information maximisation (Krause, Perona, Gomes, NIPS 2010), as in Liang, Hu, Feng: SHOT, ICML 2020.
    """
    probabilities = torch.softmax(logits.float(), dim=1)
    return entropy(probabilities).mean() - entropy(probabilities.mean(dim=0, keepdim=True)).squeeze(0)


def centroids(hidden: Tensor, probabilities: Tensor, rounds: int = 1) -> Tensor:
    """Directions (C, K + 1) of the classes among items (m, K): weighted by probabilities (m, C), then by nearness.

    As in SHOT (Liang, Hu, Feng, ICML 2020). A class that nothing is near to any more has the direction 0.
    """
    rows, shares = directions(hidden), probabilities.float()
    means = torch.nn.functional.normalize(shares.T @ rows, dim=1)
    for _ in range(rounds):
        nearest = (rows @ means.T).argmax(dim=1)
        shares = torch.nn.functional.one_hot(nearest, probabilities.shape[1]).to(rows.dtype)
        means = torch.nn.functional.normalize(shares.T @ rows, dim=1)
    return means


def directions(hidden: Tensor) -> Tensor:
    """Features (n, K) and a constant 1, at length one: (n, K + 1)."""
    hidden = hidden.float()
    return torch.nn.functional.normalize(torch.cat([hidden, torch.ones_like(hidden[:, :1])], dim=1), dim=1)
