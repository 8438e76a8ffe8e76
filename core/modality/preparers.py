"""From an item's bytes to a network's inputs: the one way there, for training and prediction alike."""

import sys
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from core.contract.datasets import Modality
from core.contract.prepare import ImagePrepare, Prepare, TabularPrepare, TextPrepare
from core.modality import image

Arrays = tuple[NDArray[Any], ...]
"""Inputs of a network in the order of `Preparer.names`; of one item without, of a batch with a first axis."""


class Preparer(Protocol):
    """Turns decoded items (an image, a text, a row) into a network's inputs."""

    @property
    def config(self) -> Prepare:
        """What it does."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the network's inputs."""

    def __call__(self, item: Any) -> Arrays:
        """The inputs of one item, without a batch axis."""

    def collate(self, items: Sequence[Arrays]) -> Arrays:
        """A batch; texts are padded to the longest of them."""


def decode(modality: Modality, data: bytes, *, max_pixels: int = sys.maxsize) -> Any:
    """A stored item as what a `Preparer` takes: an upright RGB image, a text, or a row {column: value}.

    Raises `UnreadableItemError`.
    """
    if modality == "image":
        return image.decode(data, max_pixels=max_pixels)
    if modality == "text":
        from core.modality import text

        return text.decode(data)
    from core.modality import tabular

    return tabular.decode(data)


def preparer(config: Prepare, tokenizer: bytes | None = None) -> Preparer:
    """The one for that configuration; a text's needs the bytes of its `tokenizer.json`."""
    if isinstance(config, ImagePrepare):
        return ImagePreparer(config)
    if isinstance(config, TextPrepare):
        from core.modality import text

        if tokenizer is None:
            raise ValueError("a text's preparation needs its tokenizer")
        return text.TextPreparer(config, tokenizer)
    assert isinstance(config, TabularPrepare)
    from core.modality import tabular

    return tabular.TabularPreparer(config)


class ImagePreparer:
    """`image`: float32 (3, S, S)."""

    names = ("image",)

    def __init__(self, config: ImagePrepare) -> None:
        self.config = config

    def __call__(self, item: Any) -> Arrays:
        """Resize, crop and normalise a PIL image."""
        return (image.prepare(item, self.config),)

    def collate(self, items: Sequence[Arrays]) -> Arrays:
        """(n, 3, S, S)."""
        return (np.stack([arrays[0] for arrays in items]),)
