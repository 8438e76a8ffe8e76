"""Small pictures of mistaken items, out of the data set they were measured on, as long as that still exists."""

import base64
import zlib
from typing import BinaryIO

from app.models.blobs import CorruptBlobError, open_blob, read_blob
from core.contract.datasets import DatasetManifest, Item, Split
from core.contract.errors import NotFoundError
from core.contract.reports import Mistake
from core.modality import image
from core.modality.errors import UnreadableItemError
from core.store import datasets
from core.store.store import Store

SIDE = 180
MOST_MANIFEST_BYTES = 100 * 1024**2


def of_mistakes(
    store: Store, tenant: str, dataset_id: str, split: Split | None, mistakes: list[Mistake], *, max_pixels: int
) -> dict[str, str]:
    """Names of items -> `data:` URIs of JPEG pictures; what cannot be shown any more is left out."""
    names = {mistake.name for mistake in mistakes}
    try:
        found = _items(store, tenant, dataset_id, split, names)
        if found is None:
            return {}
        content, items = found
        with open_blob(store, content, "The data set") as file:
            shown = {item.name: _picture(file, item, max_pixels) for item in items}
    except (NotFoundError, CorruptBlobError):
        return {}
    return {name: picture for name, picture in shown.items() if picture is not None}


def _items(
    store: Store, tenant: str, dataset_id: str, split: Split | None, names: set[str]
) -> tuple[str, list[Item]] | None:
    with store.db.read() as tx:
        blobs = datasets.blobs(tx, tenant, dataset_id)
    if not names or blobs is None or not _small(store, blobs.manifest_sha256):
        return None
    manifest = DatasetManifest.model_validate_json(read_blob(store, blobs.manifest_sha256, "The data set's manifest"))
    items = [item for item in manifest.items if item.name in names and split in (None, item.split)]
    return manifest.content_sha256, items


def _small(store: Store, sha256: str) -> bool:
    """Whether the manifest may be read for a dozen pictures."""
    path = store.blob(sha256)
    return path.is_file() and path.stat().st_size <= MOST_MANIFEST_BYTES


def _picture(file: BinaryIO, item: Item, max_pixels: int) -> str | None:
    file.seek(item.offset)
    data = file.read(item.length)
    try:
        if item.deflated:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, item.size)
        small = image.thumbnail(image.decode(data, max_pixels=max_pixels), SIDE)
    except (UnreadableItemError, zlib.error):
        return None
    return "data:image/jpeg;base64," + base64.b64encode(small).decode("ascii")
