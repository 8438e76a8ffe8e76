"""Decoding and preparing images, checked pixel by pixel."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms

from core.contract.prepare import ImagePrepare
from core.modality.errors import UnreadableItemError
from core.modality.image import decode, decode_sized, looks_like_image, prepare, prepare_all, prepare_bytes, thumbnail
from tests.builders import image_bytes, image_pixels

PIXELS = 1_000_000


def saved(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray:
    image = decode(data, max_pixels=PIXELS)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def refused(data: bytes, max_pixels: int = PIXELS) -> UnreadableItemError:
    with pytest.raises(UnreadableItemError) as caught:
        decode(data, max_pixels=max_pixels)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_give_their_pixels(format):
    wanted = image_pixels(3, (20, 11))
    assert np.array_equal(pixels(saved(Image.fromarray(wanted), format)), wanted)


def test_webp_lossless_and_first_frames():
    first, second = (Image.fromarray(image_pixels(seed, (20, 12), seed)) for seed in (1, 2))
    for format, options in (("WEBP", {"lossless": True}), ("PNG", {})):
        data = saved(first, format, save_all=True, append_images=[second], duration=50, **options)
        assert np.array_equal(pixels(data), np.asarray(first)), format
    gif = saved(Image.new("RGB", (8, 8), "red"), "GIF", save_all=True, append_images=[Image.new("RGB", (8, 8), "blue")])
    assert (pixels(gif) == (255, 0, 0)).all()
    pages = saved(first, "TIFF", save_all=True, append_images=[second])
    assert np.array_equal(pixels(pages), np.asarray(first))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_exif_orientation_is_applied(orientation, format):
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16] = (250, 0, 0)  # red at the upper left, green at the upper right
    upright[:8, 16:] = (0, 250, 0)
    undo = {  # how a camera held that way stores it
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: a.transpose(1, 0, 2)[::-1],
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    }
    stored = Image.fromarray(np.ascontiguousarray(undo[orientation](upright)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(format, {})
    image, size = decode_sized(saved(stored, format, exif=exif, **options), max_pixels=PIXELS)
    assert size == image.size == (32, 16)
    assert np.abs(np.asarray(image).astype(int) - upright).max() <= 12


def test_unknown_orientation_is_upright():
    exif = Image.Exif()
    exif[0x0112] = 77
    wanted = image_pixels(0)
    assert np.array_equal(pixels(saved(Image.fromarray(wanted), "PNG", exif=exif)), wanted)


@pytest.mark.filterwarnings("ignore")
def test_broken_exif_does_not_cost_the_photo():
    good = saved(Image.fromarray(image_pixels(0)), "JPEG", quality=95)
    junk = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12\0\x03\xff\xff\xff\xff"
    bad = good[:2] + b"\xff\xe1" + struct.pack(">H", len(junk) + 2) + junk + good[2:]
    assert np.array_equal(pixels(bad), pixels(good))


def test_sixteen_bit_grey_keeps_its_full_range():
    ramp = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)
    wanted = (ramp / 257).round()
    for data in (saved(Image.fromarray(ramp), "PNG"), saved(Image.fromarray(ramp), "TIFF")):
        got = pixels(data)
        assert np.array_equal(got[..., 0], wanted)
        assert np.array_equal(got[..., 0], got[..., 2])
    pgm = b"P5 16 16 65535\n" + ramp.astype(">u2").tobytes()
    assert np.array_equal(pixels(pgm)[..., 0], wanted)


def test_wide_grey_is_scaled():
    floats = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    assert np.array_equal(pixels(saved(Image.fromarray(floats), "TIFF"))[..., 1], (floats * 255).round())
    ints = np.linspace(-5_000_000, 5_000_000, 64).astype(np.int32).reshape(8, 8)
    got = pixels(saved(Image.fromarray(ints), "TIFF"))[..., 0]
    assert (got.min(), got.max()) == (0, 255)
    flat = np.full((8, 8), np.nan, np.float32)
    assert (pixels(saved(Image.fromarray(flat), "TIFF")) == 0).all()


def test_transparency_is_composed_onto_white():
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[..., 0] = 200
    rgba[..., 3] = np.array([0, 64, 128, 255])
    alpha = rgba[..., 3:] / 255
    wanted = rgba[..., :3] * alpha + 255 * (1 - alpha)
    assert np.abs(pixels(saved(Image.fromarray(rgba), "PNG")) - wanted).max() <= 1
    grey = Image.fromarray(np.dstack([np.full((4, 4), 10, np.uint8), rgba[..., 3]]), "LA")
    assert (pixels(saved(grey, "PNG"))[:, 0] == 255).all()
    keyed = Image.new("RGB", (4, 4), (1, 2, 3))
    assert (pixels(saved(keyed, "PNG", transparency=(1, 2, 3))) == 255).all()


def test_palettes():
    palette = Image.fromarray(image_pixels(1)).quantize(16)
    assert np.array_equal(pixels(saved(palette, "PNG")), np.asarray(palette.convert("RGB")))
    clear = Image.new("P", (4, 4), 0)
    clear.putpalette([255, 0, 0, 0, 255, 0])
    clear.putpixel((0, 0), 1)
    got = pixels(saved(clear, "PNG", transparency=bytes([0, 255])))
    assert (got[0, 0] == (0, 255, 0)).all()
    assert (got[1:] == 255).all()
    assert (pixels(saved(clear, "GIF", transparency=0))[1:] == 255).all()


def test_cmyk_and_grey_and_bits():
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # red ink
    assert np.abs(pixels(saved(cmyk, "JPEG", quality=95)) - (255, 0, 0)).max() <= 6
    assert np.abs(pixels(saved(cmyk, "TIFF")) - (255, 0, 0)).max() <= 1
    bits = np.eye(8, dtype=bool)
    assert np.array_equal(pixels(saved(Image.fromarray(bits), "PNG"))[..., 0], bits * 255)
    assert (pixels(saved(Image.new("L", (3, 3), 77), "JPEG", quality=95)) == 77).all()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""
    chunk = b"IHDR" + struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


def test_size_is_checked_before_decoding():
    """The header alone, without pixels behind it, is enough to refuse."""
    idat = struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    for side in (9_000, 30_000, 2**31 - 1):
        error = refused(png_header(side, side) + idat, max_pixels=40_000_000)
        assert error.code == "image_too_large"
    assert decode(image_bytes(0, (20, 10)), max_pixels=200).size == (20, 10)
    assert refused(image_bytes(0, (20, 10)), max_pixels=199).code == "image_too_large"


def tiled_tiff(side: int) -> bytes:
    """A 32 x 32 grey TIFF whose only tile claims `side` x `side` pixels."""
    data = zlib.compress(bytes(1024 * 1024))
    at = 8 + 2 + 12 * 10 + 4
    tags = {256: 32, 257: 32, 258: 8, 259: 8, 262: 1, 277: 1, 322: side, 323: side, 324: at, 325: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data


def test_a_tile_larger_than_its_image_is_checked_too():
    """A 1 MB file with one tile of 32,768 x 32,768 would cost a gigabyte."""
    assert decode(tiled_tiff(1024), max_pixels=2_000_000).size == (32, 32)
    error = refused(tiled_tiff(32768), max_pixels=40_000_000)
    assert error.code == "image_too_large"
    assert "32768 x 32768" in error.message


def test_large_image_below_the_limit_makes_no_warning():
    flat = saved(Image.new("1", (12_000, 8_000)), "PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(flat, max_pixels=100_000_000).size == (12_000, 8_000)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM"])
def test_cut_off_files_are_unreadable(format):
    whole = saved(Image.fromarray(image_pixels(0, (64, 64))), format)
    assert looks_like_image(whole[:16])
    for share in (0.1, 0.5, 0.9):
        assert refused(whole[: int(len(whole) * share)]).code == "unreadable_image", share


def test_what_is_no_image():
    avif_head = b"\0\0\0\x20ftypavif" + bytes(64)
    for data in (b"", b"hello", b"%PDF-1.7 ...", b"<svg xmlns='http://www.w3.org/2000/svg'/>", avif_head, bytes(4096)):
        assert refused(data).code == "unsupported_format"
    ico = saved(Image.new("RGB", (16, 16)), "ICO")
    assert refused(ico).code == "unsupported_format"


def test_damage_never_escapes_as_another_error():
    rng = np.random.default_rng(0)
    kinds = {"PNG": {}, "JPEG": {}, "GIF": {}, "WEBP": {}, "TIFF": {"compression": "tiff_lzw"}, "BMP": {}}
    wholes = [saved(Image.fromarray(image_pixels(0, (24, 24))), kind, **options) for kind, options in kinds.items()]
    outcomes = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for whole in wholes:
            for _ in range(60):
                data = bytearray(whole)
                for at in rng.integers(8, len(data), 6):
                    data[at] = rng.integers(256)
                try:
                    decode(bytes(data), max_pixels=PIXELS)
                    outcomes.add("decoded")
                except UnreadableItemError as error:
                    outcomes.add(error.code)
    assert {"decoded", "unreadable_image"} <= outcomes


def reference(image: Image.Image, config: ImagePrepare) -> np.ndarray:
    mode = getattr(transforms.InterpolationMode, config.interpolation.upper())
    return transforms.Compose(
        [
            transforms.Resize(int(config.size / config.crop), interpolation=mode, antialias=True),
            transforms.CenterCrop(config.size),
            transforms.ToTensor(),
            transforms.Normalize(config.mean, config.std),
        ]
    )(image).numpy()


@pytest.mark.parametrize("size", [(341, 256), (256, 341), (500, 375), (31, 17), (97, 601), (224, 224), (1, 1)])
@pytest.mark.parametrize(
    "config",
    [
        ImagePrepare(size=224),
        ImagePrepare(size=64, crop=0.95, interpolation="bilinear"),
        ImagePrepare(size=32, crop=1.0, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        ImagePrepare(size=65, crop=0.71),
    ],
    ids=lambda config: f"{config.size}-{config.crop}-{config.interpolation}",
)
def test_prepare_is_the_usual_evaluation_transform(size, config):
    noise = np.random.default_rng(size).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    got = prepare(image, config)
    assert got.dtype == np.float32
    assert got.shape == (3, config.size, config.size)
    assert got.flags.c_contiguous
    np.testing.assert_allclose(got, reference(image, config), rtol=0, atol=1e-6)


def test_prepare_by_hand():
    """A 2 x 2 block enlarged without crop keeps its corners; values are (v / 255 - mean) / std."""
    config = ImagePrepare(size=8, crop=1.0, interpolation="bilinear")
    got = prepare(Image.new("RGB", (8, 8), (255, 0, 51)), config)
    for channel, value in enumerate((1.0, 0.0, 0.2)):
        wanted = (value - config.mean[channel]) / config.std[channel]
        np.testing.assert_allclose(got[channel], wanted, rtol=1e-6)


@pytest.mark.parametrize("size", [(1, 400_000), (400_000, 1), (40, 900)])
def test_long_strips_cost_nothing(size):
    image = Image.new("RGB", size, (9, 99, 199))
    got = prepare(image, ImagePrepare(size=32))
    np.testing.assert_array_equal(got, prepare(Image.new("RGB", (32, 32), (9, 99, 199)), ImagePrepare(size=32)))


def test_strips_are_cropped_in_the_middle():
    strip = np.zeros((1000, 100, 3), np.uint8)
    strip[450:550] = 255  # the central square
    got = prepare(Image.fromarray(strip), ImagePrepare(size=50, crop=0.5, mean=(0, 0, 0), std=(1, 1, 1)))
    assert (got == 1).all()


def test_large_jpegs_are_scaled_while_decoding_without_a_visible_difference():
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)).resize((3600, 2700), Image.BICUBIC)
    data = saved(smooth, "JPEG", quality=92)
    image, full = decode_sized(data, max_pixels=40_000_000)
    assert (image.size, full) == ((1800, 1350), (3600, 2700))
    config = ImagePrepare(size=224, mean=(0, 0, 0), std=(1, 1, 1))
    difference = np.abs(prepare(image, config) - reference(Image.open(io.BytesIO(data)).convert("RGB"), config)) * 255
    assert difference.max() <= 2
    assert difference.mean() < 0.3
    small = saved(smooth.resize((1600, 1200)), "JPEG")
    assert decode(small, max_pixels=40_000_000).size == (1600, 1200)


def test_prepare_is_a_pure_function_of_bytes():
    data, config = image_bytes(5, (300, 200), format="JPEG"), ImagePrepare(size=96)
    once, twice = (prepare_bytes(data, config, max_pixels=PIXELS) for _ in range(2))
    assert np.array_equal(once, twice)
    batch = prepare_all([decode(data, max_pixels=PIXELS)] * 3, config)
    assert batch.shape == (3, 3, 96, 96)
    assert np.array_equal(batch[2], once)
    assert prepare_all([], config).shape == (0, 3, 96, 96)


@pytest.mark.parametrize(("size", "wanted"), [((400, 200), (160, 80)), ((8, 8), (8, 8)), ((1, 4000), (1, 160))])
def test_thumbnail(size, wanted):
    small = Image.open(io.BytesIO(thumbnail(Image.new("RGB", size, (200, 30, 30)), 160)))
    assert (small.format, small.size) == ("JPEG", wanted)
    assert np.abs(np.asarray(small).astype(int) - (200, 30, 30)).max() <= 6
