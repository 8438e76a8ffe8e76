"""What few-shot learners compute of an episode's embeddings. T episodes of W classes; tensors in, tensors out."""

import torch
from torch import Tensor, nn


def prototypes(support: Tensor) -> Tensor:
    """Class means (T, W, K) of known items (T, W, S, K)."""
    return support.mean(dim=2)


def squared_distances(query: Tensor, means: Tensor) -> Tensor:
    """Squared distances (T, N, W) of items (T, N, K) to means (T, W, K), never below 0."""
    cross = query.square().sum(dim=-1, keepdim=True) - 2 * query @ means.transpose(-1, -2)
    return (cross + means.square().sum(dim=-1)[:, None]).clamp(min=0)


def ridge_scores(support: Tensor, query: Tensor, penalty: Tensor) -> Tensor:
    """Scores (T, N, W) of items (T, N, K) by ridge regression on known ones (T, W, S, K), with a 1 appended to each.

    Solved in as many unknowns as there are known items: `q X' (X X' + penalty I)^-1 Y`. Bertinetto et al., ICLR 2019.
    """
    tasks, ways, shots = support.shape[:3]
    x, q = (nn.functional.pad(part, (0, 1), value=1.0) for part in (support.flatten(1, 2), query))
    targets = torch.eye(ways, device=x.device, dtype=x.dtype).repeat_interleave(shots, dim=0).expand(tasks, -1, -1)
    gram = x @ x.transpose(1, 2) + penalty * torch.eye(x.shape[1], device=x.device, dtype=x.dtype)
    found: Tensor = q @ x.transpose(1, 2) @ torch.linalg.solve(gram, targets)
    return found
