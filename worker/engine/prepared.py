"""Texts and rows for training: each is read and prepared once, as long as memory lasts."""

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.modality.preparers import Arrays, Preparer
from worker.engine.data import Items


class PreparedItems:
    """Inputs of some items by position; safe to call from several threads.

    `share` is what they may take of the memory that is free now; the rest is prepared anew each time.
    """

    def __init__(self, items: Items, preparer: Preparer, *, share: float) -> None:
        self.items, self.preparer = items, preparer
        self._free = int(psutil.virtual_memory().available * share)
        self._known: list[Arrays | None] = [None] * len(items)

    def load(self, positions: NDArray[np.int64]) -> tuple[Tensor, ...]:
        """A batch on the CPU."""
        arrays = self.preparer.collate([self._one(int(position)) for position in positions])
        return tuple(torch.from_numpy(part) for part in arrays)

    def finish(self, inputs: tuple[Tensor, ...], device: torch.device) -> tuple[Tensor, ...]:
        """The batch on the device."""
        return tuple(part.to(device, non_blocking=True) for part in inputs)

    def _one(self, position: int) -> Arrays:
        known = self._known[position]
        if known is None:
            reader = self.items.collection.reader
            known = self.preparer(reader.item(int(self.items.indices[position])))
            size = sum(part.nbytes for part in known)
            if self._free >= size:
                self._free -= size
                self._known[position] = known
        return known
