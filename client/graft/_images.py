"""Images for prediction, read and sent in batches that stay below the service's limits."""

import mimetypes
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

Image = str | os.PathLike[str] | bytes | BinaryIO
Part = tuple[str, tuple[str, bytes, str]]
_MOST_ITEMS = 64
_MOST_BYTES = 32 * 1024 * 1024


def batches(images: Iterable[Image]) -> Iterator[list[Part]]:
    """Parts of multipart bodies: at most 64 images or (but for a single larger one) 32 MiB each."""
    batch: list[Part] = []
    size = 0
    for part in parts(images):
        length = len(part[1][1])
        if batch and (len(batch) == _MOST_ITEMS or size + length > _MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(part)
        size += length
    if batch:
        yield batch


def parts(images: Iterable[Image]) -> Iterator[Part]:
    """Parts of one multipart body."""
    for index, image in enumerate(images):
        name, data = _read(image, index)
        yield "files", (name, data, mimetypes.guess_type(name)[0] or "application/octet-stream")


def _read(image: Image, index: int) -> tuple[str, bytes]:
    if isinstance(image, bytes):
        return f"image-{index}", image
    if isinstance(image, (str, os.PathLike)):
        path = Path(image).expanduser()
        return path.name, path.read_bytes()
    return Path(str(getattr(image, "name", f"image-{index}"))).name, image.read()
