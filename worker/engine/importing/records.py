"""What is written of an imported model: manifest and README; and what is read of an uploaded manifest."""

import re
from typing import TYPE_CHECKING, cast

from core.contract.base import now
from core.contract.errors import JobError
from core.contract.models import Imported, ModelManifest, Parity
from core.contract.prepare import ImagePrepare
from worker.engine import devices, model_card
from worker.engine.heads import Normalise
from worker.engine.importing.door import ImportSpec

if TYPE_CHECKING:
    from worker.engine.importing.kinds import Checked

_NAME = re.compile(r"(timm:)?[A-Za-z0-9_.-]{1,120}")
_LONGEST = 500


def root_of(found: ModelManifest) -> str:
    """The base model at the end of a manifest's lineage; `JobError` `invalid_manifest` if it cannot be a name."""
    name = (found.lineage or [found.base_model])[-1]
    if not _NAME.fullmatch(name):
        raise JobError(
            "The bundle's manifest.json names no base model that could be built.",
            code="invalid_manifest",
            param="file",
            hint="Send the zip just as GET /models/{id} gave it.",
        )
    return name


def normalise_of(found: ModelManifest, names: set[str]) -> Normalise:
    """What the bundle's head does to the embedding; `JobError` `invalid_manifest` if nothing tells."""
    said = found.architecture.get("normalise", found.method.get("normalise"))
    if said in ("none", "l2", "standardise", "centred_l2"):
        return cast("Normalise", said)
    if {"head.mean", "head.scale"} <= names:
        return "standardise"
    raise JobError(
        "The bundle does not say how its head normalises the embedding.",
        code="invalid_manifest",
        param="file",
        hint='Add "normalise" (none, l2, standardise or centred_l2) to `architecture` in its manifest.json.',
    )


def manifest(
    checked: "Checked", spec: ImportSpec, claimed: ModelManifest | None, parity: Parity, *, seconds: float
) -> ModelManifest:
    """The manifest of the imported model: nothing that the upload claims stands among our own figures."""
    card, head = checked.card, checked.network.head
    return ModelManifest(
        model_id=spec.model_id,
        job_id=None,
        classes=checked.classes,
        prepare=card.prepare,
        output_names=["probabilities", "logits", "embedding"] if head else ["embedding"],
        temperature=checked.temperature,
        base_model=checked.base_model,
        architecture={
            "builder": card.builder,
            "name": card.architecture,
            "width": card.width,
            "normalise": head.normalise if head else "none",
        },
        lineage=[checked.base_model],
        method={"name": "import"},
        seed=0,
        data=[],
        train_items=0,
        validation_items=0,
        held_out_items=0,
        metrics=[],
        parity=parity,
        versions=devices.versions(),
        hardware=devices.hardware(),
        seconds=seconds,
        licence=claimed.licence[:_LONGEST] if claimed else "not stated; that of the imported weights",
        imported=_origin(spec, claimed, checked.notes),
        created_at=now(),
    )


def _origin(spec: ImportSpec, claimed: ModelManifest | None, notes: list[str]) -> Imported:
    if claimed is None:
        return Imported(name=spec.name, kind="weights", sha256=spec.sha256, notes=notes)
    before = claimed.imported
    return Imported(
        name=spec.name,
        kind="bundle",
        sha256=spec.sha256,
        origin_model_id=claimed.model_id,
        claimed_method=claimed.method,
        claimed_metrics=claimed.metrics or (before.claimed_metrics if before else []),
        claimed_data=claimed.data or (before.claimed_data if before else []),
        claimed_lineage=claimed.lineage,
        notes=notes,
    )


def readme(manifest: ModelManifest) -> str:
    """The model's card in Markdown."""
    origin, parity = manifest.imported, manifest.parity
    assert origin is not None
    count = len(manifest.classes)
    what = f"Tells {count} classes apart." if count else "Makes embeddings; it has no classifier."
    lines = [
        f"# {manifest.model_id}",
        "",
        f"{what} Imported {'from a bundle' if origin.kind == 'bundle' else 'as plain weights'} of the network "
        f"`{manifest.base_model}`.",
        "",
        "How good it is was not measured here.",
        "",
        *(f"- {note}" for note in origin.notes),
        "",
        *(model_card.usage(manifest) if count else _embedding_usage(manifest)),
        "",
        "## Where it came from",
        "",
        f"- Upload with the SHA-256 `{origin.sha256}`.",
        f"- Licence of its weights: {_one_line(manifest.licence)}.",
        *([f"- In the Graft it came from it is `{origin.origin_model_id}`."] if origin.origin_model_id else []),
        *(f"- Claimed there: {one.name} {one.value:.4f} on {one.n} items." for one in origin.claimed_metrics),
        f"- Parity of ONNX and PyTorch: largest difference {parity.max_abs_difference:.1e} on {parity.items} synthetic "
        f"images (at most {parity.tolerance:.0e} is allowed).",
        f"- Imported at {manifest.created_at:%Y-%m-%d %H:%M} UTC.",
        "",
    ]
    return "\n".join(lines)


def _embedding_usage(manifest: ModelManifest) -> list[str]:
    assert isinstance(manifest.prepare, ImagePrepare)
    size, width = manifest.prepare.size, manifest.architecture["width"]
    return [
        "## How to use it",
        "",
        f"`model.onnx` takes `image`, float32 (N, 3, {size}, {size}), and gives `embedding` (N, {width}). "
        "Start a job from the model to get a classifier.",
        "",
        "`model.safetensors` holds the same weights under PyTorch's names (`backbone.*`).",
    ]


def _one_line(text: str) -> str:
    return " ".join(text.split())
