"""Publication: somebody says that a model may be used. A harmful one needs a reason, which stays with it."""

from typing import Any

from app.idempotency import Created, once
from core.contract.base import now
from core.contract.errors import ConflictError
from core.contract.models import Model, Publication
from core.store import models
from core.store.store import Store


def publish(store: Store, tenant: str, model_id: str, override: str | None, *, key: str | None) -> Created:
    """Publish a model; one that is published already stays as it is.

    `NotFoundError`, or `ConflictError` `model_harmful` for a model that does harm, without an `override`.
    """
    said: dict[str, Any] = {"call": f"POST /models/{model_id}/publish", "override": override}
    with store.db.write() as tx:

        def enter() -> Model:
            model = models.hold(tx, tenant, model_id)
            if model.publication is not None:
                return model
            if does_harm(model) and override is None:
                raise _refused(model)
            publication = Publication(at=now(), override=override)
            models.set_publication(tx, model_id, publication)
            return model.model_copy(update={"publication": publication})

        return once(tx, tenant, key, said, enter, seconds=store.key_seconds)


def withdraw(store: Store, tenant: str, model_id: str) -> None:
    """Take a publication back, if there is one; `NotFoundError`."""
    with store.db.write() as tx:
        models.hold(tx, tenant, model_id)
        models.set_publication(tx, model_id, None)


def does_harm(model: Model) -> bool:
    """Whether the model is the arm that did harm, and not the better baseline that is served in its place."""
    judgement = model.manifest.judgement
    return judgement is not None and judgement.verdict == "harmful" and judgement.overridden


def _refused(model: Model) -> ConflictError:
    judgement = model.manifest.judgement
    assert judgement is not None
    return ConflictError(
        f"Model {model.id} is worse than what could be had without it. {judgement.sentence}",
        code="model_harmful",
        param="override",
        hint='Train again with `guard` on; or say why it is to be published all the same: {"override": "…"}.',
        details={"verdict": judgement.verdict, "baseline": judgement.baseline},
    )
