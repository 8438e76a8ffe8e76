"""Rows and blobs as the workers would have left them."""

import hashlib
from collections import Counter

from core.contract.base import new_id, now
from core.contract.datasets import ClassCount, Dataset, DatasetManifest, DatasetReport, DatasetState, Item, Split
from core.contract.errors import JobError
from core.contract.jobs import JobSpec
from core.store import datasets, jobs
from core.store.leases import Fence
from core.store.store import Store
from tests.builders import image_bytes

TENANT = "default"
OTHER = "somebody-else"


def add_dataset(
    store: Store,
    *,
    tenant: str = TENANT,
    state: DatasetState = "ready",
    classes: tuple[str, ...] = ("cat", "dog"),
    per_class: int = 3,
    test: int = 2,
    untrained: tuple[str, ...] = (),
    unlabelled: int = 0,
) -> str:
    """Enter a data set of real little images (unlabelled without classes, or the first so many); returns its id.

    The report says of the classes in `untrained` that none of their items is trained on.
    """
    images = [image_bytes(i, label=i % 4) for i in range(per_class * max(1, len(classes)))]
    content = store.blobs.put(b"".join(images))
    dataset = Dataset(id=new_id("ds"), name="animals", state="validating", bytes=1000, sha256=content, created_at=now())
    with store.db.write(blobs=True) as tx:
        datasets.add(tx, tenant, dataset, seed=0)
    if state == "validating":
        return dataset.id
    fence = Fence(dataset.id, 0)
    if state == "rejected":
        with store.db.write() as tx:
            datasets.mark_rejected(tx, fence, JobError("It is no archive.", code="not_an_archive").body(), None)
    else:
        _ready(store, fence, content, images, classes, test, untrained, unlabelled)
    return dataset.id


def _ready(
    store: Store,
    fence: Fence,
    content: str,
    images: list[bytes],
    classes: tuple[str, ...],
    test: int,
    untrained: tuple[str, ...],
    unlabelled: int,
) -> None:
    items, offset = [], 0
    for i, data in enumerate(images):
        label = i % len(classes) if classes and i >= unlabelled else None
        split: Split = "test" if i >= len(images) - test else "train"
        sha256 = hashlib.sha256(data).hexdigest()
        name = f"{classes[label]}/{i}.png" if label is not None else f"{i}.png"
        items.append(
            Item(name=name, offset=offset, length=len(data), size=len(data), label=label, split=split, sha256=sha256)
        )
        offset += len(data)
    manifest = DatasetManifest(modality="image", content_sha256=content, classes=list(classes), items=items)
    sha256 = store.blobs.put(manifest.model_dump_json().encode())
    counts = Counter(item.label for item in items)
    found = DatasetReport(
        files=len(items),
        items=len(items),
        labelled=bool(classes),
        unlabelled=unlabelled,
        classes=[
            ClassCount(name=name, train=0, test=1) if name in untrained else ClassCount(name=name, train=counts[at])
            for at, name in enumerate(classes)
        ],
        splits={"train": len(items) - test, "test": test},
        split_source="made",
        seed=0,
        seconds=0.1,
    )
    with store.db.write() as tx:
        datasets.mark_ready(tx, fence, manifest, sha256, found)


def add_job(store: Store, source: str, *, tenant: str = TENANT) -> str:
    """Enter a queued job; returns its id."""
    job_id = new_id("job")
    with store.db.write() as tx:
        jobs.add(tx, tenant, job_id, JobSpec(source=source))
    return job_id


def start_job(store: Store) -> Fence:
    """Claim the oldest queued job, as a worker does."""
    with store.db.write() as tx:
        claim = jobs.claim_next(tx, "test", 60)
    assert claim is not None
    return claim.fence
