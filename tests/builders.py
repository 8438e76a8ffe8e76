"""Small synthetic image archives for tests: every image is distinct, its class is plain to see (colour and shape)."""

import colorsys
import gzip
import io
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ImageFormat = Literal["PNG", "JPEG"]
_SUFFIX: dict[ImageFormat, str] = {"PNG": "png", "JPEG": "jpg"}


def image_bytes(seed: int, size: tuple[int, int] = (32, 32), label: int = 0, format: ImageFormat = "PNG") -> bytes:
    """An image file of `size` (width, height).

    The label sets hue and shape (disc, square, cross, ring), the seed sets place, scale, background and noise.
    """
    return encode(image_pixels(seed, size, label), format)


def image_pixels(seed: int, size: tuple[int, int] = (32, 32), label: int = 0) -> NDArray[np.uint8]:
    """The pixels behind `image_bytes`: uint8 (height, width, 3)."""
    rng = np.random.default_rng((seed, label))
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    centre_y, centre_x = rng.uniform(0.4, 0.6, 2)
    radius = rng.uniform(0.25, 0.4)
    v, u = ((y + 0.5) / height - centre_y) / radius, ((x + 0.5) / width - centre_x) / radius
    distance = np.hypot(u, v)
    shapes = (
        distance < 1,
        np.maximum(abs(u), abs(v)) < 0.9,
        (np.minimum(abs(u), abs(v)) < 0.3) & (distance < 1.2),
        (distance < 1) & (distance > 0.55),
    )
    colour = np.array(colorsys.hsv_to_rgb((label * 0.381966) % 1, 0.8, 0.95)) * 255
    pixels = np.full((height, width, 3), rng.uniform(40, 120))
    pixels[shapes[label % len(shapes)]] = colour
    pixels += rng.normal(0, 12, pixels.shape)
    return pixels.clip(0, 255).astype(np.uint8)


def encode(pixels: NDArray[np.uint8], format: ImageFormat = "PNG") -> bytes:
    """Pixels (height, width, 3) or (height, width) as an image file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format, **({"quality": 90} if format == "JPEG" else {"compress_level": 1}))
    return buffer.getvalue()


def folder_files(
    classes: Mapping[str, int],
    *,
    prefix: str = "",
    splits: Sequence[str] | None = None,
    size: tuple[int, int] = (32, 32),
    format: ImageFormat = "PNG",
    seed: int = 0,
) -> dict[str, bytes]:
    """Path -> bytes of class folders with so many images each; with `splits`, so many in each split folder."""
    files = {}
    for number, split in enumerate(splits or [""]):
        for label, (name, count) in enumerate(classes.items()):
            for index in range(count):
                parts = [part for part in (prefix.strip("/"), split, name, f"{index:04d}.{_SUFFIX[format]}") if part]
                item = (seed * 1_000_003) + number * 100_003 + index
                files["/".join(parts)] = image_bytes(item, size, label, format)
    return files


def folder_zip(
    classes: Mapping[str, int],
    *,
    prefix: str = "",
    splits: Sequence[str] | None = None,
    extra: Mapping[str, bytes] | None = None,
    deflate: bool = False,
    size: tuple[int, int] = (32, 32),
    format: ImageFormat = "PNG",
    seed: int = 0,
) -> bytes:
    """A zip of class folders, e.g. `folder_zip({"cat": 20, "dog": 20}, splits=["train", "val"])`."""
    files = folder_files(classes, prefix=prefix, splits=splits, size=size, format=format, seed=seed)
    return make_zip({**files, **(extra or {})}, deflate=deflate)


def folder_tar(
    classes: Mapping[str, int],
    *,
    prefix: str = "",
    splits: Sequence[str] | None = None,
    extra: Mapping[str, bytes] | None = None,
    gz: bool = False,
    size: tuple[int, int] = (32, 32),
    format: ImageFormat = "PNG",
    seed: int = 0,
) -> bytes:
    """A tar (or tar.gz) of class folders; the same images as `folder_zip` with the same arguments."""
    files = folder_files(classes, prefix=prefix, splits=splits, size=size, format=format, seed=seed)
    return make_tar({**files, **(extra or {})}, gz=gz)


def flat_zip(n: int, *, prefix: str = "", seed: int = 0) -> bytes:
    """A zip of `n` images without class folders: an unlabelled data set."""
    start = f"{prefix.strip('/')}/" if prefix else ""
    return make_zip({f"{start}{index:04d}.png": image_bytes(seed + index, label=index % 4) for index in range(n)})


def digits_zip(limit: int | None = None) -> bytes:
    """scikit-learn's 1,797 handwritten digits (real data, 8 x 8) as PNG class folders; the first `limit` of them."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = (digits.images * (255 / 16)).round().astype(np.uint8)[:limit]
    return make_zip(
        {
            f"{label}/{index:04d}.png": encode(image)
            for index, (image, label) in enumerate(zip(pixels, digits.target[:limit], strict=True))
        }
    )


def make_zip(files: Mapping[str, bytes], *, deflate: bool = False) -> bytes:
    """A zip of path -> bytes, in that order, the same bytes every time; a path with a final slash is a folder."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = archive.compression
            archive.writestr(entry, data)
    return buffer.getvalue()


def make_tar(files: Mapping[str, bytes], *, gz: bool = False) -> bytes:
    """A tar of path -> bytes, in that order, the same bytes every time."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), 1, mtime=0) if gz else buffer.getvalue()
