"""Small generators of target-like items, and critics that tell them from real ones, both knowing the class.

In feature space items are embeddings whose figures are about 1; in pixel space they are images as the network takes
them.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


class FeatureGenerator(nn.Module):
    """Source embeddings (n, D), classes (n, C) and noise (n, Z) -> target-like embeddings (n, D).

    It begins as the identity: what it adds is 0 at first.
    """

    def __init__(self, width: int, classes: int, noise: int, hidden: int) -> None:
        super().__init__()
        self.noise = noise
        self.inner = nn.Sequential(
            nn.Linear(width + classes + noise, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, hidden), nn.LeakyReLU(0.2)
        )
        self.out = nn.Linear(hidden, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, items: Tensor, classes: Tensor) -> Tensor:
        """Each call draws its own noise."""
        noise = torch.randn(len(items), self.noise, device=items.device, dtype=items.dtype)
        made: Tensor = items + self.out(self.inner(torch.cat([items, classes, noise], dim=1)))
        return made


class FeatureCritic(nn.Module):
    """Embeddings (n, D) and classes (n, C) -> how real they look (n,): a projection discriminator.

    Miyato, Koyama: cGANs with Projection Discriminator, ICLR 2018.
    """

    def __init__(self, width: int, classes: int, hidden: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Linear(width, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, hidden), nn.LeakyReLU(0.2)
        )
        self.real = nn.Linear(hidden, 1)
        self.classes = nn.Linear(classes, hidden, bias=False)

    def forward(self, items: Tensor, classes: Tensor) -> Tensor:
        """The larger, the more real."""
        inner = self.inner(items)
        return judged(inner, self.real(inner), self.classes(classes))


class PixelGenerator(nn.Module):
    """Source images (n, 3, S, S), classes (n, C) and noise (n, Z) -> target-like images (n, 3, S, S)."""

    def __init__(self, classes: int, noise: int, maps: int) -> None:
        super().__init__()
        self.noise = noise
        self.first = nn.Conv2d(3, maps, 3, padding=1)
        self.style = nn.Linear(classes + noise, maps)
        self.inner = nn.ModuleList(nn.Conv2d(maps, maps, 3, padding=1) for _ in range(4))
        self.norms = nn.ModuleList(nn.GroupNorm(8, maps) for _ in range(4))
        self.out = nn.Conv2d(maps, 3, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        assert self.out.bias is not None
        nn.init.zeros_(self.out.bias)

    def forward(self, items: Tensor, classes: Tensor) -> Tensor:
        """Each call draws its own noise."""
        noise = torch.randn(len(items), self.noise, device=items.device, dtype=items.dtype)
        style = self.style(torch.cat([classes, noise], dim=1))[:, :, None, None]
        x = torch.relu(self.first(items) + style)
        for convolution, norm in zip(self.inner, self.norms, strict=True):
            x = x + torch.relu(norm(convolution(x)))
        made: Tensor = items + self.out(x)
        return made


class PixelCritic(nn.Module):
    """Images (n, 3, S, S) and classes (n, C) -> how real they look (n,)."""

    def __init__(self, classes: int, maps: int) -> None:
        super().__init__()
        widths = (3, maps, 2 * maps, 4 * maps)
        self.inner = nn.Sequential(
            *(
                part
                for one, other in pairwise(widths)
                for part in (nn.Conv2d(one, other, 4, stride=2, padding=1), nn.LeakyReLU(0.2))
            )
        )
        self.real = nn.Linear(widths[-1], 1)
        self.classes = nn.Linear(classes, widths[-1], bias=False)

    def forward(self, items: Tensor, classes: Tensor) -> Tensor:
        """The larger, the more real."""
        inner = self.inner(items).mean(dim=(2, 3))
        return judged(inner, self.real(inner), self.classes(classes))


def judged(inner: Tensor, real: Tensor, classes: Tensor) -> Tensor:
    """Features (n, K), their mark (n, 1) and the class's direction (n, K) -> (n,)."""
    found: Tensor = real.squeeze(1) + (inner * classes).sum(dim=1) / inner.shape[1] ** 0.5
    return found


def scaled(embedding: Tensor) -> Tensor:
    """Embeddings (n, D) at length sqrt(D)."""
    found: Tensor = normalize(embedding.float(), dim=1) * embedding.shape[1] ** 0.5
    return found
