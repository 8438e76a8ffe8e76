"""Images for jobs whose verdict is known: digits and photos, whole and spoilt."""

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks import sets
from benchmarks.sets import Upload

Rng = np.random.Generator
Pixels = NDArray[np.uint8]
Drawn = tuple[Pixels, list[str], int]
"""Images, what they are, and how many of them are for training: the others, which follow, are held out."""
Draw = Callable[[Path, Rng], Drawn]
TRAIN, HELD_OUT, MANY = 300, 250, 500
TABLE, COLUMNS = "labels.csv", {"labels": "labels", "value": "value"}


def _drawn(data: Path, collection: str, rng: Rng, count: int) -> tuple[Pixels, NDArray[np.int64]]:
    pixels, labels = sets.mnist(data, "train") if collection == "mnist" else sets.usps(data)
    chosen = rng.permutation(len(labels))[:count]
    return pixels[chosen], labels[chosen]


def _digits(data: Path, rng: Rng, *, collection: str, train: int = TRAIN, held_out: int = HELD_OUT) -> Drawn:
    pixels, labels = _drawn(data, collection, rng, train + held_out)
    return pixels, [str(label) for label in labels], train


def _parity(data: Path, rng: Rng, *, collection: str) -> Drawn:
    pixels, labels = _drawn(data, collection, rng, TRAIN + HELD_OUT)
    return pixels, ["odd" if label % 2 else "even" for label in labels], TRAIN


def _pairs(data: Path, rng: Rng, *, collection: str) -> Drawn:
    """Two digits, one above the other to its right, and both as labels."""
    pixels, labels = _drawn(data, collection, rng, 2 * (TRAIN + HELD_OUT))
    size = pixels.shape[1]
    sheets = np.zeros((len(pixels) // 2, 2 * size, 2 * size), dtype=np.uint8)
    sheets[:, size:, :size], sheets[:, :size, size:] = pixels[::2], pixels[1::2]
    names = [";".join(f"digit {one}" for one in sorted({a, b})) for a, b in zip(labels[::2], labels[1::2], strict=True)]
    return sheets, names, TRAIN


def _angles(data: Path, rng: Rng, *, collection: str) -> Drawn:
    """Digits turned by up to 60 degrees to either side; the value is the angle."""
    pixels, _labels = _drawn(data, collection, rng, TRAIN + HELD_OUT)
    angles = rng.uniform(-60, 60, len(pixels)).round(2)
    turns = [Image.fromarray(one).rotate(a, Image.Resampling.BILINEAR) for one, a in zip(pixels, angles, strict=True)]
    return np.stack([np.asarray(one) for one in turns]), [str(angle) for angle in angles], TRAIN


def grouped_office(data: Path, rng: Rng, *, domain: str) -> Upload:
    """Photos of ten kinds of things as two classes of five kinds each."""
    images = list(sets._images(data / "office_caltech10" / f"{domain}.zip"))
    kinds = sorted({name.split("/")[0] for name, _ in images})
    first = {str(kind) for kind in rng.permutation(kinds)[: len(kinds) // 2]}
    files = {}
    for place, number in enumerate(rng.permutation(len(images))[: TRAIN + HELD_OUT]):
        name, image = images[number]
        group = "first" if name.split("/")[0] in first else "second"
        files[f"{'train' if place < TRAIN else 'test'}/{group}/{place:04}.jpg"] = image
    return Upload("", "image", ".zip", sets.pack(files))


def packed(drawn: Drawn, column: str = "") -> Upload:
    """As class folders, or with a table that has the labels in a column."""
    pixels, names, train = drawn
    splits = ["train" if number < train else "test" for number in range(len(names))]
    if not column:
        files = {
            f"{split}/{name}/{number:04}.png": sets.png(image)
            for number, (split, name, image) in enumerate(zip(splits, names, pixels, strict=True))
        }
        return Upload("", "image", ".zip", sets.pack(files))
    files = {f"{number:04}.png": sets.png(image) for number, image in enumerate(pixels)}
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["file_name", column, "split"])
    writer.writerows(zip(files, names, splits, strict=True))
    return Upload("", "image", ".zip", sets.pack({TABLE: text.getvalue().encode()} | files))


class Pictures:
    """Images that are drawn, perhaps spoilt, and packed."""

    def __init__(self, draw: Callable[..., Drawn], column: str = "") -> None:
        self.draw, self.column = draw, column

    def __call__(self, data: Path, rng: Rng, **options: object) -> Upload:
        """The upload."""
        return packed(self.draw(data, rng, **options), self.column)


digits, parity = Pictures(_digits), Pictures(_parity)
pairs, angles = Pictures(_pairs, "labels"), Pictures(_angles, "value")


@dataclass(frozen=True)
class Spoilt:
    """Images that are spoilt after they were drawn; it goes to another process, so it is no closure."""

    build: "partial[Upload]"
    """Of a `Pictures`."""
    spoil: Callable[[Drawn, Rng], Drawn]

    def __call__(self, data: Path, rng: Rng) -> Upload:
        """The upload."""
        pictures: Pictures = self.build.func  # type: ignore[assignment]
        return packed(self.spoil(pictures.draw(data, rng, **self.build.keywords), rng), pictures.column)


def shuffled(build: "partial[Upload]") -> Spoilt:
    """Labels that do not follow from the images, in training and on the held-out side."""
    return Spoilt(build, _other_labels)


def broken(build: "partial[Upload]", change: Callable[[Pixels, Rng], Pixels]) -> Spoilt:
    """Training images that were prepared otherwise than the held-out ones."""
    return Spoilt(build, partial(_changed, change))


def _other_labels(drawn: Drawn, rng: Rng) -> Drawn:
    pixels, names, train = drawn
    return pixels, [str(name) for name in rng.permutation(names)], train


def _changed(change: Callable[[Pixels, Rng], Pixels], drawn: Drawn, rng: Rng) -> Drawn:
    pixels, names, train = drawn
    return np.concatenate([change(pixels[:train], rng), pixels[train:]]), names, train


def mixed(pixels: Pixels, rng: Rng) -> Pixels:
    """The pixels of each image in an order of its own."""
    return rng.permuted(pixels.reshape(len(pixels), -1), axis=1).reshape(pixels.shape)


def turned(pixels: Pixels, _rng: Rng) -> Pixels:
    """Upside down."""
    return np.ascontiguousarray(pixels[:, ::-1, ::-1])


def inverted(pixels: Pixels, _rng: Rng) -> Pixels:
    """Black on white."""
    return 255 - pixels
