"""A model with other classes: its bundle is edited, not exported, so that it is there in a fraction of a second."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from app.models.blobs import CorruptBlobError
from core.bundle import members, write_bundle
from core.contract.base import new_id, now
from core.contract.few_shot import ClassChangeRecord, FewShot
from core.contract.models import Model, ModelManifest
from core.few_shot import graph, tensors
from core.few_shot.heads import Floats, Tensors
from core.store.blobs import disk_error

GRAPH = "model.onnx"
_HEADING = "## Classes changed without training"


@dataclass(frozen=True)
class Change:
    """Another list of classes, and how the head's tensors become those for it."""

    record: ClassChangeRecord
    classes: list[str]
    counts: list[int]
    tensors: Callable[[Tensors], dict[str, Floats]]


def few_shot_of(model: Model) -> FewShot:
    """What makes it a few-shot model; only of one that is."""
    assert model.manifest.few_shot is not None
    return model.manifest.few_shot


def write(model: Model, files: Mapping[str, bytes], change: Change, path: Path) -> tuple[Model, bytes]:
    """Write the revision's bundle to `path`, from the old one's `files`; returns the new model and its graph.

    `CorruptBlobError`, or `InsufficientStorageError`.
    """
    manifest = _manifest(model, change)
    try:
        new = _files(model, files, change, manifest)
    except (KeyError, ValueError, IndexError) as error:
        raise CorruptBlobError(f"Model {model.id}", f"its head cannot be changed ({error})") from error
    try:
        write_bundle(path, new)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        update = {
            "id": manifest.model_id,
            "classes": manifest.classes,
            "publication": None,
            "bytes": path.stat().st_size,
            "sha256": sha256,
            "files": members(path),
            "manifest": manifest,
            "created_at": manifest.created_at,
        }
    except OSError as error:
        raise disk_error(error) from error
    return model.model_copy(update=update), new[GRAPH]


def _manifest(model: Model, change: Change) -> ModelManifest:
    """What was measured stays that of the trained model; `few_shot.changes` says what is different."""
    old, known = model.manifest, few_shot_of(model)
    few_shot = known.model_copy(
        update={
            "counts": change.counts,
            "revision": known.revision + 1,
            "revision_of": model.id,
            "changes": [*known.changes, change.record],
        }
    )
    update = {
        "model_id": new_id("mdl"),
        "classes": change.classes,
        "lineage": [model.id, *old.lineage],
        "few_shot": few_shot,
        "created_at": now(),
    }
    return old.model_copy(update=update)


def _files(model: Model, files: Mapping[str, bytes], change: Change, manifest: ModelManifest) -> dict[str, bytes]:
    """The same members in the same order."""
    data = files["model.safetensors"]
    changed = change.tensors(tensors.picked(data, lambda name: name.startswith(("head.", "few_shot."))))
    in_graph = {name: part for name, part in changed.items() if name.startswith("head.")}
    new = {
        GRAPH: graph.exchanged(files[GRAPH], in_graph, len(change.classes)),
        "model.safetensors": tensors.exchanged(data, changed, {"model_id": manifest.model_id}),
        "manifest.json": manifest.model_dump_json(indent=2).encode(),
        "README.md": card(files["README.md"].decode(), model.id, manifest).encode(),
    }
    return {name: new.get(name, content) for name, content in files.items()}


def card(text: str, old_id: str, manifest: ModelManifest) -> str:
    """The bundle's README for the revision: what was said of the trained model, and at its end what has changed."""
    lines = text.rstrip().replace(f"# {old_id}", f"# {manifest.model_id}", 1).split("\n")
    assert manifest.few_shot is not None
    record = manifest.few_shot.changes[-1]
    if _HEADING not in lines:
        told = "The figures above, the verdict and the list of classes are those of the trained model."
        lines += ["", _HEADING, "", told, ""]
    name = f"`{record.name}`"
    done = f"Added {name} from {record.items} items" if record.change == "added" else f"Took {name} away"
    lines.append(f"- {done}, {record.at:%Y-%m-%d %H:%M} UTC: {len(manifest.classes)} classes; made from `{old_id}`.")
    return "\n".join([*lines, ""])
