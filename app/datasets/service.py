"""Decisions on data sets."""

import dataclasses
from functools import lru_cache
from pathlib import Path

from sqlalchemy import Connection

from app.datasets.schemas import SHOWN_CHARACTERS, Sample, SampleFilter, UploadFields
from app.idempotency import Created, once
from app.models.blobs import CorruptBlobError, check
from app.nearest import hint_nearest
from core.contract.base import new_id, now
from core.contract.datasets import Dataset, DatasetManifest, DatasetReport, Item
from core.contract.errors import ConflictError, InvalidRequestError, NotFoundError
from core.modality.image import thumbnail
from core.modality.reader import DatasetReader
from core.settings import Settings
from core.store import datasets, garbage, idempotency, tenants
from core.store.paging import Page, foreign_cursor
from core.store.store import Store

JPEG, TEXT, JSON = "image/jpeg", "text/plain; charset=utf-8", "application/json"


@dataclasses.dataclass(frozen=True)
class Uploaded:
    """A file that lies, complete and fsynced, in a pending blob."""

    path: Path
    sha256: str
    size: int
    filename: str | None


def expect(store: Store, settings: Settings, tenant: str, key: str | None, size: int) -> None:
    """Refuse an upload that would go over the storage quota before any of it is read; a repeated one never is."""
    with store.db.read() as tx:
        if key is None or not idempotency.is_known(tx, tenant, key):
            tenants.check_bytes(tx, tenant, settings, size)


def create(
    store: Store,
    settings: Settings,
    tenant: str,
    file: Uploaded,
    *,
    fields: UploadFields,
    key: str | None,
    request_id: str | None = None,
) -> Created:
    """Adopt the blob and enter the data set in one transaction; nothing is left of a request that fails."""
    said = {"call": "POST /datasets", "sha256": file.sha256, **fields.model_dump(mode="json")}
    with store.db.write(blobs=True) as tx:

        def admitted() -> Dataset:
            tenants.admit_bytes(tx, tenant, settings, file.size)
            return enter(tx, store, tenant, file, fields, request_id=request_id)

        return once(tx, tenant, key, said, admitted, seconds=store.key_seconds)


def enter(
    tx: Connection, store: Store, tenant: str, file: Uploaded, fields: UploadFields, *, request_id: str | None = None
) -> Dataset:
    """Make the file a blob and a data set that has to be checked (open `tx` with `blobs=True`)."""
    store.blobs.adopt(file.path, file.sha256)
    dataset = Dataset(
        id=new_id("ds"),
        name=fields.name or _plain_name(file.filename),
        state="validating",
        bytes=file.size,
        sha256=file.sha256,
        reading=fields.reading,
        metadata=fields.metadata,
        created_at=now(),
    )
    datasets.add(tx, tenant, dataset, seed=fields.seed, request_id=request_id)
    return dataset


def report(store: Store, tenant: str, dataset_id: str) -> DatasetReport:
    """What ingestion found; `ConflictError` while it is still looking."""
    with store.db.read() as tx:
        dataset, found = datasets.get(tx, tenant, dataset_id), datasets.report(tx, tenant, dataset_id)
    if found is not None:
        return found
    if dataset.state == "rejected":
        raise ConflictError(
            "The data set was rejected before it could be inspected.",
            code="report_not_available",
            hint="Its `error` says why.",
        )
    raise _not_ready(dataset, "report_not_ready")


def delete(store: Store, tenant: str, dataset_id: str) -> None:
    """Delete a data set that no unfinished job needs, then the blobs that nothing names any more."""
    with store.db.write() as tx:
        datasets.hold(tx, tenant, dataset_id)
        users = datasets.in_use(tx, dataset_id)
        if users:
            raise ConflictError(
                f"Data set {dataset_id} is in use by {len(users)} unfinished job{'s' * (len(users) > 1)}.",
                code="dataset_in_use",
                hint="Wait for them or cancel them.",
                details={"jobs": users[:100]},
            )
        unnamed = datasets.remove(tx, tenant, dataset_id)
    # Only now that the row is gone for good: a crash in between leaves files without a row, never the reverse.
    garbage.drop(store, unnamed)


def samples(store: Store, tenant: str, dataset_id: str, wanted: SampleFilter) -> Page[Sample]:
    """Items of a ready data set, in its own order."""
    manifest, content = _open(store, tenant, dataset_id)
    label = _label(manifest, wanted.label)
    start = _after(wanted.cursor)
    found: list[Sample] = []
    with DatasetReader(manifest, content) as reader:
        for index in range(start, len(manifest.items)):
            item = manifest.items[index]
            if wanted.split not in (None, item.split) or (label is not None and label not in _labels(item)):
                continue
            if len(found) == wanted.limit:
                return Page(found, True, str(found[-1].index))
            found.append(_sample(reader, index, f"/datasets/{dataset_id}/samples/{index}"))
    return Page(found, False, None)


def _sample(reader: DatasetReader, index: int, url: str) -> Sample:
    manifest = reader.manifest
    item = manifest.items[index]
    return Sample(
        index=index,
        name=item.name,
        label=None if item.label is None else manifest.classes[item.label],
        labels=None if item.labels is None else [manifest.classes[label] for label in item.labels],
        value=item.value,
        split=item.split,
        text=reader.item(index)[:SHOWN_CHARACTERS] if manifest.modality == "text" else None,
        row=reader.item(index) if manifest.modality == "tabular" else None,
        url=url,
    )


def _labels(item: Item) -> list[int]:
    if item.labels is not None:
        return item.labels
    return [] if item.label is None else [item.label]


def sample(store: Store, tenant: str, dataset_id: str, index: int, size: int) -> tuple[bytes, str]:
    """One item and its media type: a small JPEG, a text, or a row as JSON."""
    manifest, content = _open(store, tenant, dataset_id)
    if index >= len(manifest.items):
        raise no_sample(index, f"There are {len(manifest.items)}, counted from 0.")
    with DatasetReader(manifest, content) as reader:
        if manifest.modality == "text":
            return reader.read(index), TEXT
        if manifest.modality == "tabular":
            return reader.read(index), JSON
        return thumbnail(reader.image(index), size), JPEG


def no_sample(index: int | str, hint: str = "GET .../samples lists them.") -> NotFoundError:
    """The error for an item that does not exist."""
    return NotFoundError(f"There is no sample {index}.", code="sample_not_found", hint=hint)


def _open(store: Store, tenant: str, dataset_id: str) -> tuple[DatasetManifest, Path]:
    with store.db.read() as tx:
        dataset, blobs = datasets.get(tx, tenant, dataset_id), datasets.blobs(tx, tenant, dataset_id)
    if blobs is None:
        raise _not_ready(dataset, "dataset_not_ready" if dataset.state != "rejected" else "dataset_rejected")
    return _manifest(store.blob(blobs.manifest_sha256), blobs.manifest_sha256), store.blob(blobs.content_sha256)


@lru_cache(maxsize=4)
def _manifest(path: Path, sha256: str) -> DatasetManifest:
    """Blobs never change, so a parsed manifest may be kept; few, since one can have a million items."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CorruptBlobError("The data set's manifest", "its file is missing or cannot be read") from error
    check(data, sha256, "The data set's manifest")
    return DatasetManifest.model_validate_json(data)


def _not_ready(dataset: Dataset, code: str) -> ConflictError:
    hint = "Its `error` says why." if dataset.state == "rejected" else "Wait until its state is `ready`."
    return ConflictError(f"Data set {dataset.id} is {dataset.state}.", code=code, hint=hint)


def _label(manifest: DatasetManifest, label: str | None) -> int | None:
    if label is None:
        return None
    if label not in manifest.classes:
        raise InvalidRequestError(
            f"The data set has no class `{label}`.",
            code="unknown_label",
            param="label",
            hint=hint_nearest(label, manifest.classes),
        )
    return manifest.classes.index(label)


def _after(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 10):
        raise foreign_cursor()
    return int(cursor) + 1


def _plain_name(filename: str | None) -> str:
    """A file's name without folders and control characters."""
    last = (filename or "").replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(letter for letter in last if letter.isprintable()).strip()[:256] or "upload"
