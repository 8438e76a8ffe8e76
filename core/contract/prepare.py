"""How an item becomes a network's input. Training and prediction share one configuration and one function."""

from typing import Literal

from pydantic import Field

from core.contract.base import Record


class ImagePrepare(Record):
    """Resize so that the crop covers `crop` of the short side (or squash), centre-crop to `size`, scale, normalise."""

    kind: Literal["image"] = "image"
    size: int = Field(ge=8, le=1024, description="Height and width of the input in pixels.")
    crop: float = Field(default=0.875, gt=0, le=1, description="Share of the resized short side that is kept.")
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
