"""Items as learners take them: pictures in memory, or features of the frozen base model; as they are, or turned."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.contract.prepare import ImagePrepare
from worker.engine.data import Items
from worker.engine.few_shot.episodes import QUARTERS
from worker.engine.images import ImageCache, to_inputs
from worker.engine.recipes import warp

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
_WHOLE = 1 << 30  # bytes of pixels that are kept as one array
_BATCH = 256


class Pictures:
    """Pictures (n, 3, S, S) on the job's device."""

    def __init__(self, items: Items, config: ImagePrepare, device: torch.device, *, augment: bool) -> None:
        """With `augment` they are turned, shifted and resized a little where a generator is given."""
        self._cache = ImageCache(items, config, share=0.3)
        self._config, self._device, self._augment = config, device, augment
        self._all: NDArray[np.uint8] | None = None
        self._fits = len(items) * config.size**2 * 3 <= _WHOLE
        self._count = len(items)

    def __call__(self, rows: Ints, turns: Ints, rng: np.random.Generator | None = None) -> Tensor:
        inputs = to_inputs(torch.from_numpy(self._pixels(rows)).to(self._device), self._config)
        for turn in range(1, QUARTERS):
            chosen = np.flatnonzero(turns == turn)
            if len(chosen):
                where = torch.from_numpy(chosen).to(self._device)
                inputs[where] = torch.rot90(inputs[where], turn, dims=(2, 3))
        if rng is not None and self._augment:
            inputs = warp.warp(inputs, warp.draw(len(rows), rng))
        return inputs

    def _pixels(self, rows: Ints) -> NDArray[np.uint8]:
        if not self._fits:
            return np.stack([self._cache.centre(int(row)) for row in rows])
        if self._all is None:
            self._all = np.stack([self._cache.centre(row) for row in range(self._count)])
        return self._all[rows]


class Vectors:
    """Features (n, D) of items; of turned pictures, too, where `features` is (n, 4, D) and not (n, 1, D)."""

    def __init__(self, features: Floats, device: torch.device) -> None:
        self._features = torch.from_numpy(np.ascontiguousarray(features)).to(device)

    def __call__(self, rows: Ints, turns: Ints, rng: np.random.Generator | None = None) -> Tensor:  # noqa: ARG002
        return self._features[torch.from_numpy(rows), torch.from_numpy(turns)]


@torch.inference_mode()
def turned(module: nn.Module, pictures: Pictures, rows: int) -> Floats:
    """Embeddings (rows, 4, D) of pictures turned by none to three quarters, by a network in evaluation mode."""
    module.eval()
    found = []
    for turn in range(QUARTERS):
        parts = np.array_split(np.arange(rows), max(1, -(-rows // _BATCH)))
        found.append(torch.cat([module(pictures(part, np.full(len(part), turn))).float().cpu() for part in parts]))
    embedded: Floats = torch.stack(found, dim=1).numpy()
    return embedded
