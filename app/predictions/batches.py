"""Which items are prepared together, and which of them run together.

Images: what one run needs ONNX Runtime keeps for good, so few go in at once: with 4 in place of 32, 64 requests of 32
images at once (EfficientNet-Lite0, two cores) left the process at 0.4 GB in place of 1.0 GB and took a fifth less time.
Its own means cost more than that: without the arena, or with the arena shrunk after each run, an image took a third
more processor time. Texts: those of one length together, so that little is padding. Rows: a thousand at once.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from core.contract.datasets import Modality
from core.contract.prepare import ImagePrepare, Prepare
from core.modality.preparers import Arrays

BATCH = 32
BATCH_BYTES = 64 * 1024**2
AT_ONCE: dict[Modality, int] = {"image": 4, "text": 8, "tabular": 1024}
TOKENS = 4096  # of one run, padding included


def step(config: Prepare) -> int:
    """How many items are prepared before they run."""
    if isinstance(config, ImagePrepare):
        return min(BATCH, max(1, BATCH_BYTES // (3 * config.size**2 * 4)))
    return 1024


def runs(arrays: Sequence[Arrays], modality: Modality) -> Iterator[list[int]]:
    """Places of the items that run together, every item once."""
    places = list(range(len(arrays)))
    if modality == "text":
        places.sort(key=lambda place: len(arrays[place][0]), reverse=True)
    start = 0
    while start < len(places):
        count = AT_ONCE[modality]
        if modality == "text":  # the first is the longest
            count = max(1, min(count, TOKENS // len(arrays[places[start]][0])))
        yield places[start : start + count]
        start += count


def infer(
    arrays: Sequence[Arrays],
    modality: Modality,
    run: Callable[[list[Arrays]], NDArray[np.float32]],
) -> list[NDArray[np.float32]]:
    """What the network says of each item, in their order; `run` takes some and answers (n, outputs)."""
    found: dict[int, NDArray[np.float32]] = {}
    for places in runs(arrays, modality):
        found.update(zip(places, run([arrays[place] for place in places]), strict=True))
    return [found[place] for place in range(len(arrays))]
