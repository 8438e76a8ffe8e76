"""Augmentation of images. Every draw depends on (seed, epoch, item) alone, so threads may work in any order."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from core.contract.prepare import ImagePrepare
from worker.engine.recipes.rand_augment import rand_augment

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]
_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class Recipe:
    """Ranges to draw from."""

    scale: tuple[float, float]
    """Share of the image's area."""
    ratio: float
    """Aspect ratio of the crop lies in [1 / ratio, ratio]."""
    flip: bool
    jitter: float
    """Brightness, contrast and saturation are scaled by factors in [1 - jitter, 1 + jitter]."""
    operations: bool = False
    """Whether RandAugment works on the crop."""


def recipe(name: str, *, horizontal_flip: bool) -> Recipe | None:
    """The recipe of that name; None for `none`."""
    if name == "light":
        return Recipe(scale=(0.75, 1.0), ratio=1.1, flip=False, jitter=0.0)
    if name == "standard":
        return Recipe(scale=(0.35, 1.0), ratio=4 / 3, flip=horizontal_flip, jitter=0.3)
    if name == "rand_augment":
        return Recipe(scale=(0.35, 1.0), ratio=4 / 3, flip=horizontal_flip, jitter=0.0, operations=True)
    return None


def crop_box(width: int, height: int, recipe: Recipe, rng: np.random.Generator) -> Box:
    """A random crop (left, top, right, bottom), as in torchvision's `RandomResizedCrop` (Szegedy et al., CVPR 2015)."""
    for _ in range(10):
        area = width * height * rng.uniform(*recipe.scale)
        ratio = math.exp(rng.uniform(-math.log(recipe.ratio), math.log(recipe.ratio)))
        w, h = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if w <= width and h <= height:
            left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
            return left, top, left + w, top + h
    side = float(min(width, height))
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def draw(
    pixels: Pixels, config: ImagePrepare, recipe: Recipe, rng: np.random.Generator
) -> tuple[Pixels, NDArray[np.float32]]:
    """One augmented view: uint8 (size, size, 3), and its factors of brightness, contrast and saturation, (3,)."""
    image = Image.fromarray(pixels)
    box = crop_box(image.width, image.height, recipe, rng)
    view = np.asarray(image.resize((config.size, config.size), _RESAMPLING[config.interpolation], box=box))
    flipped = recipe.flip and rng.random() < 0.5
    factors = rng.uniform(1 - recipe.jitter, 1 + recipe.jitter, 3).astype(np.float32)
    if recipe.operations:
        view = rand_augment(view, rng)
    return np.ascontiguousarray(view[:, ::-1]) if flipped else view, factors


def jitter(values: Tensor, factors: Tensor) -> Tensor:
    """Scale brightness, contrast and saturation of images in [0, 1] (N, 3, S, S) by `factors` (N, 3)."""
    brightness, contrast, saturation = (factors[:, part].view(-1, 1, 1, 1) for part in range(3))
    values = values * brightness
    grey = _grey(values)
    values = torch.lerp(grey.mean(dim=(2, 3), keepdim=True).expand_as(values), values, contrast)
    return torch.lerp(_grey(values).expand_as(values), values, saturation).clamp_(0, 1)


def _grey(values: Tensor) -> Tensor:
    weights = torch.tensor([0.299, 0.587, 0.114], device=values.device).view(1, 3, 1, 1)
    return (values * weights).sum(dim=1, keepdim=True)
