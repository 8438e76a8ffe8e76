"""What meta-training has to beat on the same support sets: frozen features with class means or a linear head; tuning.

Chen et al.: A Closer Look at Few-shot Classification, ICLR 2019, and Wang et al.: SimpleShot, 2019: across domains
meta-learners lose to these.
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from worker.engine.few_shot.embedder import Embedder
from worker.engine.methods.maths import logistic, transductive
from worker.engine.methods.maths.episodes import squared_distances

SIMPLE_SHOT, LOGISTIC, TUNING = "simple_shot", "logistic_regression", "plain_fine_tuning"
_PENALTY = 1e-2  # of the mean square of the features
_TUNING_STEPS = 30
_TUNING_RATE = 1e-3


@dataclass(frozen=True)
class SimpleShot:
    """Nearest class mean of centred features of length one; `centre` (D,) is the mean of training features."""

    centre: Tensor
    transductive: str = "none"

    def __call__(self, support: Tensor, query: Tensor) -> Tensor:
        known, asked = self.inner(support), self.inner(query).flatten(0, 1)
        if self.transductive != "none":
            return transductive.METHODS[self.transductive](known, asked)
        return -squared_distances(asked[None], known.mean(dim=1)[None])[0]

    def inner(self, features: Tensor) -> Tensor:
        """Features (…, D) as they are compared."""
        return nn.functional.normalize(features - self.centre, dim=-1)


@dataclass(frozen=True)
class Logistic:
    """Logistic regression on features of length one, about the same centre."""

    centre: Tensor

    def __call__(self, support: Tensor, query: Tensor) -> Tensor:
        ways, shots = support.shape[:2]
        known = nn.functional.normalize(support - self.centre, dim=-1).flatten(0, 1).cpu().numpy().astype(np.float64)
        asked = nn.functional.normalize(query - self.centre, dim=-1).flatten(0, 1).cpu().numpy()
        basis = logistic.rotate(known)
        labels = np.repeat(np.arange(ways), shots)
        start = np.zeros((basis.z.shape[1] + 1, 1, ways))
        share = np.full((len(known), 1), 1 / len(known))
        penalty = _PENALTY * float(basis.variance.sum())
        solution = logistic.minimise(basis, labels, share, start, max(penalty, 1e-12), tolerance=1e-3, iterations=200)
        weight, bias = logistic.unrotate(basis, solution[:, 0])
        return torch.from_numpy(asked @ weight.T + bias).to(support.device)


@dataclass(frozen=True)
class PlainTuning:
    """The network as meta-training started, tuned on each support set with a new head that starts at the class means.

    It keeps its running statistics: five pictures have none to speak of.
    """

    module: Embedder
    steps: int = _TUNING_STEPS

    def __call__(self, support: Tensor, query: Tensor) -> Tensor:
        ways, shots = support.shape[:2]
        module = copy.deepcopy(self.module).eval()
        inputs, truth = support.flatten(0, 1), torch.arange(ways, device=support.device).repeat_interleave(shots)
        with torch.no_grad():
            means = module(inputs).unflatten(0, (ways, shots)).mean(dim=1)
        head = nn.Linear(module.width, ways).to(support.device)
        with torch.no_grad():
            scale = 2 / means.var(dim=0).sum().clamp(min=1e-6)
            head.weight.copy_(scale * (means - means.mean(dim=0)))
            head.bias.copy_(
                -scale / 2 * (means - means.mean(dim=0)).square().sum(dim=1) - head.weight @ means.mean(dim=0)
            )
        wanted = [p for p in [*module.parameters(), *head.parameters()] if p.requires_grad]
        optimiser = torch.optim.AdamW(wanted, lr=_TUNING_RATE)
        for _ in range(self.steps):
            optimiser.zero_grad()
            nn.functional.cross_entropy(head(module(inputs)), truth).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        with torch.no_grad():
            found: Tensor = head(module(query.flatten(0, 1)))
            return found
