"""Queries on resumable uploads. The bytes of upload `id` lie in `BlobFolder.upload(id)` until it is whole."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from core.contract.base import now
from core.contract.errors import ErrorBody, NotFoundError
from core.contract.uploads import Upload
from core.store.paging import Page, fetch
from core.store.tables import uploads

T = uploads.c


@dataclass(frozen=True)
class Kept:
    """An upload with what its client said of the file (`fields`), the header as it was sent, and the SHA-256 found.

    `sha256` is set once all bytes were read again: from then on they may lie in the blob of that name already.
    """

    upload: Upload
    fields: dict[str, Any] = field(default_factory=dict)
    header: str | None = None
    sha256: str | None = None


def _record(row: Row[Any]) -> Upload:
    return Upload(
        id=row.id,
        state=row.state,
        bytes=row.bytes,
        received=row.received,
        metadata=row.metadata["fields"].get("metadata", {}),
        dataset_id=row.dataset_id,
        error=row.error,
        created_at=row.created_at,
        expires_at=row.expires_at,
    )


def add(tx: Connection, tenant: str, kept: Kept) -> None:
    """Enter a new upload."""
    values = kept.upload.model_dump(exclude={"object", "metadata", "error"}, mode="python")
    said = {"fields": kept.fields, "header": kept.header, "sha256": kept.sha256}
    tx.execute(insert(uploads).values(**values, tenant=tenant, metadata=said))


def find(tx: Connection, tenant: str, upload_id: str) -> Kept:
    """One upload and what was said of it; `NotFoundError` if there is none of that id in the tenant, or no longer."""
    row = tx.execute(select(uploads).where(T.id == upload_id, T.tenant == tenant)).one_or_none()
    if row is None:
        raise NotFoundError(
            f"There is no upload {upload_id}.",
            code="upload_not_found",
            hint="GET /uploads lists yours; begin a new one.",
        )
    if row.expires_at <= now():
        raise NotFoundError(f"Upload {upload_id} has expired.", code="upload_expired", hint="Begin a new one.")
    return Kept(_record(row), row.metadata["fields"], row.metadata["header"], row.metadata["sha256"])


def get(tx: Connection, tenant: str, upload_id: str) -> Upload:
    """One upload; errors as in `find`."""
    return find(tx, tenant, upload_id).upload


def page(tx: Connection, tenant: str, *, state: str | None, cursor: str | None, limit: int) -> Page[Upload]:
    """Uploads that have not expired, newest first."""
    query = select(uploads).where(T.tenant == tenant, T.expires_at > now())
    if state is not None:
        query = query.where(T.state == state)
    rows, more = fetch(tx, query, uploads, cursor=cursor, limit=limit)
    return Page([_record(row) for row in rows], more, rows[-1].id if more else None)


def advance(tx: Connection, upload_id: str, start: int, end: int, seconds: float) -> bool:
    """Count bytes `start` to `end`, which are safely on the disk; the upload now lives for `seconds` from now.

    False if somebody else moved the offset, finished or removed the upload.
    """
    still = (T.id == upload_id, T.state == "open", T.received == start)
    values = {"received": end, "expires_at": now() + timedelta(seconds=seconds)}
    return tx.execute(update(uploads).where(*still).values(**values)).rowcount == 1


def remember(tx: Connection, kept: Kept, sha256: str) -> None:
    """Keep the SHA-256 of the whole file, before the file gets its name as a blob."""
    said = {"fields": kept.fields, "header": kept.header, "sha256": sha256}
    tx.execute(update(uploads).where(T.id == kept.upload.id, T.state == "open").values(metadata=said))


def finish(tx: Connection, upload_id: str, dataset_id: str) -> bool:
    """The upload has become a data set; False if it is not open any more."""
    done = update(uploads).where(T.id == upload_id, T.state == "open").values(state="done", dataset_id=dataset_id)
    return tx.execute(done).rowcount == 1


def fail(tx: Connection, upload_id: str, error: ErrorBody) -> None:
    """The upload can come to nothing any more."""
    values = {"state": "failed", "error": error.model_dump(mode="json")}
    tx.execute(update(uploads).where(T.id == upload_id, T.state == "open").values(**values))


def remove(tx: Connection, tenant: str, upload_id: str) -> None:
    """Forget the upload; remove its file once `tx` is committed."""
    find(tx, tenant, upload_id)
    tx.execute(delete(uploads).where(T.id == upload_id))


def expire(tx: Connection, *, limit: int = 1000) -> list[str]:
    """Forget uploads whose time is over, finished ones too, and return their ids, at most `limit`.

    Once `tx` is committed, remove `blobs.upload(id)` of each (it need not exist).
    """
    overdue = select(T.id).where(T.expires_at <= now()).order_by(T.expires_at).limit(limit)
    ids = list(tx.scalars(overdue))
    return list(tx.scalars(delete(uploads).where(T.id.in_(ids), T.expires_at <= now()).returning(T.id)))


def needed(tx: Connection, upload_id: str) -> bool:
    """Whether the file of that name in the folder of pending blobs belongs to an upload that can still be resumed."""
    return tx.execute(select(T.id).where(T.id == upload_id, T.state == "open")).first() is not None
