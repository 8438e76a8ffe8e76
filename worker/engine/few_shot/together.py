"""Whether the episodes of a step are adapted to all at once or one after the other: what is faster is found by trying.

On a CPU `vmap` over the weights of a convolution becomes a grouped convolution, which is slower than a loop; over
linear layers it is several times faster.
"""

import time
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

Losses = Callable[[Tensor], Tensor]
_TRIALS = 2  # of each way, after one to warm up


class Together:
    """Calls what is faster; the choice is made once, at the first step."""

    def __init__(self, vectorise: bool | Literal["auto"], parameters: list[nn.Parameter]) -> None:
        self.vectorise, self._parameters = vectorise, parameters
        self.notes: list[str] = []

    def __call__(self, together: Losses, one: Losses, episodes: Tensor) -> Tensor:
        """What is found of each of the episodes (T, …), stacked."""
        if self.vectorise == "auto":
            self.vectorise = len(episodes) > 1 and self._faster(together, one, episodes)
        return together(episodes) if self.vectorise else in_turn(one, episodes)

    def _faster(self, together: Losses, one: Losses, episodes: Tensor) -> bool:
        """Whether all at once is faster; false where it cannot be."""
        looped = self._seconds(lambda: in_turn(one, episodes))
        try:
            at_once = self._seconds(lambda: together(episodes))
        except (RuntimeError, NotImplementedError):  # an operation that cannot be vectorised, or too little memory
            self.notes.append("The network cannot adapt to several episodes at once: it does to one after the other.")
            return False
        count, how = len(episodes), "all at once" if at_once < looped else "one after the other"
        self.notes.append(
            f"Adapted to the {count} episodes of a step {how}: together they take {1000 * at_once:.0f} ms, in turn "
            f"{1000 * looped:.0f} ms."
        )
        return at_once < looped

    def _seconds(self, run: Callable[[], Tensor]) -> float:
        """Of a step with its gradients, at best."""
        times = []
        for _ in range(1 + _TRIALS):
            begun = time.perf_counter()
            value = run()
            if value.requires_grad:
                torch.autograd.grad(value.mean(), self._parameters, retain_graph=True, allow_unused=True)
            if value.is_cuda:
                torch.cuda.synchronize(value.device)
            times.append(time.perf_counter() - begun)
        return min(times[1:])


def in_turn(one: Losses, episodes: Tensor) -> Tensor:
    """One after the other."""
    return torch.stack([one(episode) for episode in episodes])
