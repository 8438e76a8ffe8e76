"""Small pictures of items that a report names, out of the data set they stand in, as long as that still exists."""

import base64

from app.models.blobs import CorruptBlobError, read_blob
from core.contract.datasets import DatasetManifest, Split
from core.contract.errors import NotFoundError
from core.modality import image
from core.modality.errors import CorruptContentError, UnreadableItemError
from core.modality.reader import DatasetReader
from core.store import datasets
from core.store.store import Store

SIDE = 180
MOST_MANIFEST_BYTES = 100 * 1024**2


def of_items(store: Store, tenant: str, dataset_id: str, split: Split | None, names: set[str]) -> dict[str, str]:
    """Names of items -> `data:` URIs of JPEG pictures; what cannot be shown any more is left out."""
    try:
        manifest = _manifest(store, tenant, dataset_id) if names else None
        if manifest is None:
            return {}
        with DatasetReader(manifest, store.blob(manifest.content_sha256)) as reader:
            places = {item.name: index for index, item in enumerate(manifest.items) if split in (None, item.split)}
            shown = {name: _picture(reader, places[name]) for name in names & places.keys()}
    except (NotFoundError, CorruptBlobError, OSError):
        return {}
    return {name: picture for name, picture in shown.items() if picture is not None}


def _manifest(store: Store, tenant: str, dataset_id: str) -> DatasetManifest | None:
    """The data set's manifest, unless it is too long to be read for a dozen pictures."""
    with store.db.read() as tx:
        blobs = datasets.blobs(tx, tenant, dataset_id)
    if blobs is None or store.blob(blobs.manifest_sha256).stat().st_size > MOST_MANIFEST_BYTES:
        return None
    return DatasetManifest.model_validate_json(read_blob(store, blobs.manifest_sha256, "The data set's manifest"))


def _picture(reader: DatasetReader, index: int) -> str | None:
    try:
        small = image.thumbnail(reader.image(index), SIDE)
    except (UnreadableItemError, CorruptContentError):
        return None
    return "data:image/jpeg;base64," + base64.b64encode(small).decode("ascii")
