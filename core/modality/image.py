"""Images: file bytes -> upright RGB -> network input. Training and prediction both go through these functions."""

import io
import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from core.contract.prepare import ImagePrepare
from core.modality.errors import UnreadableItemError

# Registered here, once, so that threads never race to register them.
_PLUGINS = (
    BmpImagePlugin,
    GifImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM")
SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .apng .gif .bmp .dib .webp .tif .tiff .ppm .pgm .pbm .pnm".split()  # noqa: SIM905
)
_MAGICS = (
    (0, b"\xff\xd8\xff"),
    (0, b"\x89PNG\r\n\x1a\n"),
    (0, b"GIF8"),
    (0, b"BM"),
    (8, b"WEBP"),
    (0, b"II*\0"),
    (0, b"MM\0*"),
    (0, b"II+\0"),
    (0, b"MM\0+"),
    *((0, b"P%d" % kind + space) for kind in range(1, 7) for space in (b" ", b"\n", b"\r", b"\t")),
)
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112  # EXIF tag
_TILE_WIDTH, _TILE_LENGTH = 322, 323  # TIFF tags
_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
# Covers the largest `ImagePrepare` (1024 pixels, crop 0.8) without enlarging.
_ENOUGH = 1280
# Images longer than this, as multiples of their short side, are not resized as a whole.
_ASPECT = 8

# Pillow's own limit only warns up to 179 megapixels; `_open` checks the header against ours before any pixel exists.
Image.MAX_IMAGE_PIXELS = None


def looks_like_image(head: bytes) -> bool:
    """Whether a file that begins with `head` (16 bytes will do) claims to be in one of `FORMATS`."""
    return any(head[at : at + len(magic)] == magic for at, magic in _MAGICS)


def decode(data: bytes, *, max_pixels: int) -> Image.Image:
    """Decode an image file (one of `FORMATS`) into an upright RGB image; a pure function of its arguments.

    EXIF orientation is applied, transparency composed onto white, 16-bit greyscale scaled to 8 bits; of an animation
    the first frame is taken. A JPEG whose short side is 2560 pixels or more is decoded at 1/2, 1/4 or 1/8 of its size
    (short side still at least 1280), which no `ImagePrepare` can tell from the full size and is several times faster.

    Raises `UnreadableItemError`: `unsupported_format`, `image_too_large` (more than `max_pixels` by its header, checked
    before anything is decoded), `unreadable_image` (damaged, cut off).
    """
    return decode_sized(data, max_pixels=max_pixels)[0]


def decode_sized(data: bytes, *, max_pixels: int) -> tuple[Image.Image, tuple[int, int]]:
    """Like `decode`; also returns (width, height) of the upright image at full size."""
    try:
        with _open(data, max_pixels) as image:
            full = image.size
            _draft(image)
            image.load()
            turn = _orientation(image)
            rgb = _to_rgb(image)
    except UnreadableItemError:
        raise
    except Exception as error:  # decoders raise nearly anything on hostile bytes
        raise UnreadableItemError(
            f"The image is damaged or cut off: {_reason(error)}.",
            hint="Open the file in a viewer and save it again, or leave it out.",
        ) from error
    if turn in _UPRIGHT:
        rgb = rgb.transpose(_UPRIGHT[turn])
    return rgb, full[::-1] if turn in (5, 6, 7, 8) else full


def prepare(image: Image.Image, config: ImagePrepare) -> NDArray[np.float32]:
    """Turn an RGB image into a network input: float32 of shape (3, size, size).

    The usual evaluation transform of timm and torchvision: resize so that the short side is floor(size / crop),
    centre-crop, divide by 255, subtract `mean`, divide by `std`; Pillow's antialiased filter.
    """
    size = config.size
    pixels = np.asarray(_resize_and_crop(image, config), dtype=np.float32).reshape(size, size, 3)
    mean: NDArray[np.float32] = np.asarray(config.mean, dtype=np.float32)
    std: NDArray[np.float32] = np.asarray(config.std, dtype=np.float32)
    scaled = (pixels / np.float32(255) - mean) / std
    return np.ascontiguousarray(scaled.transpose(2, 0, 1))


def prepare_bytes(data: bytes, config: ImagePrepare, *, max_pixels: int) -> NDArray[np.float32]:
    """`prepare(decode(data))`: file bytes -> float32 (3, size, size); errors as in `decode`."""
    return prepare(decode(data, max_pixels=max_pixels), config)


def prepare_all(images: Iterable[Image.Image], config: ImagePrepare) -> NDArray[np.float32]:
    """Prepare a batch: float32 of shape (n, 3, size, size)."""
    batch = [prepare(image, config) for image in images]
    return np.stack(batch) if batch else np.empty((0, 3, config.size, config.size), np.float32)


def thumbnail(image: Image.Image, size: int) -> bytes:
    """A JPEG of the image, shrunk (never enlarged) to fit into `size` x `size` pixels."""
    small = image.copy() if max(image.size) <= size else _shrink(image, size)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _shrink(image: Image.Image, size: int) -> Image.Image:
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)


def _resize_and_crop(image: Image.Image, config: ImagePrepare) -> Image.Image:
    width, height = image.size
    short = math.floor(config.size / config.crop)
    # The long side as torchvision rounds it.
    new_width = short if width <= height else int(short * width / height)
    new_height = short if height <= width else int(short * height / width)
    left, top = round((new_width - config.size) / 2), round((new_height - config.size) / 2)
    kept = (left, top, left + config.size, top + config.size)
    filtering = _RESAMPLING[config.interpolation]
    if max(new_width, new_height) <= _ASPECT * short:
        return image.resize((new_width, new_height), filtering).crop(kept)
    # Only the kept part of a long strip: 1 x 10,000,000 pixels must not become 256 x 2,560,000,000 on the way.
    x, y = width / new_width, height / new_height
    box = (kept[0] * x, kept[1] * y, min(width, kept[2] * x), min(height, kept[3] * y))
    return image.resize((config.size, config.size), filtering, box=box)


def _open(data: bytes, max_pixels: int) -> ImageFile.ImageFile:
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        if looks_like_image(data[:16]):
            raise
        raise UnreadableItemError(
            "This is not an image in a format that is read here.",
            code="unsupported_format",
            hint="Convert it to JPEG or PNG (GIF, BMP, WebP, TIFF and PPM are read too).",
        ) from error
    width, height = _largest(image)
    if width * height > max_pixels:
        image.close()
        raise UnreadableItemError(
            f"The image has {width} x {height} pixels; the limit is {max_pixels / 1e6:g} megapixels.",
            code="image_too_large",
            hint="Scale it down, or raise GRAFT_MAX_PIXELS.",
        )
    return image


def _largest(image: ImageFile.ImageFile) -> tuple[int, int]:
    """Width and height that the header makes the decoder allocate: a tile of a TIFF may be larger than its image."""
    sides = [image.size]
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        sides.append((int(tags.get(_TILE_WIDTH, 0)), int(tags.get(_TILE_LENGTH, 0))))
    return max(sides, key=lambda side: side[0] * side[1])


def _draft(image: ImageFile.ImageFile) -> None:
    fits = min(image.size) // _ENOUGH
    scale = next((scale for scale in (8, 4, 2) if fits >= scale), 1)
    if scale > 1:  # does nothing where the format cannot do it
        image.draft(None, (image.width // scale, image.height // scale))


def _orientation(image: Image.Image) -> int:
    """Read after loading: TIFF is turned by Pillow itself, PNG may carry EXIF behind its pixels."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a photo with broken EXIF is still a photo
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_to_8_bits(np.asarray(image)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    # A copy in any case: the caller closes the file's own image.
    return image.convert("RGB") if image.mode != "RGB" else image.copy()


def _to_8_bits(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Greyscale of more than 8 bits -> uint8: 16 bits by their full range, [0, 1] floats by theirs, else min to max."""
    grey = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(grey.min()), float(grey.max())
    whole = np.issubdtype(values.dtype, np.integer)
    if whole and low >= 0 and high <= 65535:
        low, high = 0.0, 65535.0
    elif not whole and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    return ((grey - low) * (255 / max(high - low, 1e-12))).round().clip(0, 255).astype(np.uint8)


def _reason(error: Exception) -> str:
    text = str(error).strip().rstrip(".")
    return text if text and "BytesIO" not in text else type(error).__name__
