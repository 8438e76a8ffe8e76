"""Items as learners take them: pictures in memory, or features of the frozen base model; as they are, or turned."""

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.contract.prepare import ImagePrepare
from worker.engine.data import Items
from worker.engine.few_shot.episodes import MIRRORED, QUARTERS
from worker.engine.few_shot.learnt import Views
from worker.engine.images import ImageCache, to_inputs
from worker.engine.recipes import warp

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
_WHOLE = 1 << 30  # bytes of pixels that are kept as one array
_BATCH = 256
_LOOKED_AT = 200  # pictures that tell ink from paper


class Pictures:
    """Pictures (n, 3, S, S) on the job's device."""

    def __init__(self, items: Items, config: ImagePrepare, device: torch.device, *, augment: bool) -> None:
        """With `augment` they are turned, shifted, bent and resized a little where a generator is given."""
        self._cache = ImageCache(items, config, share=0.3)
        self._config, self._device, self._augment = config, device, augment
        self._all: NDArray[np.uint8] | None = None
        self._fits = len(items) * config.size**2 * 3 <= _WHOLE
        self._count = len(items)

    def __call__(self, rows: Ints, turns: Ints, rng: np.random.Generator | None = None) -> Tensor:
        return self._moved(self._turned(rows, turns), rng)

    def overlaid(self, pairs: Sequence[tuple[Ints, Ints]], rng: np.random.Generator) -> Tensor:
        """Pictures of one sort laid over those of another, each sort's rows and turns (n,): what is drawn in either."""
        seen = torch.stack([self._turned(rows, turns) for rows, turns in pairs])
        return self._moved(seen.amin(dim=0) if self._dark_on_light else seen.amax(dim=0), rng)

    @cached_property
    def _dark_on_light(self) -> bool:
        """Whether the ink is darker than the paper, which there is more of."""
        some = self._pixels(np.unique(np.linspace(0, self._count - 1, _LOOKED_AT).astype(np.int64)))
        return bool(np.median(some) >= some.mean())

    def _turned(self, rows: Ints, turns: Ints) -> Tensor:
        inputs = to_inputs(torch.from_numpy(self._pixels(rows)).to(self._device), self._config)
        for turn in range(1, MIRRORED):
            chosen = np.flatnonzero(turns == turn)
            if len(chosen):
                where = torch.from_numpy(chosen).to(self._device)
                seen = inputs[where] if turn < QUARTERS else inputs[where].flip(3)
                inputs[where] = torch.rot90(seen, turn % QUARTERS, dims=(2, 3))
        return inputs

    def _moved(self, inputs: Tensor, rng: np.random.Generator | None) -> Tensor:
        if rng is None or not self._augment:
            return inputs
        maps = warp.draw(len(inputs), rng)
        return warp.warp(inputs, maps, warp.draw_bends(len(inputs), rng))

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


class Embedded:
    """Items as a network embeds them, each once, however many episodes it is in."""

    def __init__(self, views: Views, embed: Callable[[Tensor], Tensor]) -> None:
        """`embed` makes embeddings (n, K) of items (n, …); its weights do not change as long as this is in use."""
        self._views, self._embed = views, embed
        self._found: dict[tuple[int, int], int] = {}
        self._rows: Tensor | None = None

    def __call__(self, rows: Ints, turns: Ints, rng: np.random.Generator | None = None) -> Tensor:  # noqa: ARG002
        wanted = list(zip(rows.tolist(), turns.tolist(), strict=True))
        new = [one for one in dict.fromkeys(wanted) if one not in self._found]
        for begin in range(0, len(new), _BATCH):
            part = np.array(new[begin : begin + _BATCH], dtype=np.int64)
            made = self._embed(self._views(part[:, 0], part[:, 1]))
            self._rows = made if self._rows is None else torch.cat([self._rows, made])
        self._found.update({one: len(self._found) + number for number, one in enumerate(new)})
        assert self._rows is not None
        return self._rows[torch.tensor([self._found[one] for one in wanted], device=self._rows.device)]


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
