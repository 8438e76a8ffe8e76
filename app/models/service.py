"""What can be done with a model: find it, open its files, delete it."""

from app.models.blobs import open_blob
from app.models.downloads import Stretch
from app.nearest import hint_nearest
from core.contract.errors import ConflictError, NotFoundError
from core.contract.models import Model, ModelFile
from core.store import garbage, models
from core.store.paging import Page
from core.store.store import Store

_MEDIA = {"json": "application/json", "md": "text/markdown; charset=utf-8", "txt": "text/plain; charset=utf-8"}


def page(store: Store, tenant: str, *, published: bool | None, cursor: str | None, limit: int) -> Page[Model]:
    """A page of the tenant's models."""
    with store.db.read() as tx:
        return models.page(tx, tenant, published=published, cursor=cursor, limit=limit)


def get(store: Store, tenant: str, model_id: str) -> Model:
    """One model; `NotFoundError`."""
    with store.db.read() as tx:
        return models.get(tx, tenant, model_id)


def bundle(store: Store, tenant: str, model: Model) -> Stretch:
    """The whole bundle, open; `CorruptBlobError` if its bytes are not there."""
    return _open(store, tenant, model, ModelFile(name="bundle", bytes=model.bytes, sha256=model.sha256))


def member(store: Store, tenant: str, model: Model, name: str) -> Stretch:
    """One file of the bundle, open; `NotFoundError`, `CorruptBlobError`."""
    return _open(store, tenant, model, find_file(model, name))


def find_file(model: Model, name: str) -> ModelFile:
    """The entry of a file in the model's bundle; `NotFoundError` naming the files there are."""
    for file in model.files:
        if file.name == name:
            return file
    names = [file.name for file in model.files]
    raise NotFoundError(
        f"Model {model.id} has no file {name[:100]}.",
        code="file_not_found",
        param="name",
        hint=hint_nearest(name, names, say=f"Its files are: {', '.join(names)}."),
    )


def media_type(name: str) -> str:
    """The Content-Type of a file of a bundle."""
    return _MEDIA.get(name.rsplit(".", 1)[-1].lower(), "application/octet-stream")


def remove(store: Store, tenant: str, model_id: str) -> str:
    """Delete a model, and its bundle if nothing else names it; returns the bundle's SHA-256.

    `NotFoundError`, or `ConflictError` while it is published or a job starts from it.
    """
    with store.db.write() as tx:
        model = models.hold(tx, tenant, model_id)
        if model.publication is not None:
            raise ConflictError(
                f"Model {model_id} is published.",
                code="model_published",
                hint=f"Withdraw it first: DELETE /models/{model_id}/publish.",
            )
        if users := models.in_use(tx, model_id):
            raise ConflictError(
                f"Model {model_id} is in use by {users[0]}" + (f" and {len(users) - 1} more." if users[1:] else "."),
                code="model_in_use",
                hint="Wait until these jobs have finished, or cancel them.",
                details={"jobs": users},
            )
        unnamed = models.remove(tx, tenant, model_id)
    # Only now that the row is gone for good: a crash in between leaves a file without a row, never the reverse.
    garbage.drop(store, unnamed)
    return model.sha256


def _open(store: Store, tenant: str, model: Model, file: ModelFile) -> Stretch:
    try:
        opened = open_blob(store, model.sha256, f"The bundle of model {model.id}", model.bytes)
    except Exception:
        get(store, tenant, model.id)  # if it was deleted a moment ago, say that instead
        raise
    return Stretch(opened, file.offset, file.bytes, file.sha256)
