"""Queries on data sets."""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, func, insert, or_, select, update

from core.contract.base import now
from core.contract.datasets import Dataset, DatasetManifest, DatasetReport, DatasetState, Reading
from core.contract.errors import ErrorBody, NotFoundError
from core.store import garbage, leases
from core.store.database import clock
from core.store.leases import Fence, claim, renew
from core.store.paging import Page, fetch
from core.store.tables import datasets, jobs

T = datasets.c


@dataclass(frozen=True)
class DatasetClaim:
    """A data set that this worker has to ingest."""

    fence: Fence
    tenant: str
    upload_sha256: str
    seed: int
    request_id: str | None = None
    lost: int = 0
    reading: Reading = field(default_factory=Reading)


@dataclass(frozen=True)
class DatasetBlobs:
    """Where a ready data set's content lies."""

    content_sha256: str
    manifest_sha256: str


def _record(row: Row[Any]) -> Dataset:
    return Dataset(
        id=row.id,
        name=row.name,
        state=row.state,
        modality=row.modality,
        problem=row.problem,
        reading=Reading.model_validate(row.reading or {}),
        labelled=row.labelled,
        classes=row.classes,
        items=row.items,
        splits=row.splits,
        bytes=row.bytes,
        sha256=row.upload_sha256,
        warnings=row.warnings,
        error=row.error,
        metadata=row.metadata,
        created_at=row.created_at,
        ready_at=row.ready_at,
    )


def add(tx: Connection, tenant: str, dataset: Dataset, *, seed: int, request_id: str | None = None) -> None:
    """Enter a new data set; the request that brought it is named in the logs of its ingestion."""
    values = dataset.model_dump(exclude={"object", "sha256", "reading"}, mode="python")
    values["reading"] = _said(dataset.reading)
    tx.execute(
        insert(datasets).values(**values, tenant=tenant, upload_sha256=dataset.sha256, seed=seed, request_id=request_id)
    )


def _row(tx: Connection, tenant: str, dataset_id: str) -> Row[Any]:
    row = tx.execute(select(datasets).where(T.id == dataset_id, T.tenant == tenant)).one_or_none()
    if row is None:
        raise NotFoundError(
            f"There is no data set {dataset_id}.", code="dataset_not_found", hint="GET /datasets lists yours."
        )
    return row


def get(tx: Connection, tenant: str, dataset_id: str) -> Dataset:
    """One data set; `NotFoundError` if there is none of that id in the tenant."""
    return _record(_row(tx, tenant, dataset_id))


def hold(tx: Connection, tenant: str, dataset_id: str) -> Dataset:
    """Like `get`, but until `tx` (which writes) ends nobody else can hold or remove the data set."""
    tx.execute(select(T.id).where(T.id == dataset_id, T.tenant == tenant).with_for_update())
    return get(tx, tenant, dataset_id)


def report(tx: Connection, tenant: str, dataset_id: str) -> DatasetReport | None:
    """The ingestion report; None while there is none yet."""
    value = _row(tx, tenant, dataset_id).report
    return None if value is None else DatasetReport.model_validate(value)


def blobs(tx: Connection, tenant: str, dataset_id: str) -> DatasetBlobs | None:
    """The content and manifest of a ready data set; None while it is not ready."""
    row = _row(tx, tenant, dataset_id)
    if row.content_sha256 is None or row.manifest_sha256 is None:
        return None
    return DatasetBlobs(row.content_sha256, row.manifest_sha256)


def page(
    tx: Connection, tenant: str, *, state: DatasetState | None = None, cursor: str | None = None, limit: int = 20
) -> Page[Dataset]:
    """The tenant's data sets, newest first."""
    query = select(datasets).where(T.tenant == tenant)
    if state is not None:
        query = query.where(T.state == state)
    rows, more = fetch(tx, query, datasets, cursor=cursor, limit=limit)
    return Page([_record(row) for row in rows], more, rows[-1].id if more else None)


def claim_next(tx: Connection, owner: str, seconds: float) -> DatasetClaim | None:
    """Claim the next data set that has to be ingested."""
    free = and_(T.state == "validating", or_(T.lease_until.is_(None), T.lease_until < clock(tx)))
    row = claim(tx, datasets, free, state="validating", owner=owner, seconds=seconds)
    return row and DatasetClaim(
        Fence(row.id, row.attempt),
        row.tenant,
        row.upload_sha256,
        row.seed,
        row.request_id,
        row.lost,
        Reading.model_validate(row.reading or {}),
    )


def heartbeat(tx: Connection, fence: Fence, seconds: float) -> None:
    """Prolong the lease on a data set that is being ingested."""
    renew(tx, datasets, fence, state="validating", seconds=seconds)


def is_validating(tx: Connection, fence: Fence) -> bool:
    """Whether that very attempt still ingests the data set."""
    query = select(T.id).where(T.id == fence.id, T.attempt == fence.attempt, T.state == "validating")
    return tx.execute(query).first() is not None


def mark_ready(
    tx: Connection, fence: Fence, manifest: DatasetManifest, manifest_sha256: str, found: DatasetReport
) -> None:
    """Ingestion succeeded: `validating -> ready`; `LostLeaseError` for a late worker."""
    renew(tx, datasets, fence, state="validating", seconds=0)
    tx.execute(
        update(datasets)
        .where(T.id == fence.id)
        .values(
            state="ready",
            ready_at=now(),
            modality=manifest.modality,
            problem=manifest.problem if manifest.labelled else None,
            labelled=manifest.labelled,
            classes=manifest.classes,
            items=len(manifest.items),
            splits=found.splits,
            report=found.model_dump(mode="json"),
            warnings=sum(fault.severity == "warning" for fault in found.faults),
            content_sha256=manifest.content_sha256,
            manifest_sha256=manifest_sha256,
            lease_until=None,
        )
    )


def mark_rejected(tx: Connection, fence: Fence, error: ErrorBody, found: DatasetReport | None) -> None:
    """Ingestion refused the upload: `validating -> rejected`; `LostLeaseError` for a late worker."""
    renew(tx, datasets, fence, state="validating", seconds=0)
    values = {"state": "rejected", "error": error.model_dump(mode="json"), "lease_until": None}
    if found is not None:
        values["report"] = found.model_dump(mode="json")
    tx.execute(update(datasets).where(T.id == fence.id).values(**values))


def release(tx: Connection, fence: Fence, *, lost: bool = False) -> None:
    """Hand a data set back so that another worker takes it at once; `lost` counts it as a loss."""
    leases.release(tx, datasets, fence, state="validating", lost=lost)


@dataclass(frozen=True)
class Twin:
    """A ready data set made from the same bytes with the same seed, read in the same way."""

    manifest_sha256: str
    report: DatasetReport


def twin(tx: Connection, upload_sha256: str, seed: int, reading: Reading) -> Twin | None:
    """What was found when the same upload was ingested before, so that it need not be done again."""
    query = select(T.manifest_sha256, T.report, T.reading).where(
        T.upload_sha256 == upload_sha256, T.seed == seed, T.state == "ready", T.manifest_sha256.is_not(None)
    )
    rows = tx.execute(query.order_by(T.id))
    row = next((row for row in rows if Reading.model_validate(row.reading or {}) == reading), None)
    return row and Twin(row.manifest_sha256, DatasetReport.model_validate(row.report))


def _said(reading: Reading) -> dict[str, str] | None:
    """What was said of how to read the upload; nothing is null."""
    return reading.model_dump(mode="json", exclude_none=True) or None


def in_use(tx: Connection, dataset_id: str) -> list[str]:
    """Ids of jobs that still need the data set."""
    reads = or_(*(column == dataset_id for column in (jobs.c.source_id, jobs.c.evaluation_id, jobs.c.target_id)))
    query = select(jobs.c.id).where(jobs.c.state.in_(("queued", "running")), reads)
    return list(tx.scalars(query))


def remove(tx: Connection, tenant: str, dataset_id: str) -> list[str]:
    """Delete a data set's row; returns its blobs that no other row names (open `tx` with `blobs=True`)."""
    row = _row(tx, tenant, dataset_id)
    tx.execute(delete(datasets).where(T.id == dataset_id))
    named = {row.upload_sha256, row.content_sha256, row.manifest_sha256} - {None}
    return [sha256 for sha256 in named if not is_named(tx, sha256)]


def is_named(tx: Connection, sha256: str) -> bool:
    """Whether any row of any noun needs the blob: a model's bundle may have been uploaded as a data set, too."""
    return garbage.is_named(tx, sha256)


def waiting(tx: Connection) -> int:
    """How many data sets wait for a worker."""
    query = select(func.count()).where(T.state == "validating", T.lease_until.is_(None))
    return tx.scalar(query) or 0
