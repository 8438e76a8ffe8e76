"""A Gaussian kernel's own features, on landmarks, and projections that are linear in the items or in those features.

Williams, Seeger: Using the Nystrom Method to Speed Up Kernel Machines, NeurIPS 2000. n items, D features, m landmarks,
r = rank axes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.engine.methods.maths.reweighting import gaussian
from worker.engine.methods.maths.subspaces import Map
from worker.engine.stages import RbfKernel, Stage

Array = NDArray[np.float64]
_BLOCK = 1 << 22  # kernel values made at a time
_FLOOR = 1e-7  # axes shorter than this share of the longest would turn rounding errors into features


@dataclass(frozen=True)
class KernelMap:
    """Features phi(x) = k(x, landmarks) @ root; their products are the kernel, as far as its rank goes."""

    landmarks: Array
    """(m, D)."""
    gamma: float
    root: Array
    """(m, r): the inverse root of the landmarks' own kernel."""

    def values(self, x: NDArray[np.floating]) -> Array:
        """The kernel (n, m) of items (n, D) and the landmarks."""
        return gaussian(x, self.landmarks, self.gamma)

    def __call__(self, x: NDArray[np.floating]) -> Array:
        """Features (n, r) of items (n, D)."""
        found = np.empty((len(x), self.root.shape[1]))
        rows = max(1, _BLOCK // len(self.landmarks))
        for start in range(0, len(x), rows):
            found[start : start + rows] = self.values(x[start : start + rows]) @ self.root
        return found


@dataclass(frozen=True)
class Projection:
    """A projection of items of either domain: linear, or of the values of a kernel on landmarks."""

    linear: Map
    """(k, D), or (k, M) behind a kernel on M landmarks."""
    kernel: KernelMap | None = None

    def __call__(self, x: NDArray[np.floating]) -> Array:
        """(N, D) becomes (N, k)."""
        return self.linear(x if self.kernel is None else self.kernel.values(x))

    def stages(self) -> tuple[Stage, ...]:
        """The same as stages of a head."""
        if self.kernel is None:
            return (self.linear.stage(),)
        return RbfKernel(self.kernel.landmarks.astype(np.float32), self.kernel.gamma), self.linear.stage()


def kernel_map(landmarks: Array, gamma: float) -> KernelMap:
    """The map of exp(-gamma |x - y|^2) on landmarks (m, D): exact on them, Nystrom's approximation elsewhere."""
    spectrum, axes = np.linalg.eigh(gaussian(landmarks, landmarks, gamma))
    kept = spectrum > _FLOOR * spectrum[-1]
    return KernelMap(landmarks, gamma, axes[:, kept] / np.sqrt(spectrum[kept]))


def pick_landmarks(
    source: NDArray[np.floating], target: NDArray[np.floating], most: int, rng: np.random.Generator
) -> Array:
    """At most so many of the items (n, D), (m, D): both domains have the same share of them, as far as they go."""
    from_target = min(len(target), max(most // 2, most - len(source)))
    parts = [(source, min(len(source), most - from_target)), (target, from_target)]
    return np.concatenate(
        [np.asarray(x[np.sort(rng.choice(len(x), count, replace=False))], dtype=np.float64) for x, count in parts]
    )
