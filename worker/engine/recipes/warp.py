"""Small turns, shears, shifts, bends and changes of size of whole batches, on the device: for digits, letters, signs.

Left and right, and light and dark, stay as they are. Simard, Steinkraus, Platt: Best Practices for Convolutional Neural
Networks Applied to Visual Document Analysis, ICDAR 2003.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

TURN, SHEAR = math.radians(15), math.radians(10)
SIZE = math.log(1.25)
SHIFT = 0.2  # in units of half the picture
BEND = 0.1  # the same, of the corners of a grid that bends a picture
_CORNERS = 4  # of that grid, on each side


def draw(count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """So many random maps from a picture's new coordinates to its old ones, (count, 2, 3)."""
    turn, shear = rng.uniform(-TURN, TURN, count), np.tan(rng.uniform(-SHEAR, SHEAR, count))
    size = np.exp(rng.uniform(-SIZE, SIZE, count))
    across, down = rng.uniform(-SHIFT, SHIFT, (2, count))
    c, s = np.cos(turn) / size, np.sin(turn) / size
    maps = np.array([[c, shear * c - s, across], [s, shear * s + c, down]])
    return maps.transpose(2, 0, 1).astype(np.float32)


def draw_bends(count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """By how much the corners of a grid are moved, (count, 2, 4, 4): elastic deformations of strokes."""
    return rng.normal(0, BEND, (count, 2, _CORNERS, _CORNERS)).astype(np.float32)


def warp(images: Tensor, maps: NDArray[np.float32], bends: NDArray[np.float32] | None = None) -> Tensor:
    """Images (N, 3, S, S) through maps (N, 2, 3); what comes in from outside repeats the border.

    With `bends` (N, 2, G, G) they are bent, too, smoothly between the corners of a grid.
    """
    grid = affine_grid(torch.from_numpy(maps).to(images.device), list(images.shape), align_corners=False)
    if bends is not None:
        moved = torch.from_numpy(bends).to(images.device)
        field = interpolate(moved, list(images.shape[2:]), mode="bicubic", align_corners=True)
        grid = grid + field.permute(0, 2, 3, 1)
    return grid_sample(images, grid.to(images.dtype), padding_mode="border", align_corners=False)
