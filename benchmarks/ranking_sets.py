"""What base models are ranked on, and which: six small sets, and seven honest ways to look at an image.

A network cut off early, or given smaller images, is another base model with the same real weights.
"""

import gzip
import hashlib
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from core.contract.prepare import ImagePrepare
from worker.engine.backbones import Backbone, Base, load
from worker.engine.backbones.backbone import digest
from worker.engine.cache import CacheFolder

DOMAINS = ("amazon", "caltech10", "dslr", "webcam")
LITE = "efficientnet_lite0"
WHOLE = (LITE, "efficientnet_lite1", "efficientnet_lite2", "squeezenet1_1")


@dataclass(frozen=True)
class Photos:
    """Labelled images in memory, as they were encoded."""

    name: str
    images: list[bytes]
    labels: NDArray[np.int64]
    first: int
    """How many of them the set's own training part has; 0 where it has none."""

    def __len__(self) -> int:
        return len(self.images)

    def item(self, index: int) -> Image.Image:
        """One image, decoded."""
        return Image.open(io.BytesIO(self.images[index])).convert("RGB")

    def size(self, index: int) -> int:
        """Bytes of one image."""
        return len(self.images[index])

    def digest(self, index: int) -> str:
        """SHA-256 of one image."""
        return hashlib.sha256(self.images[index]).hexdigest()

    @property
    def key(self) -> str:
        """SHA-256 of the images in their order."""
        return hashlib.sha256(b"".join(hashlib.sha256(image).digest() for image in self.images)).hexdigest()


def sets(data: Path) -> list[Photos]:
    """Ants and bees, the four domains of Office-Caltech10, a thousand digits."""
    bees = [_folders(data / "hymenoptera" / f"{part}.zip") for part in ("train", "val")]
    (train, train_labels), (val, val_labels) = bees
    found = [Photos("ants/bees", train + val, np.concatenate([train_labels, val_labels]), len(train))]
    for domain in DOMAINS:
        images, labels = _folders(data / "office_caltech10" / f"{domain}.zip")
        found.append(Photos(f"office, {domain}", images, labels, 0))
    return [*found, _digits(data / "mnist", 1000)]


def _folders(archive: Path) -> tuple[list[bytes], NDArray[np.int64]]:
    with zipfile.ZipFile(archive) as file:
        wanted = (".jpg", ".jpeg", ".png")
        names = sorted(n for n in file.namelist() if n.lower().endswith(wanted) and "__MACOSX" not in n)
        classes = sorted({name.split("/")[-2] for name in names})
        labels = np.array([classes.index(name.split("/")[-2]) for name in names], dtype=np.int64)
        return [file.read(name) for name in names], labels


def _digits(folder: Path, count: int) -> Photos:
    def read(name: str, skip: int) -> NDArray[np.uint8]:
        return np.frombuffer(gzip.decompress((folder / name).read_bytes())[skip:], dtype=np.uint8)

    labels = read("train-labels-idx1-ubyte.gz", 8)[:count].astype(np.int64)
    pixels = read("train-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)[:count]
    images = []
    for one in pixels:
        buffer = io.BytesIO()
        Image.fromarray(one).save(buffer, "PNG")
        images.append(buffer.getvalue())
    return Photos("digits", images, labels, 0)


def bases(weights: Path) -> dict[str, Callable[[CacheFolder], Base]]:
    """Base models by name; each is built when it is wanted."""
    found: dict[str, Callable[[CacheFolder], Base]] = {name: partial(_whole, name, weights) for name in WHOLE}
    found["efficientnet_lite0 at 128"] = lambda _cache: _smaller(128)
    found["efficientnet_lite0 to blocks.4"] = lambda _cache: _cut(5)
    found["efficientnet_lite0 to blocks.2"] = lambda _cache: _cut(3)
    return found


def _whole(name: str, weights: Path, cache: CacheFolder) -> Base:
    return load(name, weights_dir=weights, cache=cache)


@cache
def _lite() -> Backbone:
    return load(LITE, weights_dir=None)


def _smaller(size: int) -> Backbone:
    lite = _lite()
    assert isinstance(lite.card.prepare, ImagePrepare)
    card = lite.card.model_copy(
        update={"id": f"{LITE} at {size}", "prepare": lite.card.prepare.model_copy(update={"size": size})}
    )
    return Backbone(card, lite.module, lite.weights_digest, lite.stages, [card.id, LITE])


def _cut(blocks: int) -> Backbone:
    """The network up to and with so many of its blocks, its last map averaged."""
    whole = load(LITE, weights_dir=None).module
    parts = [whole.get_submodule("conv_stem"), whole.get_submodule("bn1")]
    parts += list(whole.get_submodule("blocks").children())[:blocks]
    module = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    width = next(c.num_features for c in reversed(list(module.modules())) if isinstance(c, nn.BatchNorm2d))
    name = f"{LITE} to blocks.{blocks - 1}"
    card = _lite().card.model_copy(
        update={
            "id": name,
            "title": f"EfficientNet-Lite0, its first {blocks} of 7 parts",
            "architecture": f"tf_efficientnet_lite0[:{blocks}]",
            "width": width,
            "parameters": sum(p.numel() for p in module.parameters()),
            "stages": ["all"],
        }
    )
    return Backbone(card, module, digest(module), [("all", [module])], [name, LITE])
