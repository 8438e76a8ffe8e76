"""Images for training in memory: each is decoded once, so that later epochs do not wait for JPEG decoding."""

import math

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from core.contract.prepare import ImagePrepare
from core.modality.image import prepare
from worker.engine.data import Items

Pixels = NDArray[np.uint8]
_LONGEST = 3.0  # of the short side; more of a panorama is not kept


class ImageCache:
    """Decoded images of some items by position, as long as memory lasts; the rest is decoded anew each time.

    `share` is what they may take of the memory that is free now. Safe to call from several threads.
    """

    def __init__(self, items: Items, config: ImagePrepare, *, share: float) -> None:
        self.items, self.config = items, config
        self._free = int(psutil.virtual_memory().available * share)
        self._whole: list[Pixels | None] = [None] * len(items)
        self._centre: list[Pixels | None] = [None] * len(items)

    def whole(self, position: int) -> Pixels:
        """The image with the short side as `prepare` resizes it: uint8 (height, width, 3), to be cropped at random."""
        known = self._whole[position]
        if known is None:
            known = _small(self._decode(position), math.floor(self.config.size / self.config.crop))
            self._keep(self._whole, position, known)
        return known

    def centre(self, position: int) -> Pixels:
        """The pixels that `prepare` makes, before they are normalised: uint8 (size, size, 3)."""
        known = self._centre[position]
        if known is None:
            values = prepare(self._decode(position), self.config).transpose(1, 2, 0)
            values = values * np.array(self.config.std, np.float32) + np.array(self.config.mean, np.float32)
            known = np.rint(values * 255).astype(np.uint8)
            self._keep(self._centre, position, known)
        return known

    def load(self, positions: NDArray[np.int64]) -> tuple[Tensor, ...]:
        """`centre` of several, uint8 (n, size, size, 3)."""
        return (torch.from_numpy(np.stack([self.centre(int(position)) for position in positions])),)

    def finish(self, inputs: tuple[Tensor, ...], device: torch.device) -> tuple[Tensor, ...]:
        """Normalised, on the device: float32 (n, 3, size, size)."""
        return (to_inputs(inputs[0].to(device), self.config),)

    def _decode(self, position: int) -> Image.Image:
        return self.items.collection.reader.image(int(self.items.indices[position]))

    def _keep(self, store: list[Pixels | None], position: int, pixels: Pixels) -> None:
        if self._free >= pixels.nbytes:
            self._free -= pixels.nbytes
            store[position] = pixels


def _small(image: Image.Image, short: int) -> Pixels:
    """Resized so that the short side is `short`; of very long images the middle."""
    width, height = image.size
    side = min(width, height)
    kept_width, kept_height = min(width, side * _LONGEST), min(height, side * _LONGEST)
    left, top = (width - kept_width) / 2, (height - kept_height) / 2
    size = (max(1, round(short * kept_width / side)), max(1, round(short * kept_height / side)))
    box = (left, top, left + kept_width, top + kept_height)
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC, box=box))


def to_inputs(pixels: Tensor, config: ImagePrepare) -> Tensor:
    """uint8 (N, S, S, 3) on any device -> normalised float32 (N, 3, S, S), in channels-last memory."""
    return normalise(pixels.permute(0, 3, 1, 2).float() / 255, config)


def normalise(values: Tensor, config: ImagePrepare) -> Tensor:
    """Values in [0, 1] (N, 3, S, S) -> network input."""
    mean, std = (torch.tensor(part, device=values.device).view(1, 3, 1, 1) for part in (config.mean, config.std))
    return (values - mean) / std
