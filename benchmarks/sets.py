"""The real data sets as uploads: archives of photos and digits, tables of reviews, with a fifth held out."""

import gzip
import hashlib
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core.contract.datasets import Modality
from core.modality.ingest import ingest
from core.settings import Settings
from worker.engine.door import DataRef

DOMAINS = ("amazon", "caltech10", "dslr", "webcam")
REVIEWS = ("books", "dvd", "electronics", "kitchen")
HELD_OUT = 0.2


@dataclass(frozen=True)
class Upload:
    """A file as a user would send it."""

    name: str
    modality: Modality
    suffix: str
    data: bytes

    def refer(self, scratch: Path, seed: int = 0) -> DataRef:
        """Ingest it as the service does, in a folder of its own."""
        folder = scratch / hashlib.sha256(f"{self.name}:{seed}".encode()).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"upload{self.suffix}"
        path.write_bytes(self.data)
        sha256 = hashlib.sha256(self.data).hexdigest()
        found = ingest(path, sha256, limits=Settings(data_dir=folder), seed=seed, scratch=folder)
        text = found.manifest.model_dump_json().encode()
        (folder / "manifest.json").write_bytes(text)
        digest = hashlib.sha256(text).hexdigest()
        return DataRef(f"ds_{digest[:26]}", folder / "manifest.json", digest, found.content or path)


def ten(data: Path) -> Iterator[Upload]:
    """Ants and bees, the four domains of Office-Caltech10, a thousand digits, and four sets of reviews."""
    yield bees(data)
    for domain in DOMAINS:
        yield office(data, domain)
    yield digits(data, 1000)
    for kind in REVIEWS:
        yield reviews(data, kind)


def bees(data: Path) -> Upload:
    """With the split of the official tutorial: 244 photos to learn from, 153 held out."""
    files = {}
    for part, split in (("train", "train"), ("val", "test")):
        for name, image in _images(data / "hymenoptera" / f"{part}.zip"):
            files[f"{split}/{name}"] = image
    return Upload("hymenoptera", "image", ".zip", pack(files))


def office(data: Path, domain: str) -> Upload:
    """One domain, a fifth of each class held out."""
    return Upload(
        f"office {domain}", "image", ".zip", _held_out(dict(_images(data / "office_caltech10" / f"{domain}.zip")))
    )


def office_half(data: Path, domain: str, half: int) -> Upload:
    """Every other photo of each class of a domain, from the first (half 0) or the second (half 1) on."""
    files: dict[str, dict[str, bytes]] = {}
    for name, image in _images(data / "office_caltech10" / f"{domain}.zip"):
        files.setdefault(name.split("/")[0], {})[name] = image
    chosen = {name: image for found in files.values() for name, image in list(found.items())[half::2]}
    return Upload(f"office {domain}, half {half}", "image", ".zip", pack(chosen))


def photos(data: Path) -> Upload:
    """All of both: the ten classes of Office-Caltech10, of its four domains together, and ants and bees."""
    files = {}
    for part in ("train", "val"):
        files |= dict(_images(data / "hymenoptera" / f"{part}.zip"))
    for domain in DOMAINS:
        for name, image in _images(data / "office_caltech10" / f"{domain}.zip"):
            label, file = name.split("/")
            files[f"{label}/{domain}_{file}"] = image
    return Upload("photos", "image", ".zip", _held_out(files))


def digits(data: Path, count: int) -> Upload:
    """The first `count` training digits of MNIST, a fifth of each class held out."""
    pixels, labels = mnist(data, "train")
    files = {f"{labels[i]}/{i:05}.png": png(pixels[i]) for i in range(count)}
    return Upload(f"digits ({count})", "image", ".zip", _held_out(files))


def reviews(data: Path, kind: str) -> Upload:
    """One kind of product, 2,000 reviews, half of them good; a fifth held out."""
    lines = gzip.decompress((data / "amazon_reviews" / f"{kind}.csv.gz").read_bytes())
    import polars

    frame = polars.read_csv(io.BytesIO(lines))
    order = np.random.default_rng(0).permutation(len(frame))
    split = np.full(len(frame), "train", dtype=object)
    split[order[: int(HELD_OUT * len(frame))]] = "test"
    buffer = io.BytesIO()
    frame.with_columns(polars.Series("split", split.tolist())).write_csv(buffer)
    return Upload(f"reviews {kind}", "text", ".csv", buffer.getvalue())


def mnist(data: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Digits (n, 28, 28) and what they are (n,); `part` is `train` or `t10k`."""

    def read(name: str, skip: int) -> NDArray[np.uint8]:
        return np.frombuffer(gzip.decompress((data / "mnist" / name).read_bytes())[skip:], dtype=np.uint8)

    labels = read(f"{part}-labels-idx1-ubyte.gz", 8).astype(np.int64)
    return read(f"{part}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28), labels


def usps(data: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Training digits (n, 16, 16) of USPS and what they are (n,)."""
    with np.load(data / "usps" / "usps_16x16.npz") as found:
        return found["train_x"].reshape(-1, 16, 16), found["train_y"].astype(np.int64)


def _images(archive: Path) -> Iterator[tuple[str, bytes]]:
    """`<class>/<name>` and bytes of every image."""
    with zipfile.ZipFile(archive) as file:
        for name in sorted(file.namelist()):
            if name.lower().endswith((".jpg", ".jpeg", ".png")) and "__MACOSX" not in name:
                yield "/".join(name.split("/")[-2:]), file.read(name)


def _held_out(files: dict[str, bytes]) -> bytes:
    """Split folders around class folders: a fifth of each class, drawn by a fixed seed, is the test split."""
    rng, split = np.random.default_rng(0), {}
    for label in sorted({name.split("/")[0] for name in files}):
        names = [name for name in files if name.split("/")[0] == label]
        held_out = set(rng.permutation(len(names))[: max(1, round(HELD_OUT * len(names)))].tolist())
        for number, name in enumerate(names):
            split[f"{'test' if number in held_out else 'train'}/{name}"] = files[name]
    return pack(split)


def pack(files: dict[str, bytes]) -> bytes:
    """A zip of these files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A picture as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def omniglot(data: Path) -> Upload:
    """Both small background sets: 242 characters of 8 alphabets, 20 drawings of each; nothing is held out."""
    files: dict[str, bytes] = {}
    for part in ("small1", "small2"):
        with zipfile.ZipFile(data / "omniglot" / f"images_background_{part}.zip") as archive:
            for name in archive.namelist():
                path = PurePosixPath(name)
                if path.suffix == ".png" and "__MACOSX" not in name:
                    files["/".join(path.parts[-3:])] = archive.read(name)
    return Upload("omniglot", "image", ".zip", pack(files))
