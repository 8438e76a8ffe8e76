"""Images that a network is tried on when nobody sent any."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core.contract.prepare import ImagePrepare, Prepare
from core.modality.image import prepare

_IMAGES = 4


def images(config: Prepare) -> NDArray[np.float32]:
    """Prepared images (N, 3, S, S) that are always the same: noise on colour gradients."""
    assert isinstance(config, ImagePrepare)  # nothing else is imported
    rng = np.random.default_rng(0)
    side = config.size
    made = []
    for _ in range(_IMAGES):
        ramp = np.linspace(0, 1, side)[:, None, None] * rng.uniform(0, 255, 3) * np.ones((1, side, 1))
        pixels = np.clip(ramp + rng.normal(0, 40, (side, side, 3)), 0, 255).astype(np.uint8)
        made.append(prepare(Image.fromarray(pixels), config))
    return np.stack(made)
