"""Decisions on a model's classes: the old model stays as it is, a new one is entered beside it."""

import hashlib
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from app.classes.bodies import NewClass, spelt
from app.classes.revision import Change, few_shot_of, write
from app.idempotency import Created, once, replayed
from app.models.blobs import CorruptBlobError
from app.nearest import hint_nearest
from app.predictions import service as predictions
from app.predictions.items import RawItem
from app.predictions.predictor import Predictor, Represented
from app.predictions.sessions import Parts
from core.contract.base import now
from core.contract.errors import ConflictError, InvalidRequestError, NotFoundError
from core.contract.few_shot import ClassChangeRecord
from core.contract.models import ItemError, Model
from core.few_shot import heads
from core.few_shot.heads import Floats
from core.settings import Settings
from core.store import models, tenants
from core.store.store import Store

_OUTPUTS = ("inner", "logits")
_TRIED = 2  # items that the new graph is asked about before it is entered
_CLOSE = 1e-3
_SHOWN = 50  # unusable items that are told


@dataclass(frozen=True)
class Classes:
    """The classes of one model, and what it takes to change them; it blocks, and holds bundles in memory."""

    store: Store
    settings: Settings
    tenant: str
    predictor: Predictor
    model: Model
    key: str | None

    def add(self, new: NewClass) -> Created:
        """Enter a model that knows this class, too; nothing is entered if one of its items cannot be used."""
        said = self._said("POST", new.name) | {"items": [_digest(item) for item in new.items]}
        if (known := replayed(self.store, self.tenant, self.key, said)) is not None:
            return known
        _check_new(self.model, new.name, self.settings.max_classes)
        load = partial(predictions.parts, self.store, self.tenant, self.model)
        found = _usable(new.items, self.predictor.represent(self.model, load, new.items, _OUTPUTS))
        inner = np.ascontiguousarray(found[:, : -len(self.model.classes)])
        return self._make(_addition(self.model, new.name, inner), said, new.items[:_TRIED], found[:_TRIED])

    def remove(self, name: str) -> Created:
        """Enter a model without the class of that name."""
        said = self._said("DELETE", name)
        if (known := replayed(self.store, self.tenant, self.key, said)) is not None:
            return known
        return self._make(_removal(self.model, name), said, [], np.empty(0, dtype=np.float32))

    def _said(self, method: str, name: str) -> dict[str, Any]:
        return {"call": f"{method} /models/{self.model.id}/classes", "name": name}

    def _make(self, change: Change, said: dict[str, Any], items: list[RawItem], known: Floats) -> Created:
        """Write the new bundle, open it, try it on the items, then enter it: the first to call it need not wait."""
        old = self.model
        files = {file.name: predictions.member(self.store, self.tenant, old, file.name) for file in old.files}
        with self.store.blobs.writing() as blob:
            new, graph = write(old, files, change, blob.path)
            parts = Parts(graph, new.manifest.prepare, files.get("tokenizer.json"))
            try:
                self.predictor.open(new, lambda: parts)
                found = self.predictor.represent(new, lambda: parts, items, _OUTPUTS)
                _check_answers(old, change, known, found)
                created = self._enter(new, said, blob.path)
            except BaseException:
                self.predictor.forget(new.sha256)
                raise
        if created.replayed:  # the same request was quicker elsewhere
            self.predictor.forget(new.sha256)
        return created

    def _enter(self, new: Model, said: dict[str, Any], path: Path) -> Created:
        with self.store.db.write(blobs=True) as tx:

            def enter() -> Model:
                models.hold(tx, self.tenant, self.model.id)
                tenants.admit_bytes(tx, self.tenant, self.settings, new.bytes)
                self.store.blobs.adopt(path, new.sha256)
                models.add(tx, self.tenant, new)
                return new

            return once(tx, self.tenant, self.key, said, enter, seconds=self.store.key_seconds)


def check_few_shot(model: Model) -> None:
    """`ConflictError` for a model whose classes cannot be changed."""
    if model.manifest.few_shot is None:
        raise ConflictError(
            f"Model {model.id} was not made to take other classes without training.",
            code="model_has_no_few_shot_head",
            hint="Make one that does: POST /jobs with the method simple_shot (no training), or prototypical_network, "
            f'matching_network, relation_network or r2d2; "base_model": "{model.id}" starts from this one.',
        )


def _check_new(model: Model, name: str, most: int) -> None:
    if name in model.classes:
        raise ConflictError(
            f"Model {model.id} has a class {name[:100]!r} already.",
            code="class_exists",
            param="name",
            hint="Give the new class another name; or take the old one away first, with DELETE "
            f"/models/{model.id}/classes/{{name}}, and add it to the model that comes of it.",
        )
    if len(model.classes) >= most:
        raise ConflictError(
            f"Model {model.id} has {len(model.classes):,} classes, the most there may be.",
            code="too_many_classes",
            hint="Take one away, or have GRAFT_MAX_CLASSES raised.",
            details={"classes": len(model.classes), "limit": most},
        )


def _addition(model: Model, name: str, inner: Floats) -> Change:
    few_shot = few_shot_of(model)
    count = heads.counted(few_shot.kind, len(inner))
    return Change(
        ClassChangeRecord(change="added", name=name, items=count, at=now()),
        [*model.classes, name],
        [*few_shot.counts, count],
        lambda tensors: heads.added(few_shot.kind, tensors, inner),
    )


def _removal(model: Model, name: str) -> Change:
    few_shot, index = few_shot_of(model), _index(model, name)
    if len(model.classes) < 3:
        raise ConflictError(
            f"Model {model.id} would be left with fewer than two classes.",
            code="too_few_classes",
            hint=f"Add another class first: POST /models/{model.id}/classes.",
            details={"classes": model.classes},
        )
    return Change(
        ClassChangeRecord(change="removed", name=model.classes[index], items=few_shot.counts[index], at=now()),
        _without(model.classes, index),
        _without(few_shot.counts, index),
        lambda tensors: heads.removed(few_shot.kind, tensors, index),
    )


def _without(values: list[Any], index: int) -> list[Any]:
    return [*values[:index], *values[index + 1 :]]


def _index(model: Model, name: str) -> int:
    for asked in (name, spelt(name)):
        if asked in model.classes:
            return model.classes.index(asked)
    raise NotFoundError(
        f"Model {model.id} has no class {name[:100]!r}.",
        code="class_not_found",
        param="name",
        hint=hint_nearest(name, model.classes),
    )


def _digest(item: RawItem) -> str:
    """What an item is, whatever it is called."""
    data = item.data
    if not isinstance(data, bytes):
        data = json.dumps(data, sort_keys=True, ensure_ascii=True).encode()
    return hashlib.sha256(data).hexdigest()


def _usable(items: list[RawItem], found: list[Represented]) -> Floats:
    """The items' figures (n, K + C); `InvalidRequestError` if one has none."""
    bad = [
        {"index": index, "name": item.name, **error.model_dump()}
        for index, (item, one) in enumerate(zip(items, found, strict=True))
        if (error := _fault(one)) is not None
    ]
    if not bad:
        return np.stack([one for one in found if not isinstance(one, ItemError)])
    first = bad[0]
    name = f" ({str(first['name'])[:100]})" if first["name"] else ""
    more = "" if len(bad) == 1 else f" {len(bad) - 1} more of {len(items)} cannot be used either."
    raise InvalidRequestError(
        f"Item {first['index']}{name} cannot be used, so no class was added: {first['message']}{more}",
        code="unusable_item",
        param=f"items.{first['index']}",
        hint=first["hint"] or "Leave it out, or send another one in its place.",
        details={"errors": bad[:_SHOWN]},
    )


def _fault(found: Represented) -> ItemError | None:
    if isinstance(found, ItemError):
        return found
    if np.isfinite(found).all():
        return None
    return ItemError(code="not_finite", message="What the model makes of this item is not a number.")


def _check_answers(model: Model, change: Change, known: Floats, found: list[Represented]) -> None:
    """The new graph says of the items what the old one says, but for its new class; `CorruptBlobError` otherwise."""
    width = known.shape[-1] - len(model.classes)
    shared = [slice(0, width)]
    if few_shot_of(model).kind != "ridge":  # where a new class moves the others
        shared.append(slice(width, known.shape[-1]))
    for old, new in zip(known, found, strict=True):
        if (
            isinstance(new, ItemError)
            or len(new) != len(old) + 1
            or not np.isfinite(new).all()
            or not all(agree(old[part], new[part]) for part in shared)
        ):
            raise CorruptBlobError(f"Model {model.id}", f"its head cannot take the class {change.record.name[:99]!r}")


def agree(old: Floats, new: Floats) -> bool:
    """Whether two graphs say the same of an item in figures of one kind.

    They are judged by the largest: a distance near nought is what is left of squares that are as large as the others.
    """
    return bool(np.allclose(new, old, rtol=0, atol=_CLOSE * max(1.0, float(np.abs(old).max()))))
