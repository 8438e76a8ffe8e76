"""RandAugment: a few operations on an image, drawn anew each time, all of one strength.

Cubuk, Zoph, Shlens, Le: RandAugment: Practical automated data augmentation with a reduced search space, NeurIPS 2020.
Operations and strengths are torchvision's (9 of 31); the draws are ours, for its own come from a generator that all
threads share.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import InterpolationMode, functional

Pixels = NDArray[np.uint8]
OPERATIONS = 2
_STRENGTH = 9 / 30  # of each operation's range
_FACTOR = 0.9 * _STRENGTH


def _affine(
    image: Image.Image, *, translate: tuple[int, int] = (0, 0), shear: tuple[float, float] = (0, 0)
) -> Image.Image:
    """Shears in degrees, about the top left corner, as torchvision's."""
    centre = [0, 0] if any(shear) else None
    found: Image.Image = functional.affine(
        image,
        angle=0,
        translate=list(translate),
        scale=1,
        shear=list(shear),
        interpolation=InterpolationMode.NEAREST,
        center=centre,
    )
    return found


def _shear(image: Image.Image, sign: int, axis: int) -> Image.Image:
    degrees = float(np.degrees(np.arctan(0.3 * _STRENGTH * sign)))
    return _affine(image, shear=(degrees, 0.0) if axis == 0 else (0.0, degrees))


def _translate(image: Image.Image, sign: int, axis: int) -> Image.Image:
    pixels = int(150 / 331 * image.size[axis] * _STRENGTH * sign)
    return _affine(image, translate=(pixels, 0) if axis == 0 else (0, pixels))


def _rotate(image: Image.Image, sign: int) -> Image.Image:
    found: Image.Image = functional.rotate(image, 30 * _STRENGTH * sign)
    return found


def _unsigned(operation: Callable[[Image.Image], Image.Image], image: Image.Image, _sign: int) -> Image.Image:
    return operation(image)


def _signed(operation: Callable[[Image.Image, float], Image.Image], image: Image.Image, sign: int) -> Image.Image:
    return operation(image, 1 + _FACTOR * sign)


Operation = Callable[[Image.Image, int], Image.Image]
MENU: dict[str, Operation] = {
    "Identity": partial(_unsigned, lambda image: image),
    "ShearX": partial(_shear, axis=0),
    "ShearY": partial(_shear, axis=1),
    "TranslateX": partial(_translate, axis=0),
    "TranslateY": partial(_translate, axis=1),
    "Rotate": _rotate,
    "Brightness": partial(_signed, functional.adjust_brightness),
    "Color": partial(_signed, functional.adjust_saturation),
    "Contrast": partial(_signed, functional.adjust_contrast),
    "Sharpness": partial(_signed, functional.adjust_sharpness),
    "Posterize": partial(_unsigned, lambda image: functional.posterize(image, 7)),
    "Solarize": partial(_unsigned, lambda image: functional.solarize(image, 255 * (1 - _STRENGTH))),
    "AutoContrast": partial(_unsigned, functional.autocontrast),
    "Equalize": partial(_unsigned, functional.equalize),
}
"""Each takes an RGB image and the direction, 1 or -1, for those that have one."""


def rand_augment(view: Pixels, rng: np.random.Generator) -> Pixels:
    """Two random operations, one after the other, on a view: uint8 (S, S, 3)."""
    image = Image.fromarray(view)
    for name in rng.choice(list(MENU), OPERATIONS):
        image = MENU[name](image, 1 if rng.random() < 0.5 else -1)
    return np.asarray(image)
