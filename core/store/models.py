"""Queries on models."""

from typing import Any

from sqlalchemy import Connection, Row, delete, insert, null, select, update

from core.contract.errors import NotFoundError
from core.contract.models import Model, ModelFile, Publication
from core.store.paging import Page, fetch
from core.store.tables import jobs, models

T = models.c


def _record(row: Row[Any]) -> Model:
    manifest = row.manifest
    return Model(
        id=row.id,
        job_id=row.job_id,
        base_model=row.base_model,
        method=row.method,
        classes=manifest["classes"],
        metrics={metric["name"]: metric["value"] for metric in manifest["metrics"]},
        modality=manifest.get("modality", "image"),
        problem=manifest.get("problem", "classification"),
        verdict=row.verdict,
        publication=row.publication,
        bytes=row.bytes,
        sha256=row.bundle_sha256,
        files=[ModelFile(**file) for file in row.files],
        manifest=manifest,
        created_at=row.created_at,
    )


def add(tx: Connection, tenant: str, model: Model) -> None:
    """Enter a new model; its bundle must be stored already."""
    files = [file.model_dump(mode="json") | {"offset": file.offset} for file in model.files]
    tx.execute(
        insert(models).values(
            id=model.id,
            tenant=tenant,
            job_id=model.job_id,
            base_model=model.base_model,
            method=model.method,
            manifest=model.manifest.model_dump(mode="json"),
            verdict=model.verdict,
            files=files,
            bundle_sha256=model.sha256,
            bytes=model.bytes,
            created_at=model.created_at,
        )
    )


def get(tx: Connection, tenant: str, model_id: str) -> Model:
    """One model; `NotFoundError` if there is none of that id in the tenant."""
    row = tx.execute(select(models).where(T.id == model_id, T.tenant == tenant)).one_or_none()
    if row is None:
        raise NotFoundError(f"There is no model {model_id}.", code="model_not_found", hint="GET /models lists yours.")
    return _record(row)


def hold(tx: Connection, tenant: str, model_id: str) -> Model:
    """Like `get`, but until `tx` (which writes) ends nobody else can hold or remove the model."""
    tx.execute(select(T.id).where(T.id == model_id, T.tenant == tenant).with_for_update())
    return get(tx, tenant, model_id)


def page(
    tx: Connection, tenant: str, *, published: bool | None = None, cursor: str | None = None, limit: int = 20
) -> Page[Model]:
    """The tenant's models, newest first; with `published` only those that are, or only those that are not."""
    query = select(models).where(T.tenant == tenant)
    if published is not None:
        query = query.where(T.publication.is_not(null()) if published else T.publication.is_(null()))
    rows, more = fetch(tx, query, models, cursor=cursor, limit=limit)
    return Page([_record(row) for row in rows], more, rows[-1].id if more else None)


def set_publication(tx: Connection, model_id: str, publication: Publication | None) -> None:
    """Publish a model that is held, or withdraw it."""
    said = None if publication is None else publication.model_dump(mode="json")
    tx.execute(update(models).where(T.id == model_id).values(publication=said))


def in_use(tx: Connection, model_id: str) -> list[str]:
    """Ids of jobs that start from the model and are not finished."""
    query = select(jobs.c.id).where(jobs.c.state.in_(("queued", "running")), jobs.c.base_model == model_id)
    return list(tx.scalars(query))


def remove(tx: Connection, tenant: str, model_id: str) -> list[str]:
    """Delete a model's row; returns its bundle if no other row names it (open `tx` with `blobs=True`)."""
    model = get(tx, tenant, model_id)
    tx.execute(delete(models).where(T.id == model_id))
    named = tx.execute(select(T.id).where(T.bundle_sha256 == model.sha256).limit(1)).first()
    return [] if named else [model.sha256]
