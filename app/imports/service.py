"""Decisions on imports."""

import re

from app.datasets.service import Uploaded
from app.idempotency import Created, once
from app.imports.kinds import kind_of
from app.imports.schemas import ImportFields
from core.catalogue import find, is_timm
from core.contract.base import new_id, now
from core.contract.base_models import BaseModelCard
from core.contract.errors import InvalidRequestError
from core.contract.imports import Import
from core.settings import Settings
from core.store import garbage, imports, tenants
from core.store.store import Store

_TIMM_NAME = re.compile(r"timm:[A-Za-z0-9_.-]{1,120}")


def create(
    store: Store,
    settings: Settings,
    tenant: str,
    *,
    file: Uploaded,
    fields: ImportFields,
    key: str | None,
    request_id: str | None = None,
) -> Created:
    """Adopt the blob and enter the import in one transaction; nothing is left of a request that fails."""
    _check(file, fields, settings)
    said = {"call": "POST /models", "sha256": file.sha256, **fields.model_dump(mode="json")}
    with store.db.write(blobs=True) as tx:

        def enter() -> Import:
            tenants.admit_bytes(tx, tenant, settings, file.size)
            store.blobs.adopt(file.path, file.sha256)
            entry = Import(
                id=new_id("imp"),
                state="validating",
                name=fields.name or _plain_name(file.filename),
                base_model=fields.base_model,
                classes=fields.classes,
                bytes=file.size,
                metadata=fields.metadata,
                created_at=now(),
            )
            imports.add(tx, tenant, entry, upload_sha256=file.sha256, request_id=request_id)
            return entry

        return once(tx, tenant, key, said, enter, seconds=settings.idempotency_seconds)


def _check(file: Uploaded, fields: ImportFields, settings: Settings) -> None:
    """Refuse at once what can be seen without opening the file's tensors."""
    if kind_of(file.path) == "bundle":
        for name in ("base_model", "classes"):
            if getattr(fields, name) is not None:
                message = f"A bundle says its own {name}."
                raise InvalidRequestError(message, code="not_for_bundles", param=name, hint=f"Leave `{name}` out.")
        return
    if fields.base_model is None:
        raise InvalidRequestError(
            "Plain weights do not say which network they are for.",
            code="missing_field",
            param="base_model",
            hint="Send base_model: a card's id (GET /base-models), or timm:<name>.",
        )
    if not (is_timm(fields.base_model) and _TIMM_NAME.fullmatch(fields.base_model)):
        _of_images(find(fields.base_model))
    _check_classes(fields.classes, settings.max_classes)


def _of_images(card: BaseModelCard) -> None:
    if card.modality != "image":
        raise InvalidRequestError(
            f"Weights for {card.id}, a network for {card.modality} data, cannot be imported.",
            code="import_unsupported",
            param="base_model",
            hint="Only those of networks for images can; a job that starts from it adapts it to your data.",
        )


def _check_classes(classes: list[str] | None, limit: int) -> None:
    if classes is None:
        return
    wrong = "at least two names" if len(classes) < 2 else f"at most {limit:,}" if len(classes) > limit else None
    if wrong is None and len(set(classes)) < len(classes):
        wrong = "names that differ from each other"
    if wrong:
        message = f"`classes` needs {wrong}; it has {len(classes):,}."
        raise InvalidRequestError(
            message, code="invalid_classes", param="classes", hint="Name each output of the classifier, in its order."
        )


def delete(store: Store, tenant: str, import_id: str) -> None:
    """Delete an import; one that is still being checked is cancelled by it. A model it has become stays."""
    with store.db.write() as tx:
        sha256 = imports.remove(tx, tenant, import_id)
    # Only now that the row is gone for good: a crash in between leaves a file without a row, never the reverse.
    garbage.drop(store, [sha256])


def _plain_name(filename: str | None) -> str:
    """A file's name without folders and control characters."""
    last = (filename or "").replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(letter for letter in last if letter.isprintable()).strip()[:256] or "upload"
